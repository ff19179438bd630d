//! Keys and values of earlier tokens.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};

use crate::ops::LlmOps;
use crate::recorded;

/// A place among the slots of a cache, known to the host and to the device.
///
/// Launches that are recorded and repeated ([`crate::Recorded`]) take the device's.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) host: usize,
    pub(crate) device: Tensor<1, Int>,
}

impl Slot {
    /// The slot `index`.
    pub fn new(index: usize, device: &Device) -> Self {
        Self { host: index, device: Tensor::from_data([index as i32], device) }
    }

    /// Its index.
    pub fn index(&self) -> usize {
        self.host
    }

    /// Makes it the slot `index`, also for what was recorded with it.
    pub fn move_to(&mut self, index: usize) {
        self.host = index;
        recorded::overwrite_ints(&mut self.device, &[index as i32]);
    }
}

/// `keys` and `values` with new ones from slot `first` on.
///
/// `keys`, `values` `[batch, capacity, kv_heads, head_dim]`, the new ones
/// `[batch, added, kv_heads, head_dim]` with `first + added ≤ capacity`. They are written in place
/// where nothing else holds the old tensors.
pub fn cache_write(
    (keys, values): (Tensor<4>, Tensor<4>),
    new_keys: Tensor<4>,
    new_values: Tensor<4>,
    first: &Slot,
) -> (Tensor<4>, Tensor<4>) {
    let (capacity, added, slot) = (keys.dims()[1], new_keys.dims()[1], first.host);
    assert!(slot + added <= capacity, "{added} tokens from slot {slot} on, of {capacity} slots");
    let (keys, values) = Dispatch::cache_write(
        keys.into_dispatch(),
        values.into_dispatch(),
        new_keys.into_dispatch(),
        new_values.into_dispatch(),
        first.device.clone().into_dispatch(),
        slot,
    );
    (Tensor::from_dispatch(keys), Tensor::from_dispatch(values))
}
