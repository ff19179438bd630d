//! New keys and values into a cache.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Slice;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{addresses, element, empty};

#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, I: Int>(
    new_keys: &Tensor<E>,
    new_values: &Tensor<E>,
    keys: &mut Tensor<E>,
    values: &mut Tensor<E>,
    slot: &Tensor<I>,
    #[define(E, I)] _formats: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at >= new_keys.len() {
        terminate!();
    }
    let width = new_keys.shape(2) * new_keys.shape(3);
    let (added, capacity) = (new_keys.shape(1), keys.shape(1));
    let first = usize::cast_from(slot[0]);
    let (token, column) = (at / width, at % width);
    let row = (token / added) * capacity + first + token % added;
    keys[row * width + column] = new_keys[at];
    values[row * width + column] = new_values[at];
}

/// Writes `[batch, added, kv_heads, head_dim]` from the slot that `slot [1]` tells on into
/// `[batch, capacity, ..]`: in place where nothing else holds the cache.
pub(super) fn write(
    keys: CubeTensor,
    values: CubeTensor,
    new_keys: CubeTensor,
    new_values: CubeTensor,
    slot: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let own = |x: CubeTensor| match x.is_contiguous() {
        true if x.can_mut() => x,
        // Others hold it, and `into_contiguous` would give the same memory back.
        true => CubeBackend::float_slice_assign(
            empty(&x, x.shape().dims::<4>(), x.dtype),
            &[Slice::full(); 4],
            x,
        ),
        false => into_contiguous(x),
    };
    let (keys, values) = (own(keys), own(values));
    let (new_keys, new_values) = (into_contiguous(new_keys), into_contiguous(new_values));
    let n = new_keys.shape().num_elements();
    let cube_dim = CubeDim::new(&keys.client, n);
    let formats = [element(keys.dtype), element(slot.dtype)];
    // SAFETY: a unit past the last new element ends at once; the caller leaves room for the new
    // tokens behind the slot, and rows of cache and new tensors are equally wide.
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
            slot.into_tensor_arg(),
            formats,
        );
    }
    (keys, values)
}

/// Puts `bytes` where `x` holds its elements, whoever else holds them.
pub(super) fn overwrite(x: CubeTensor, bytes: Vec<u8>) -> CubeTensor {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let rank = shape.len();
    let row = shape[rank - 1] * x.dtype.size();
    let pitch = if rank > 1 { strides[rank - 2] * x.dtype.size() } else { row };
    let bytes = match pitch == row || x.is_contiguous() {
        true => bytes,
        // Rows lie apart: what is between them is written too, and nobody reads it.
        false => {
            let mut apart = Vec::with_capacity(bytes.len() / row * pitch);
            for row in bytes.chunks_exact(row) {
                let start = apart.len();
                apart.extend_from_slice(row);
                apart.resize(start + pitch, 0);
            }
            apart
        }
    };
    x.client.write(&x.handle, cubecl::bytes::Bytes::from_bytes_vec(bytes));
    x
}
