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
const BLOCK: usize = 64;
const LANES: usize = 16;

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
#[inline(always)]
fn rows(out: &mut [f32], x: &[f32], w: &[f32], d_in: usize) {
    let n = x.len() / d_in;
    for (out, w) in out.chunks_exact_mut(n).zip(w.chunks_exact(d_in)) {
        let mut at = 0;
        while at + 4 <= n {
            let x = &x[at * d_in..(at + 4) * d_in];
            out[at..at + 4].copy_from_slice(&dots::<4>(x, w));
            at += 4;
        }
        while at < n {
            let [dot] = dots::<1>(&x[at * d_in..(at + 1) * d_in], w);
            out[at] = dot;
            at += 1;
        }
    }
}

/// The products of `N` rows of `x` with `w`, each in sixteen lanes.
#[inline(always)]
fn dots<const N: usize>(x: &[f32], w: &[f32]) -> [f32; N] {
    let d_in = w.len();
    let mut lanes = [[0.0f32; LANES]; N];
    let whole = d_in / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let w = &w[at..at + LANES];
        for (row, lanes) in lanes.iter_mut().enumerate() {
            let x = &x[row * d_in + at..row * d_in + at + LANES];
            for lane in 0..LANES {
                lanes[lane] += x[lane] * w[lane];
            }
        }
    }
    let mut sums = [0.0; N];
    for (row, (sum, lanes)) in sums.iter_mut().zip(lanes).enumerate() {
        *sum = lanes.into_iter().sum();
        for at in whole..d_in {
            *sum += x[row * d_in + at] * w[at];
        }
    }
    sums
}
