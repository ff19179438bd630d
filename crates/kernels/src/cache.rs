//! Keys and values of earlier tokens.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::ops::LlmOps;

/// `keys` and `values` with new ones from slot `first` on.
///
/// `keys`, `values` `[batch, capacity, kv_heads, head_dim]`, the new ones
/// `[batch, added, kv_heads, head_dim]` with `first + added ≤ capacity`. They are written in place
/// where nothing else holds the old tensors.
pub fn cache_write(
    (keys, values): (Tensor<4>, Tensor<4>),
    new_keys: Tensor<4>,
    new_values: Tensor<4>,
    first: usize,
) -> (Tensor<4>, Tensor<4>) {
    let (capacity, added) = (keys.dims()[1], new_keys.dims()[1]);
    assert!(first + added <= capacity, "{added} tokens from slot {first} on, of {capacity} slots");
    let (keys, values) = Dispatch::cache_write(
        keys.into_dispatch(),
        values.into_dispatch(),
        new_keys.into_dispatch(),
        new_values.into_dispatch(),
        first,
    );
    (Tensor::from_dispatch(keys), Tensor::from_dispatch(values))
}
