//! Products of few rows on matrix units, in tiles of 16 x 16.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::cmma;
use cubecl::ir::features::MmaConfig;
use cubecl::prelude::*;

use super::{addresses, element, empty, vector_size};
use crate::linear::FEW_ROWS;

/// Rows, columns and depth of a tile.
const TILE: usize = 16;
/// Tiles of columns that a cube takes.
const COLUMNS: usize = 4;
/// Planes that share a tile of columns, each with its side of a part's depth.
const SIDES: usize = 2;
/// Units of a cube.
const UNITS: usize = 32 * COLUMNS * SIDES;
/// Elements of a load.
const VECTOR: usize = 8;
/// Loads that a row of a part takes.
const LINE: usize = 16;
/// Places of a row of a part in shared memory: one more, so that rows lie in different banks.
const PITCH: usize = LINE + 1;
/// Tiles in depth that a plane takes of each part.
const DEPTH: usize = LINE * VECTOR / TILE / SIDES;
/// Shared memory of a cube, at most: two parts of halves and the planes' sums.
const SHARED_BYTES: usize =
    (FEW_ROWS + COLUMNS * TILE) * PITCH * VECTOR * 2 + UNITS / 32 * TILE * TILE * 4;
/// Fewer rows than this leave most of a tile empty.
const LEAST_ROWS: usize = 5;

/// The loads of this unit for the part of `from` that begins at load `start` of each row; zeros
/// where there is nothing, and past `end`.
#[cube]
fn fetch<E: Float, N: Size>(
    from: &Tensor<Vector<E, N>>,
    first_row: usize,
    rows: usize,
    start: usize,
    end: usize,
    row_pitch: usize,
    #[comptime] tiles: usize,
) -> Array<Vector<E, N>> {
    let unit = UNIT_POS as usize;
    let loads = comptime!(tiles * TILE * LINE / UNITS);
    let mut loaded = Array::<Vector<E, N>>::new(loads);
    #[unroll]
    for at in 0..loads {
        let place = at * UNITS + unit;
        let (row, column) = (first_row + place / LINE, start + place % LINE);
        let inside = row < rows && column < end;
        let here = min(row, rows - 1) * row_pitch + min(column, end - 1);
        loaded[at] = select(inside, from[here], Vector::<E, N>::new(E::new(0.0)));
    }
    loaded
}

/// Puts what [`fetch`] loaded into shared memory.
#[cube]
fn keep<E: Float, N: Size>(
    loaded: &Array<Vector<E, N>>,
    part: &mut Shared<[Vector<E, N>]>,
    #[comptime] tiles: usize,
) {
    #[unroll]
    for at in 0..comptime!(tiles * TILE * LINE / UNITS) {
        let place = at * UNITS + UNIT_POS as usize;
        part[place / LINE * PITCH + place % LINE] = loaded[at];
    }
}

/// A cube takes all rows, some columns and a share of the depth, and goes through it in parts;
/// while it computes one, the next is on its way.
#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, O: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    w: &Tensor<Vector<E, N>>,
    out: &mut Tensor<O>,
    width: usize,
    w_line: usize,
    share: usize,
    #[comptime] tiles: usize,
    #[define(E, O)] _formats: [ElemType; 2],
) {
    let (rows, d_out) = (out.shape(1), out.shape(2));
    let (x_places, w_places) = comptime!((tiles * TILE * PITCH, COLUMNS * TILE * PITCH));
    let first_column = CUBE_POS_X as usize * comptime!(TILE * COLUMNS);
    let mut start = CUBE_POS_Y as usize * share;
    let end = min(start + share, width);
    let mut x_part = Shared::<[Vector<E, N>]>::new_aligned_slice(x_places, 32usize);
    let mut w_part = Shared::<[Vector<E, N>]>::new_aligned_slice(w_places, 32usize);
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..tiles {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            TILE,
            TILE,
            TILE,
            cmma::MatrixLayout::Undefined,
            0.0,
        ));
    }
    let mut x_next = fetch(x, 0usize, rows, start, end, width, tiles);
    let mut w_next = fetch(w, first_column, d_out, start, end, w_line, COLUMNS);
    while start < end {
        keep(&x_next, &mut x_part, tiles);
        keep(&w_next, &mut w_part, COLUMNS);
        sync_cube();
        start += LINE;
        x_next = fetch(x, 0usize, rows, start, end, width, tiles);
        w_next = fetch(w, first_column, d_out, start, end, w_line, COLUMNS);
        multiply(&mut sums, &x_part, &w_part, tiles);
        sync_cube();
    }
    write(&sums, out, first_column, tiles);
}

/// Multiplies what is in shared memory: each plane its tile of columns and its part of the depth.
#[cube]
fn multiply<E: Float, N: Size>(
    sums: &mut Sequence<cmma::Matrix<f32>>,
    x_part: &Shared<[Vector<E, N>]>,
    w_part: &Shared<[Vector<E, N>]>,
    #[comptime] tiles: usize,
) {
    let (x_places, w_places) = comptime!((tiles * TILE * PITCH, COLUMNS * TILE * PITCH));
    let stride = comptime!((PITCH * VECTOR) as u32);
    let plane = UNIT_POS_Y as usize;
    let (column, side) = (plane % COLUMNS, plane / COLUMNS);
    #[unroll]
    for step in 0..DEPTH {
        let here = (side * DEPTH + step) * comptime!(TILE / VECTOR);
        let from = column * comptime!(TILE * PITCH) + here;
        let weights = cmma::Matrix::<Vector<E, N>>::from_slice(
            cmma::MatrixIdent::B,
            TILE,
            TILE,
            TILE,
            cmma::MatrixLayout::ColMajor,
            &w_part[from..w_places],
            stride,
        );
        #[unroll]
        for row in 0..tiles {
            let from = row * comptime!(TILE * PITCH) + here;
            let values = cmma::Matrix::<Vector<E, N>>::from_slice(
                cmma::MatrixIdent::A,
                TILE,
                TILE,
                TILE,
                cmma::MatrixLayout::RowMajor,
                &x_part[from..x_places],
                stride,
            );
            cmma::execute(&values, &weights, &sums[row], &sums[row]);
        }
    }
}

/// Adds the sums of the planes that share a column and writes them.
#[cube]
fn write<O: Float>(
    sums: &Sequence<cmma::Matrix<f32>>,
    out: &mut Tensor<O>,
    first_column: usize,
    #[comptime] tiles: usize,
) {
    let (rows, d_out) = (out.shape(1), out.shape(2));
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(UNITS / 32 * TILE * TILE));
    let unit = UNIT_POS as usize;
    let tile = comptime!(TILE * TILE);
    #[unroll]
    for row in 0..tiles {
        let part = UNIT_POS_Y as usize * tile;
        cmma::store(
            &mut scratch[part..part + tile],
            &sums[row],
            TILE as u32,
            cmma::MatrixLayout::RowMajor,
        );
        sync_cube();
        let line = row * TILE + unit / TILE;
        #[unroll]
        for column in 0..COLUMNS {
            let mut sum = f32::new(0.0);
            #[unroll]
            for side in 0..SIDES {
                sum += scratch[(side * COLUMNS + column) * tile + unit];
            }
            let place = first_column + column * TILE + unit % TILE;
            if line < rows && place < d_out {
                out[(CUBE_POS_Y as usize * rows + line) * d_out + place] = O::cast_from(sum);
            }
        }
        sync_cube();
    }
}

/// Adds the sums of the shares of the depth.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_shares<E: Float>(shares: &Tensor<f32>, out: &mut Tensor<E>, #[define(E)] _format: ElemType) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let mut sum = f32::new(0.0);
    for share in 0..shares.shape(0) {
        sum += shares[share * out.len() + at];
    }
    out[at] = E::cast_from(sum);
}

/// Whether the device has the tiles and the sizes are made of them.
pub(super) fn fits(x: &CubeTensor, w: &CubeTensor) -> bool {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), w.shape().dims());
    let half = matches!(x.dtype, DType::F16 | DType::BF16) && x.dtype == w.dtype;
    let strides = w.meta.strides();
    let lines = strides[1] == 1 && strides[0].is_multiple_of(VECTOR);
    let whole = d_in.is_multiple_of(VECTOR) && d_out >= TILE && lines;
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
    let hardware = &properties.hardware;
    let planes = hardware.plane_size_min == 32 && hardware.plane_size_max == 32;
    let room = hardware.max_shared_memory_size >= SHARED_BYTES;
    let loads = vector_size(x, d_in) >= VECTOR;
    properties.features.matmul.cmma.contains(&tile) && planes && room && loads
}

/// `x [n, d_in] · wᵀ` for `w [d_out, d_in]`.
///
/// Where the columns alone do not fill the device, its depth is dealt to several cubes, whose sums
/// a second launch adds.
pub(super) fn project(x: CubeTensor, w: CubeTensor) -> CubeTensor {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), w.shape().dims());
    let x = into_contiguous(x);
    let (width, groups) = (d_in / VECTOR, d_out.div_ceil(TILE * COLUMNS));
    let units = x.client.properties().hardware.num_streaming_multiprocessors.unwrap_or(1) as usize;
    let shares = (units / groups).clamp(1, width.div_ceil(LINE));
    let share = width.div_ceil(shares).next_multiple_of(LINE);
    let shares = width.div_ceil(share);
    let format = if shares == 1 { x.dtype } else { DType::F32 };
    let w_line = w.meta.strides()[0];
    let sums = empty(&x, [shares, rows, d_out], format);
    let out = (shares > 1).then(|| empty(&x, [rows, d_out], x.dtype));
    let formats = [element(x.dtype), element(format)];
    // SAFETY: what is read of `x` and `w` is clamped to their sizes, and of the result only rows
    // and columns that it has are written.
    unsafe {
        kernel::launch_unchecked(
            &sums.client,
            CubeCount::new_2d(groups as u32, shares as u32),
            CubeDim::new_2d(32, (COLUMNS * SIDES) as u32),
            addresses(&[&x, &w, &sums]),
            VECTOR,
            x.into_tensor_arg(),
            w.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            width,
            w_line / VECTOR,
            share,
            rows.div_ceil(TILE),
            formats,
        );
    }
    match out {
        None => burn_cubecl::ops::reshape(sums, Shape::from([rows, d_out])),
        Some(out) => added(sums, out),
    }
}

/// `out [n, d_out]` with the sum over the first dimension of `shares [.., n, d_out]`.
fn added(shares: CubeTensor, out: CubeTensor) -> CubeTensor {
    let n = out.shape().num_elements();
    let cube_dim = CubeDim::new(&out.client, n);
    let format = element(out.dtype);
    // SAFETY: a unit past the last element ends at once, and each share has as many elements as
    // the result.
    unsafe {
        add_shares::launch_unchecked(
            &out.client,
            calculate_cube_count_elemwise(&out.client, n, cube_dim),
            cube_dim,
            addresses(&[&shares, &out]),
            shares.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            format,
        );
    }
    out
}
