//! RMSNorm, a cube for each row.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::cube_sum;
use super::{addresses, element, empty};

/// Units that share a row.
const UNITS: u32 = 256;

#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, G: Float>(
    x: &Tensor<E>,
    gamma: &Tensor<G>,
    out: &mut Tensor<E>,
    eps: f32,
    #[comptime] units: usize,
    #[define(E, G)] _formats: [ElemType; 2],
) {
    let hidden = x.shape(1);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS * hidden;
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let mut squares = f32::new(0.0);
    let mut at = unit;
    while at < hidden {
        let value = f32::cast_from(x[row + at]);
        squares += value * value;
        at += units;
    }
    let squares = cube_sum(squares, &mut scratch, units);
    let inverse = f32::new(1.0) / (squares / f32::cast_from(hidden) + eps).sqrt();
    let mut at = unit;
    while at < hidden {
        let normed = f32::cast_from(x[row + at]) * inverse;
        out[row + at] = E::cast_from(normed * f32::cast_from(gamma[at]));
        at += units;
    }
}

/// `x [n, hidden]`, `gamma [hidden]`.
pub(super) fn forward(x: CubeTensor, gamma: CubeTensor, eps: f32) -> CubeTensor {
    let (x, gamma) = (into_contiguous(x), into_contiguous(gamma));
    let [n, hidden] = x.shape().dims();
    let out = empty(&x, [n, hidden]);
    let formats = [element(x.dtype), element(gamma.dtype)];
    // SAFETY: row and column stay below `x`'s sizes, which `out` shares, and `gamma`'s length is
    // the number of columns.
    unsafe {
        kernel::launch_unchecked(
            &out.client,
            CubeCount::new_1d(n as u32),
            CubeDim::new_1d(UNITS),
            addresses(&[&x, &gamma, &out]),
            x.into_tensor_arg(),
            gamma.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            eps,
            UNITS as usize,
            formats,
        );
    }
    out
}
