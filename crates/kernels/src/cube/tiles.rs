//! Products of few rows on matrix units: tiles of 16 x 16, the sum over the width dealt to the
//! planes of a cube.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma;
use cubecl::ir::features::MmaConfig;
use cubecl::prelude::*;

use super::{addresses, element, empty};
use crate::linear::FEW_ROWS;

/// Rows, columns and depth of a tile.
const TILE: usize = 16;
/// Planes of a cube.
const PLANES: usize = 8;
/// Fewer rows than this leave most of a tile empty.
const LEAST_ROWS: usize = 5;
/// Columns of a result from which a cube takes two tiles of them.
const WIDE: usize = 4096;

/// What is fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Tiles of rows, all of which a cube takes.
    rows: usize,
    /// Tiles of columns that a cube takes.
    columns: usize,
    /// Tiles in depth that a plane takes at a time.
    depth: usize,
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float>(
    x: &Tensor<E>,
    w: &Tensor<E>,
    out: &mut Tensor<E>,
    #[comptime] plan: Plan,
    #[define(E)] _format: ElemType,
) {
    let (d_in, d_out, rows) = (x.shape(1), w.shape(0), out.shape(0));
    let plane = UNIT_POS_Y as usize;
    let first_column = CUBE_POS_X as usize * comptime!(TILE * plan.columns);
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(plan.rows * plan.columns) {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            TILE,
            TILE,
            TILE,
            cmma::MatrixLayout::Undefined,
            0.0,
        ));
    }
    let mut at = plane * comptime!(TILE * plan.depth);
    while at < d_in {
        #[unroll]
        for step in 0..plan.depth {
            let here = at + step * TILE;
            let mut weights = Sequence::<cmma::Matrix<E>>::new();
            #[unroll]
            for column in 0..plan.columns {
                let start = (first_column + column * TILE) * d_in + here;
                weights.push(cmma::Matrix::<E>::from_slice(
                    cmma::MatrixIdent::B,
                    TILE,
                    TILE,
                    TILE,
                    cmma::MatrixLayout::ColMajor,
                    &w[start..w.len()],
                    d_in as u32,
                ));
            }
            #[unroll]
            for row in 0..plan.rows {
                let start = row * TILE * d_in + here;
                let values = cmma::Matrix::<E>::from_slice(
                    cmma::MatrixIdent::A,
                    TILE,
                    TILE,
                    TILE,
                    cmma::MatrixLayout::RowMajor,
                    &x[start..x.len()],
                    d_in as u32,
                );
                #[unroll]
                for column in 0..plan.columns {
                    let sum = &sums[row * plan.columns + column];
                    cmma::execute(&values, &weights[column], sum, sum);
                }
            }
        }
        at += comptime!(TILE * plan.depth * PLANES);
    }
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(PLANES * TILE * TILE));
    let unit = UNIT_POS as usize;
    #[unroll]
    for row in 0..plan.rows {
        #[unroll]
        for column in 0..plan.columns {
            let part = plane * comptime!(TILE * TILE);
            cmma::store(
                &mut scratch[part..part + comptime!(TILE * TILE)],
                &sums[row * plan.columns + column],
                TILE as u32,
                cmma::MatrixLayout::RowMajor,
            );
            sync_cube();
            let mut sum = f32::new(0.0);
            #[unroll]
            for part in 0..PLANES {
                sum += scratch[part * comptime!(TILE * TILE) + unit];
            }
            let line = row * TILE + unit / TILE;
            if line < rows {
                out[line * d_out + first_column + column * TILE + unit % TILE] = E::cast_from(sum);
            }
            sync_cube();
        }
    }
}

/// Whether the device has the tiles and the sizes are made of them.
pub(super) fn fits(x: &CubeTensor, w: &CubeTensor) -> bool {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), w.shape().dims());
    let half = matches!(x.dtype, DType::F16 | DType::BF16) && x.dtype == w.dtype;
    let whole = d_in.is_multiple_of(TILE) && d_out.is_multiple_of(TILE) && w.is_contiguous();
    if !half || !whole || !(LEAST_ROWS..=FEW_ROWS).contains(&rows) {
        return false;
    }
    let properties = x.client.properties();
    let tile = MmaConfig {
        a_type: element(x.dtype),
        b_type: element(x.dtype),
        cd_type: element(DType::F32),
        m: TILE as u32,
        n: TILE as u32,
        k: TILE as u32,
    };
    properties.features.matmul.cmma.contains(&tile) && properties.hardware.plane_size_max == 32
}

/// `x [n, d_in] · wᵀ` for `w [d_out, d_in]`.
pub(super) fn project(x: CubeTensor, w: CubeTensor) -> CubeTensor {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), w.shape().dims());
    let x = with_whole_tiles(into_contiguous(x));
    let wide = d_out >= WIDE && d_out.is_multiple_of(2 * TILE);
    let plan = Plan {
        rows: rows.div_ceil(TILE),
        columns: if wide { 2 } else { 1 },
        depth: if d_in.is_multiple_of(2 * TILE) { 2 } else { 1 },
    };
    let out = empty(&x, [rows, d_out]);
    let format = element(x.dtype);
    // SAFETY: rows and columns of `x` and `w` come in whole tiles, and of the result only rows
    // that it has are written.
    unsafe {
        kernel::launch_unchecked(
            &out.client,
            CubeCount::new_1d((d_out / (TILE * plan.columns)) as u32),
            CubeDim::new_2d(32, PLANES as u32),
            addresses(&[&x, &w, &out]),
            x.into_tensor_arg(),
            w.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            plan,
            format,
        );
    }
    out
}

/// `x` with rows of zeros behind it up to whole tiles.
fn with_whole_tiles(x: CubeTensor) -> CubeTensor {
    let [rows, d_in] = x.shape().dims();
    if rows.is_multiple_of(TILE) {
        return x;
    }
    let shape = Shape::from([rows.next_multiple_of(TILE), d_in]);
    let zeros = CubeBackend::float_zeros(shape, &x.device, FloatDType::from(x.dtype));
    CubeBackend::float_slice_assign(zeros, &[Slice::from(0..rows), Slice::full()], x)
}
