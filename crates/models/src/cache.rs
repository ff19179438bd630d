//! Keys and values of the tokens a generation has seen.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// One layer's keys and values, `[batch, slots, kv_heads, head_dim]` each.
///
/// The newest token stands last; slots in front of the oldest are free.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    held: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Adds the new tokens' keys and values and returns those of all `slots`.
    pub(crate) fn extend(
        &mut self,
        k: Tensor<4>,
        v: Tensor<4>,
        slots: usize,
    ) -> (Tensor<4>, Tensor<4>) {
        let (old_k, old_v) = match self.held.take() {
            Some((k, v)) => (Some(k), Some(v)),
            None => (None, None),
        };
        let (k, v) = (append(old_k, k, slots), append(old_v, v, slots));
        self.held = Some((k.clone(), v.clone()));
        (k, v)
    }
}

/// `new` behind `old`, with free slots in front dropped or added until there are `slots`.
fn append(old: Option<Tensor<4>>, new: Tensor<4>, slots: usize) -> Tensor<4> {
    let [batch, added, heads, head_dim] = new.dims();
    let held = old.as_ref().map_or(0, |old| old.dims()[1]);
    let kept = held.min(slots - added);
    let mut parts = Vec::new();
    if kept + added < slots {
        let shape = [batch, slots - added - kept, heads, head_dim];
        parts.push(Tensor::zeros(shape, (&new.device(), new.dtype())));
    }
    parts.extend(old.map(|old| if kept < held { old.narrow(1, held - kept, kept) } else { old }));
    parts.push(new);
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
}

/// The caches of all layers and the number of tokens they hold.
///
/// The number of slots is a multiple of a given number, so that a device which compiles a kernel
/// for each shape sees few of them.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) seen: usize,
    multiple: usize,
}

impl Cache {
    /// An empty cache for `n_layers` layers whose slots come in multiples of `multiple`.
    pub fn new(n_layers: usize, multiple: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layers], seen: 0, multiple: multiple.max(1) }
    }

    /// Tokens held.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Free places to put before `added` new tokens when there are none yet.
    pub(crate) fn padding_before(&self, added: usize) -> usize {
        if self.seen == 0 { self.slots_with(added) - added } else { 0 }
    }

    /// Slots once `added` tokens have come.
    pub(crate) fn slots_with(&self, added: usize) -> usize {
        (self.seen + added).next_multiple_of(self.multiple)
    }

    /// Segments of the slots once `added` tokens have come: 0 for free ones. `[batch, slots]`.
    pub(crate) fn segments_with(
        &self,
        added: usize,
        batch: usize,
        device: &Device,
    ) -> Tensor<2, Int> {
        let (slots, tokens) = (self.slots_with(added), self.seen + added);
        let row = (0..slots).map(|slot| i32::from(slot >= slots - tokens));
        let all: Vec<i32> = (0..batch).flat_map(|_| row.clone()).collect();
        Tensor::from_data(TensorData::new(all, [batch, slots]), device)
    }
}
