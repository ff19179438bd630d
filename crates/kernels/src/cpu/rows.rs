//! Operations that work row by row: normalisation and rotation.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::simd::{dispatch, dot, sum_squares};
use super::{floats, tensor};
use crate::primitive::dims;

/// Rows handed to a thread at a time.
const ROWS: usize = 32;

pub(super) fn rms_norm(x: &FlexTensor, gamma: &FlexTensor, eps: f32) -> FlexTensor {
    let [n, hidden] = dims::<2>(x);
    let gamma = floats(gamma);
    let mut out = vec![0.0; n * hidden];
    let chunk = ROWS * hidden;
    out.par_chunks_mut(chunk).zip(floats(x).par_chunks(chunk)).for_each(|(out, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
                    let inv = (sum_squares(x) / hidden as f32 + eps).sqrt().recip();
                    for ((out, &x), &gamma) in out.iter_mut().zip(x).zip(gamma) {
                        *out = x * inv * gamma;
                    }
                }
            },
        );
    });
    tensor(out, [n, hidden])
}

pub(super) fn rms_norm_backward(
    grad: &FlexTensor,
    x: &FlexTensor,
    gamma: &FlexTensor,
    eps: f32,
) -> (FlexTensor, FlexTensor) {
    let [n, hidden] = dims::<2>(x);
    let gamma = floats(gamma);
    let mut d_x = vec![0.0; n * hidden];
    let chunk = ROWS * hidden;
    let inputs = floats(grad).par_chunks(chunk).zip(floats(x).par_chunks(chunk));
    // Partial sums are collected in order, so the result does not depend on the threads.
    let parts: Vec<Vec<f32>> = d_x
        .par_chunks_mut(chunk)
        .zip(inputs)
        .map(|(d_x, (grad, x))| {
            let mut d_gamma = vec![0.0; hidden];
            dispatch(
                #[inline(always)]
                || norm_rows_backward(d_x, &mut d_gamma, grad, x, gamma, eps),
            );
            d_gamma
        })
        .collect();
    let mut d_gamma = vec![0.0; hidden];
    for part in &parts {
        for (sum, &value) in d_gamma.iter_mut().zip(part) {
            *sum += value;
        }
    }
    (tensor(d_x, [n, hidden]), tensor(d_gamma, [hidden]))
}

#[inline(always)]
fn norm_rows_backward(
    d_x: &mut [f32],
    d_gamma: &mut [f32],
    grad: &[f32],
    x: &[f32],
    gamma: &[f32],
    eps: f32,
) {
    let hidden = gamma.len();
    let rows = grad.chunks_exact(hidden).zip(x.chunks_exact(hidden));
    for (d_x, (grad, x)) in d_x.chunks_exact_mut(hidden).zip(rows) {
        let inv = (sum_squares(x) / hidden as f32 + eps).sqrt().recip();
        for ((d_x, &grad), &gamma) in d_x.iter_mut().zip(grad).zip(gamma) {
            *d_x = grad * gamma;
        }
        let along = dot(d_x, x) * inv * inv / hidden as f32;
        for ((d_gamma, &grad), &x) in d_gamma.iter_mut().zip(grad).zip(x) {
            *d_gamma += grad * x * inv;
        }
        for (d_x, &x) in d_x.iter_mut().zip(x) {
            *d_x = (*d_x - x * along) * inv;
        }
    }
}

pub(super) fn rope(x: &FlexTensor, cos: &FlexTensor, sin: &FlexTensor) -> FlexTensor {
    let [batch, seq, heads, head_dim] = dims::<4>(x);
    let [tables, _, _, half] = dims::<4>(cos);
    let (cos, sin) = (floats(cos), floats(sin));
    let width = heads * head_dim;
    let mut out = vec![0.0; batch * seq * width];
    let tokens = out.par_chunks_mut(ROWS * width).zip(floats(x).par_chunks(ROWS * width));
    tokens.enumerate().for_each(|(chunk, (out, x))| {
        dispatch(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for (i, (out, x)) in rows.enumerate() {
                    let token = chunk * ROWS + i;
                    let row = if tables == 1 { token % seq } else { token };
                    let angles = row * half..(row + 1) * half;
                    rotate(out, x, head_dim, &cos[angles.clone()], &sin[angles]);
                }
            },
        );
    });
    tensor(out, [batch, seq, heads, head_dim])
}

/// Rotates all heads of one token.
#[inline(always)]
fn rotate(out: &mut [f32], x: &[f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
        let (out, out_rest) = out.split_at_mut(2 * half);
        let (x, rest) = x.split_at(2 * half);
        out_rest.copy_from_slice(rest);
        let ((out_low, out_high), (low, high)) = (out.split_at_mut(half), x.split_at(half));
        for i in 0..half {
            out_low[i] = low[i] * cos[i] - high[i] * sin[i];
            out_high[i] = high[i] * cos[i] + low[i] * sin[i];
        }
    }
}
