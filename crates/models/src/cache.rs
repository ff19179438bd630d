//! Keys and values of the tokens a generation has seen.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_kernels::{self as kernels, Slot};

/// One layer's keys and values, `[batch, capacity, kv_heads, head_dim]` each, made at the first
/// token in the type of the computation.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    held: Option<(Tensor<4>, Tensor<4>)>,
}

/// Where the tokens of one forward pass go.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The slot of the first.
    pub first: Slot,
    /// Slots that attention is given, those of the new tokens among them.
    pub slots: usize,
    capacity: usize,
}

/// How many slots one forward pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Slots of each row.
    pub seq: usize,
    /// The first of them.
    pub first: usize,
    /// Slots that attention is given.
    pub slots: usize,
    capacity: usize,
}

impl Room {
    pub(crate) fn span(self, device: &Device) -> Span {
        let Self { first, slots, capacity, .. } = self;
        Span { first: Slot::new(first, device), slots, capacity }
    }
}

impl LayerCache {
    /// Writes the new tokens' keys and values and returns those of the slots looked at.
    pub(crate) fn extend(
        &mut self,
        k: Tensor<4>,
        v: Tensor<4>,
        span: &Span,
    ) -> (Tensor<4>, Tensor<4>) {
        let (old_k, old_v) = match self.held.take() {
            Some((k, v)) => (Some(k), Some(v)),
            None => (None, None),
        };
        let room = (with_room(old_k, &k, span.capacity), with_room(old_v, &v, span.capacity));
        // Nothing else holds the old tensors, so that they are written in place.
        let (k, v) = kernels::cache_write(room, k, v, &span.first);
        self.held = Some((k.clone(), v.clone()));
        let seen = |x: Tensor<4>| {
            if span.slots == span.capacity { x } else { x.narrow(1, 0, span.slots) }
        };
        (seen(k), seen(v))
    }

    fn select(&self, rows: &Tensor<1, Int>) -> Self {
        let rows = |x: &Tensor<4>| x.clone().select(0, rows.clone());
        Self { held: self.held.as_ref().map(|(k, v)| (rows(k), rows(v))) }
    }
}

/// `old` with `capacity` slots, in the form of `new`.
fn with_room(old: Option<Tensor<4>>, new: &Tensor<4>, capacity: usize) -> Tensor<4> {
    let [batch, _, heads, head_dim] = new.dims();
    let held = old.as_ref().map_or(0, |old| old.dims()[1]);
    let room = (held < capacity).then(|| {
        let shape = [batch, capacity - held, heads, head_dim];
        Tensor::zeros(shape, (&new.device(), new.dtype()))
    });
    match (old, room) {
        (Some(old), None) => old,
        (None, Some(room)) => room,
        (old, room) => Tensor::cat(old.into_iter().chain(room).collect(), 1),
    }
}

/// The caches of all layers and what each row holds.
///
/// Rows end together: those that began with fewer tokens begin at a later slot. Lengths can be
/// rounded up to multiples, and then attention is always given all the slots, so that a device
/// which compiles a kernel for each shape sees few of them.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// The first slot of each row.
    starts: Vec<usize>,
    /// Segments of the slots, as far as they were asked for.
    segments: Option<Tensor<2, Int>>,
    filled: usize,
    capacity: usize,
    multiple: usize,
}

impl Cache {
    /// An empty cache for `n_layers` layers and `batch` rows, with room for `capacity` tokens
    /// before it must grow; lengths are rounded up to multiples of `multiple`.
    pub fn new(n_layers: usize, batch: usize, capacity: usize, multiple: usize) -> Self {
        let multiple = multiple.max(1);
        Self {
            layers: vec![LayerCache::default(); n_layers],
            starts: vec![0; batch],
            segments: None,
            filled: 0,
            capacity: capacity.next_multiple_of(multiple),
            multiple,
        }
    }

    /// Tokens held of each row.
    pub fn seen(&self) -> Vec<usize> {
        self.starts.iter().map(|start| self.filled - start).collect()
    }

    /// A cache of these rows of it, in this order and as often as they are named.
    #[must_use]
    pub fn select(&self, rows: &[usize], device: &Device) -> Self {
        let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let indices = Tensor::from_data(TensorData::new(indices, [rows.len()]), device);
        Self {
            layers: self.layers.iter().map(|layer| layer.select(&indices)).collect(),
            starts: rows.iter().map(|&row| self.starts[row]).collect(),
            segments: None,
            ..*self
        }
    }

    /// Whether it holds no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether `seq` tokens more need a larger cache.
    pub(crate) fn would_grow(&self, seq: usize) -> bool {
        self.slots_with(seq) > self.capacity
    }

    /// Slots that hold what is there and `seq` tokens more.
    fn slots_with(&self, seq: usize) -> usize {
        (self.filled + seq).next_multiple_of(self.multiple)
    }

    /// Makes room for rows of `added` tokens and returns their places.
    ///
    /// The rows that start a cache are padded in front to one length, a multiple.
    pub(crate) fn admit(&mut self, added: &[usize]) -> Room {
        let longest = added.iter().copied().max().unwrap_or(0);
        let seq = match self.is_empty() {
            true => longest.next_multiple_of(self.multiple),
            false => longest,
        };
        if self.is_empty() {
            self.starts = added.iter().map(|added| seq - added).collect();
            self.segments = None;
        }
        let (first, slots) = (self.filled, self.slots_with(seq));
        self.filled += seq;
        if slots > self.capacity {
            self.capacity = slots.max(2 * self.capacity);
        }
        let slots = if self.multiple == 1 { slots } else { self.capacity };
        Room { seq, first, slots, capacity: self.capacity }
    }

    /// Segments of `slots` slots, `[batch, slots]`: 0 for those before a row's first token. Free
    /// slots lie behind every query, where none looks.
    pub(crate) fn segments(&mut self, slots: usize, device: &Device) -> Tensor<2, Int> {
        self.segments.take_if(|it| it.dims()[1] != slots);
        let make = || {
            let starts = self.starts.iter();
            let rows = starts.flat_map(|&start| (0..slots).map(move |it| i32::from(it >= start)));
            let shape = [self.starts.len(), slots];
            Tensor::from_data(TensorData::new(rows.collect::<Vec<i32>>(), shape), device)
        };
        self.segments.get_or_insert_with(make).clone()
    }
}
