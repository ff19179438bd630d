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

/// How two values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fold {
    Sum,
    Max,
    Min,
}

/// The units' values folded into one, for all of them; `scratch` has a place for each unit, whose
/// number is a power of two.
#[cube]
pub(super) fn fold<T: Numeric>(
    value: T,
    scratch: &mut Shared<[T]>,
    #[comptime] units: usize,
    #[comptime] how: Fold,
) -> T {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = (units / 2).runtime();
    while width > 0 {
        if unit < width {
            let (here, other) = (scratch[unit], scratch[unit + width]);
            scratch[unit] = match comptime!(how) {
                Fold::Sum => here + other,
                Fold::Max => max(here, other),
                Fold::Min => min(here, other),
            };
        }
        sync_cube();
        width /= 2;
    }
    let folded = scratch[0];
    sync_cube();
    folded
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
    let largest = fold(best, &mut scratch, units, Fold::Max);
    // Of equal elements the first; none equals the largest where some are not numbers.
    let place = select(best == largest, u32::cast_from(place), u32::MAX);
    let first = fold(place, &mut places, units, Fold::Min);
    if unit == 0 {
        let last = u32::cast_from(width * N::value() - 1);
        out[CUBE_POS] = I::cast_from(min(first, last));
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
