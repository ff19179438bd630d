//! `x · wᵀ` for few rows of `x`, as a generation asks for it: the weight is read once, row by row,
//! and nothing is packed.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::simd::dispatch;
use super::{floats, tensor};
use crate::primitive::dims;

/// Rows of `x` up to which this is faster than a packing product.
const MOST_ROWS: usize = 32;
/// Rows of `w` that a thread works on at a time.
const BLOCK: usize = 96;
const LANES: usize = 16;
/// Rows of `w` in a tile.
const TALL: usize = 6;

/// Whether `x [n, d_in]` has few rows and `w [d_out, d_in]` is dense row by row.
pub(super) fn suits(x: &FlexTensor, w: &FlexTensor) -> bool {
    let ([n, _], [_, d_in]) = (dims::<2>(x), dims::<2>(w));
    n <= MOST_ROWS && *w.layout().strides() == [d_in as isize, 1]
}

pub(super) fn project(x: &FlexTensor, w: &FlexTensor) -> FlexTensor {
    let ([n, d_in], [d_out, _]) = (dims::<2>(x), dims::<2>(w));
    let start = w.layout().start_offset();
    let (x, w) = (floats(x), &w.storage::<f32>()[start..start + d_out * d_in]);
    let mut turned = vec![0.0; n * d_out]; // [d_out, n]
    turned.par_chunks_mut(BLOCK * n).zip(w.par_chunks(BLOCK * d_in)).for_each(|(out, w)| {
        dispatch(
            #[inline(always)]
            || rows(out, x, w, d_in),
        );
    });
    if n == 1 {
        return tensor(turned, [1, d_out]);
    }
    let mut out = vec![0.0; n * d_out];
    for (row, out) in out.chunks_exact_mut(d_out).enumerate() {
        for (out, column) in out.iter_mut().zip(turned.chunks_exact(n)) {
            *out = column[row];
        }
    }
    tensor(out, [n, d_out])
}

/// Products of all rows of `x` with each row of `w`: `out [rows of w, rows of x]`.
///
/// Tiles of four rows of `x` by six of `w`: their sums fill most of 32 registers, and each number
/// that is read takes part in four products or six.
#[inline(always)]
fn rows(out: &mut [f32], x: &[f32], w: &[f32], d_in: usize) {
    let n = x.len() / d_in;
    let (tall, rest) = w.split_at(w.len() / (TALL * d_in) * (TALL * d_in));
    let (out_tall, out_rest) = out.split_at_mut(tall.len() / d_in * n);
    for (out, w) in out_tall.chunks_exact_mut(TALL * n).zip(tall.chunks_exact(TALL * d_in)) {
        strip::<TALL>(out, x, w, d_in);
    }
    for (out, w) in out_rest.chunks_exact_mut(n).zip(rest.chunks_exact(d_in)) {
        strip::<1>(out, x, w, d_in);
    }
}

/// Products of all rows of `x` with `W` rows of `w`.
#[inline(always)]
fn strip<const W: usize>(out: &mut [f32], x: &[f32], w: &[f32], d_in: usize) {
    let n = x.len() / d_in;
    let mut at = 0;
    while at + 4 <= n {
        tile::<4, W>(out, at, &x[at * d_in..(at + 4) * d_in], w, d_in);
        at += 4;
    }
    while at < n {
        tile::<1, W>(out, at, &x[at * d_in..(at + 1) * d_in], w, d_in);
        at += 1;
    }
}

/// Products of `X` rows, from `at` on, with `W` rows, each summed in sixteen lanes.
#[inline(always)]
fn tile<const X: usize, const W: usize>(
    out: &mut [f32],
    at: usize,
    x: &[f32],
    w: &[f32],
    d_in: usize,
) {
    let n = out.len() / W;
    let x: [&[f32]; X] = core::array::from_fn(|row| &x[row * d_in..(row + 1) * d_in]);
    let w: [&[f32]; W] = core::array::from_fn(|row| &w[row * d_in..(row + 1) * d_in]);
    let mut sums = [[[0.0f32; LANES]; X]; W];
    let whole = d_in / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let part = |row: &[f32]| -> [f32; LANES] {
            core::array::from_fn(|lane| row[start..start + LANES][lane])
        };
        let x: [[f32; LANES]; X] = core::array::from_fn(|row| part(x[row]));
        for (w, sums) in w.iter().zip(&mut sums) {
            let w = part(w);
            for (x, sums) in x.iter().zip(sums) {
                for lane in 0..LANES {
                    sums[lane] = x[lane].mul_add(w[lane], sums[lane]);
                }
            }
        }
    }
    for (j, (w, sums)) in w.iter().zip(sums).enumerate() {
        for (i, (x, lanes)) in x.iter().zip(sums).enumerate() {
            let tail: f32 = x[whole..].iter().zip(&w[whole..]).map(|(x, w)| x * w).sum();
            out[j * n + at + i] = lanes.into_iter().sum::<f32>() + tail;
        }
    }
}
