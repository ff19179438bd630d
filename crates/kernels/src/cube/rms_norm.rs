//! RMSNorm, a cube for each row.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::{Fold, fold};
use super::{addresses, cubes, element, empty, vector_size};

/// Units that share a row.
const UNITS: u32 = 256;

#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, G: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    gamma: &Tensor<Vector<G, N>>,
    out: &mut Tensor<Vector<E, N>>,
    width: usize,
    eps: f32,
    #[comptime] units: usize,
    #[define(E, G)] _formats: [ElemType; 2],
) {
    let hidden = width * N::value();
    let unit = UNIT_POS as usize;
    if CUBE_POS >= x.shape(0) {
        terminate!();
    }
    let row = CUBE_POS * width;
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let mut squares = f32::new(0.0);
    let mut at = unit;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[row + at]);
        squares += (value * value).vector_sum();
        at += units;
    }
    let squares = fold(squares, &mut scratch, units, Fold::Sum);
    let inverse = f32::new(1.0) / (squares / f32::cast_from(hidden) + eps).sqrt();
    let mut at = unit;
    while at < width {
        let normed = Vector::<f32, N>::cast_from(x[row + at]) * Vector::new(inverse);
        out[row + at] = Vector::cast_from(normed * Vector::cast_from(gamma[at]));
        at += units;
    }
}

/// `x [n, hidden]`, `gamma [hidden]`.
pub(super) fn forward(x: CubeTensor, gamma: CubeTensor, eps: f32) -> CubeTensor {
    let (x, gamma) = (into_contiguous(x), into_contiguous(gamma));
    let [n, hidden] = x.shape().dims();
    let out = empty(&x, [n, hidden], x.dtype);
    let vector = vector_size(&x, hidden).min(vector_size(&gamma, hidden));
    let formats = [element(x.dtype), element(gamma.dtype)];
    // SAFETY: row and column stay below `x`'s sizes, which `out` shares, and `gamma`'s length is
    // the number of columns.
    unsafe {
        kernel::launch_unchecked(
            &out.client,
            cubes(n),
            CubeDim::new_1d(UNITS),
            addresses(&[&x, &gamma, &out]),
            vector,
            x.into_tensor_arg(),
            gamma.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            hidden / vector,
            eps,
            UNITS as usize,
            formats,
        );
    }
    out
}
