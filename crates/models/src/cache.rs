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

/// The caches of all layers and the number of tokens each row holds.
///
/// Rows end together: those with fewer tokens have more free slots in front. The number of slots
/// is a multiple of a given number, so that a device which compiles a kernel for each shape sees
/// few of them.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    seen: Vec<usize>,
    multiple: usize,
}

impl Cache {
    /// An empty cache for `n_layers` layers and `batch` rows whose slots come in multiples of
    /// `multiple`.
    pub fn new(n_layers: usize, batch: usize, multiple: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); n_layers],
            seen: vec![0; batch],
            multiple: multiple.max(1),
        }
    }

    /// Tokens held of each row.
    pub fn seen(&self) -> &[usize] {
        &self.seen
    }

    /// Slots once `added` more tokens of each row have come.
    pub(crate) fn slots_with(&self, added: &[usize]) -> usize {
        let tokens = self.seen.iter().zip(added).map(|(seen, added)| seen + added);
        tokens.max().unwrap_or(0).next_multiple_of(self.multiple)
    }

    /// Counts the tokens that have come.
    pub(crate) fn advance(&mut self, added: &[usize]) {
        for (seen, added) in self.seen.iter_mut().zip(added) {
            *seen += added;
        }
    }

    /// Segments of the slots once `added` tokens have come: 0 for free ones. `[batch, slots]`.
    pub(crate) fn segments_with(&self, added: &[usize], device: &Device) -> Tensor<2, Int> {
        let slots = self.slots_with(added);
        let rows = self.seen.iter().zip(added).flat_map(|(seen, added)| {
            let tokens = seen + added;
            (0..slots).map(move |slot| i32::from(slot >= slots - tokens))
        });
        let shape = [self.seen.len(), slots];
        Tensor::from_data(TensorData::new(rows.collect::<Vec<i32>>(), shape), device)
    }
}
