//! New keys and values into a cache.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{addresses, element};

#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float>(
    new_keys: &Tensor<E>,
    new_values: &Tensor<E>,
    keys: &mut Tensor<E>,
    values: &mut Tensor<E>,
    first: usize,
    #[define(E)] _format: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at >= new_keys.len() {
        terminate!();
    }
    let width = new_keys.shape(2) * new_keys.shape(3);
    let (added, capacity) = (new_keys.shape(1), keys.shape(1));
    let (token, column) = (at / width, at % width);
    let slot = (token / added) * capacity + first + token % added;
    keys[slot * width + column] = new_keys[at];
    values[slot * width + column] = new_values[at];
}

/// Writes `[batch, added, kv_heads, head_dim]` at slot `first` of `[batch, capacity, ..]`: in
/// place where nothing else holds the cache.
pub(super) fn write(
    keys: CubeTensor,
    values: CubeTensor,
    new_keys: CubeTensor,
    new_values: CubeTensor,
    first: usize,
) -> (CubeTensor, CubeTensor) {
    let own = |x: CubeTensor| match x.can_mut() && x.is_contiguous() {
        true => x,
        false => into_contiguous(x).copy(),
    };
    let (keys, values) = (own(keys), own(values));
    let (new_keys, new_values) = (into_contiguous(new_keys), into_contiguous(new_values));
    let n = new_keys.shape().num_elements();
    let cube_dim = CubeDim::new(&keys.client, n);
    let format = element(keys.dtype);
    // SAFETY: a unit past the last new element ends at once; the caller leaves room for the new
    // tokens behind `first`, and rows of cache and new tensors are equally wide.
    unsafe {
        kernel::launch_unchecked(
            &keys.client,
            calculate_cube_count_elemwise(&keys.client, n, cube_dim),
            cube_dim,
            addresses(&[&keys, &values]),
            new_keys.into_tensor_arg(),
            new_values.into_tensor_arg(),
            keys.clone().into_tensor_arg(),
            values.clone().into_tensor_arg(),
            first,
            format,
        );
    }
    (keys, values)
}
