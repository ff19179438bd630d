//! The projected cross-entropy over the rows that count.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, Threads, gemm};
use super::simd::{dispatch, exp_minus, max, tanh};
use super::{floats, tensor};
use crate::linear_cross_entropy::{CrossEntropy, chunks};
use crate::primitive::dims;

/// The rows with a mask other than zero, gathered.
pub(super) struct Rows {
    n: usize,
    width: usize,
    rule: CrossEntropy,
    active: Vec<usize>,
    hidden: Vec<f32>,
    targets: Vec<usize>,
    mask: Vec<f32>,
}

impl Rows {
    pub(super) fn new(
        hidden: &FlexTensor,
        targets: &[i64],
        mask: &FlexTensor,
        rule: CrossEntropy,
    ) -> Self {
        let [n, width] = dims::<2>(hidden);
        let (hidden, mask) = (hidden.to_contiguous(), mask.to_contiguous());
        let (hidden, mask) = (floats(&hidden), floats(&mask));
        let active: Vec<usize> = (0..mask.len()).filter(|&row| mask[row] != 0.0).collect();
        let gathered = active.iter().flat_map(|&row| &hidden[row * width..(row + 1) * width]);
        Self {
            n,
            width,
            rule,
            hidden: gathered.copied().collect(),
            targets: active.iter().map(|&row| targets[row] as usize).collect(),
            mask: active.iter().map(|&row| mask[row]).collect(),
            active,
        }
    }
}

pub(super) fn loss(rows: &Rows, weight: &FlexTensor) -> FlexTensor {
    let [vocab, width] = dims::<2>(weight);
    let weight = weight.to_contiguous();
    let weight = Matrix::dense(floats(&weight), [vocab, width]);
    let mut buffer = Vec::new();
    let total = chunks(rows.active.len(), vocab)
        .map(|range| chunk(rows, weight, vocab, range, &mut buffer))
        .sum::<f64>();
    tensor(vec![total as f32], [1])
}

pub(super) fn gradient(
    rows: &Rows,
    weight: &FlexTensor,
    train_weight: bool,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let ([vocab, _], n, width) = (dims::<2>(weight), rows.n, rows.width);
    let weight = weight.to_contiguous();
    let weight = Matrix::dense(floats(&weight), [vocab, width]);
    let shape = if train_weight { [vocab, width] } else { [1, 1] };
    let mut d_weight = vec![0.0; shape[0] * shape[1]];
    let mut d_active = vec![0.0; rows.active.len() * width];
    let mut buffer = Vec::new();
    let mut total = 0.0;
    for range in chunks(rows.active.len(), vocab) {
        total += chunk(rows, weight, vocab, range.clone(), &mut buffer);
        let logits = Matrix::dense(&buffer, [range.len(), vocab]);
        let span = range.start * width..range.end * width;
        gemm(&mut d_active[span.clone()], false, logits, weight, 1.0, Threads::All);
        if train_weight {
            let part = Matrix::dense(&rows.hidden[span], [range.len(), width]);
            gemm(&mut d_weight, true, logits.t(), part, 1.0, Threads::All);
        }
    }
    let mut d_hidden = vec![0.0; n * width];
    for (&row, part) in rows.active.iter().zip(d_active.chunks_exact(width)) {
        d_hidden[row * width..(row + 1) * width].copy_from_slice(part);
    }
    (tensor(vec![total as f32], [1]), tensor(d_hidden, [n, width]), tensor(d_weight, shape))
}

/// Leaves `mask · (softmax − onehot)` of the chunk's rows in `buffer` and returns their loss.
fn chunk(
    rows: &Rows,
    weight: Matrix<'_>,
    vocab: usize,
    range: core::ops::Range<usize>,
    buffer: &mut Vec<f32>,
) -> f64 {
    buffer.resize(range.len() * vocab, 0.0);
    let hidden = &rows.hidden[range.start * rows.width..range.end * rows.width];
    let hidden = Matrix::dense(hidden, [range.len(), rows.width]);
    gemm(buffer, false, hidden, weight.t(), 1.0, Threads::All);
    let labels = rows.targets[range.clone()].par_iter().zip(&rows.mask[range]);
    let losses: Vec<f64> = buffer
        .par_chunks_mut(vocab)
        .zip(labels)
        .map(|(logits, (&target, &mask))| {
            dispatch(
                #[inline(always)]
                || match rows.rule.softcap {
                    Some(cap) => capped_row_loss(logits, target, mask, rows.rule, cap as f32),
                    None => row_loss(logits, target, mask, rows.rule),
                },
            )
        })
        .collect();
    losses.into_iter().sum()
}

/// [`row_loss`] of `cap · tanh(logit / cap)`, its gradient times the slope of the cap.
#[inline(always)]
fn capped_row_loss(
    logits: &mut [f32],
    target: usize,
    mask: f32,
    rule: CrossEntropy,
    cap: f32,
) -> f64 {
    let inverse = cap.recip();
    let mut slopes = vec![0.0; logits.len()];
    for (logit, slope) in logits.iter_mut().zip(&mut slopes) {
        let bent = tanh(*logit * inverse);
        *logit = cap * bent;
        *slope = 1.0 - bent * bent;
    }
    let loss = row_loss(logits, target, mask, rule);
    for (grad, slope) in logits.iter_mut().zip(&slopes) {
        *grad *= slope;
    }
    loss
}

/// The loss of a row by `rule` times `mask`; leaves the gradient to the logits in their place.
#[inline(always)]
fn row_loss(logits: &mut [f32], target: usize, mask: f32, rule: CrossEntropy) -> f64 {
    let CrossEntropy { label_smoothing, z_loss, .. } = rule;
    let chosen = f64::from(logits[target]);
    let mean = match label_smoothing > 0.0 {
        true => logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64,
        false => 0.0,
    };
    let largest = max(logits);
    let sum = exp_minus(logits, largest);
    let lse = f64::from(largest) + f64::from(sum).ln();
    let factor = mask / sum * (1.0 + 2.0 * z_loss * lse) as f32;
    let even = mask * label_smoothing as f32 / logits.len() as f32;
    for p in logits.iter_mut() {
        *p = *p * factor - even;
    }
    logits[target] -= mask * (1.0 - label_smoothing) as f32;
    let expected = (1.0 - label_smoothing) * chosen + label_smoothing * mean;
    f64::from(mask) * (lse - expected + z_loss * lse * lse)
}
