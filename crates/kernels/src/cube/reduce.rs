//! Reductions over the units of a cube, and the largest element of each row.

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{addresses, element, empty, vector_size};

/// Units that share a row.
const UNITS: u32 = 256;

/// The sum of every unit's `value`, for all of them; `scratch` has a place for each unit, whose
/// number is a power of two.
#[cube]
pub(super) fn cube_sum(value: f32, scratch: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = (units / 2).runtime();
    while width > 0 {
        if unit < width {
            let other = scratch[unit + width];
            scratch[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    let total = scratch[0];
    sync_cube();
    total
}

/// The largest of the units' values, for all of them, as [`cube_sum`].
#[cube]
pub(super) fn cube_max(value: f32, scratch: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = (units / 2).runtime();
    while width > 0 {
        if unit < width {
            let other = scratch[unit + width];
            scratch[unit] = max(scratch[unit], other);
        }
        sync_cube();
        width /= 2;
    }
    let largest = scratch[0];
    sync_cube();
    largest
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn argmax_kernel<E: Float, I: Int, N: Size>(
    x: &Tensor<Vector<E, N>>,
    out: &mut Tensor<I>,
    width: usize,
    #[comptime] units: usize,
    #[define(E, I)] _formats: [ElemType; 2],
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS * width;
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let mut places = Shared::<[u32]>::new_slice(units);
    let mut at = unit;
    let mut best = f32::min_value();
    let mut place = width * N::value() - 1;
    while at < width {
        let values = Vector::<f32, N>::cast_from(x[row + at]);
        #[unroll]
        for lane in 0..N::value() {
            let value = values.extract(lane);
            if value > best {
                best = value;
                place = at * N::value() + lane;
            }
        }
        at += units;
    }
    let largest = cube_max(best, &mut scratch, units);
    // Of equal elements the first.
    places[unit] = select(best == largest, u32::cast_from(place), u32::MAX);
    sync_cube();
    let mut step = (units / 2).runtime();
    while step > 0 {
        if unit < step {
            let other = places[unit + step];
            places[unit] = min(places[unit], other);
        }
        sync_cube();
        step /= 2;
    }
    if unit == 0 {
        // No element equals the largest where some are not numbers.
        let last = u32::cast_from(width * N::value() - 1);
        out[CUBE_POS] = I::cast_from(min(places[0], last));
    }
}

/// The place of the largest element of each row of `x [n, width]`: `[n, 1]`.
pub(super) fn argmax(x: CubeTensor) -> CubeTensor {
    let x = into_contiguous(x);
    let [n, width] = x.shape().dims();
    let vector = vector_size(&x, width);
    let out = empty(&x, [n, 1], DType::I32);
    let formats = [element(x.dtype), element(out.dtype)];
    // SAFETY: rows and columns read are those of `x`, and `out` has an element for each row.
    unsafe {
        argmax_kernel::launch_unchecked(
            &out.client,
            CubeCount::new_1d(n as u32),
            CubeDim::new_1d(UNITS),
            addresses(&[&x]),
            vector,
            x.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            width / vector,
            UNITS as usize,
            formats,
        );
    }
    out
}
