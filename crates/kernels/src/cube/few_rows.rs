//! Products of few rows with a weight: each plane reads its rows of the weight once.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::features::Plane;
use cubecl::prelude::*;

use super::{addresses, cubes, element, empty, gcd, vector_size};

/// Planes of a cube.
const PLANES: u32 = 4;

/// `out[row, column] = x[row] · w[column]`: the lanes of a plane share the elements of a row, the
/// sum over the lanes is the plane's.
#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    w: &Tensor<Vector<E, N>>,
    out: &mut Tensor<E>,
    width: usize,
    w_line: usize,
    #[comptime] tile: usize,
    #[comptime] columns: usize,
    #[define(E)] _format: ElemType,
) {
    let (rows, d_out) = (out.shape(0), out.shape(1));
    let row_tiles = rows.div_ceil(tile);
    let first_row = CUBE_POS % row_tiles * tile;
    let group = CUBE_POS / row_tiles * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let first_column = group * columns;
    if first_column >= d_out {
        terminate!();
    }
    let mut sums = Array::<f32>::new(tile * columns);
    #[unroll]
    for at in 0..tile * columns {
        sums[at] = f32::new(0.0);
    }
    let mut at = UNIT_POS_X as usize;
    while at < width {
        let mut weights = Array::<Vector<f32, N>>::new(columns);
        #[unroll]
        for column in 0..columns {
            // A column past the last is computed and thrown away.
            let line = min(first_column + column, d_out - 1);
            weights[column] = Vector::cast_from(w[line * w_line + at]);
        }
        #[unroll]
        for row in 0..tile {
            let line = min(first_row + row, rows - 1);
            let values = Vector::<f32, N>::cast_from(x[line * width + at]);
            #[unroll]
            for column in 0..columns {
                #[unroll]
                for lane in 0..N::value() {
                    sums[row * columns + column] +=
                        values.extract(lane) * weights[column].extract(lane);
                }
            }
        }
        at += CUBE_DIM_X as usize;
    }
    #[unroll]
    for row in 0..tile {
        #[unroll]
        for column in 0..columns {
            let sum = plane_sum(sums[row * columns + column]);
            let (line, place) = (first_row + row, first_column + column);
            if UNIT_POS_X == 0 && line < rows && place < d_out {
                out[line * d_out + place] = E::cast_from(sum);
            }
        }
    }
}

/// `x [n, d_in] · wᵀ` for `w [d_out, d_in]`.
pub(super) fn project(x: CubeTensor, w: CubeTensor) -> CubeTensor {
    let hardware = &x.client.properties().hardware;
    let lanes = hardware.plane_size_max;
    let steady = lanes == hardware.plane_size_min && lanes > 1;
    let planes = x.client.properties().features.plane.contains(Plane::Ops) && steady;
    if !planes || x.dtype != w.dtype || w.meta.strides()[1] != 1 {
        return CubeBackend::float_matmul(x, CubeBackend::float_transpose(w));
    }
    let x = into_contiguous(x);
    let [rows, d_in] = x.shape().dims();
    let [d_out, _] = w.shape().dims();
    let out = empty(&x, [rows, d_out], x.dtype);
    // CUDA leaves gaps between rows of odd lengths.
    let w_line = w.meta.strides()[0];
    let vector = vector_size(&x, gcd(d_in, w_line));
    let tile = rows.next_power_of_two().min(16);
    let columns = if tile < 4 { 2 } else { 4 };
    let groups = d_out.div_ceil(columns * PLANES as usize);
    let format = element(x.dtype);
    // SAFETY: rows and columns read are clamped to the tensors' sizes, and only those inside are
    // written; `width` is the vectors of a row of `x` and of `w`, whose rows are `w_line` vectors
    // apart.
    unsafe {
        kernel::launch_unchecked(
            &out.client,
            cubes(rows.div_ceil(tile) * groups),
            CubeDim::new_2d(lanes, PLANES),
            addresses(&[&x, &w, &out]),
            vector,
            x.into_tensor_arg(),
            w.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            d_in / vector,
            w_line / vector,
            tile,
            columns,
            format,
        );
    }
    out
}
