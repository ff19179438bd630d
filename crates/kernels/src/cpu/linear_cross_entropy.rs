//! The projected cross-entropy over the rows that count.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, Threads, gemm};
use super::simd::{dispatch, exp_minus, max};
use super::{floats, tensor};
use crate::linear_cross_entropy::chunks;
use crate::primitive::dims;

/// The rows with a mask other than zero, gathered.
struct Active {
    rows: Vec<usize>,
    hidden: Vec<f32>,
    targets: Vec<usize>,
    mask: Vec<f32>,
}

impl Active {
    fn new(hidden: &FlexTensor, targets: &[i64], mask: &FlexTensor) -> Self {
        let [_, width] = dims::<2>(hidden);
        let (hidden, mask) = (hidden.to_contiguous(), mask.to_contiguous());
        let (hidden, mask) = (floats(&hidden), floats(&mask));
        let rows: Vec<usize> = (0..mask.len()).filter(|&row| mask[row] != 0.0).collect();
        let gathered = rows.iter().flat_map(|&row| &hidden[row * width..(row + 1) * width]);
        Self {
            hidden: gathered.copied().collect(),
            targets: rows.iter().map(|&row| targets[row] as usize).collect(),
            mask: rows.iter().map(|&row| mask[row]).collect(),
            rows,
        }
    }
}

pub(super) fn loss(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &[i64],
    mask: &FlexTensor,
) -> FlexTensor {
    let ([vocab, width], active) = (dims::<2>(weight), Active::new(hidden, targets, mask));
    let weight = weight.to_contiguous();
    let weight = Matrix::dense(floats(&weight), [vocab, width]);
    let mut buffer = Vec::new();
    let total = chunks(active.rows.len(), vocab)
        .map(|rows| chunk(&active, weight, [vocab, width], rows, &mut buffer))
        .sum::<f64>();
    tensor(vec![total as f32], [1])
}

pub(super) fn gradient(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &[i64],
    mask: &FlexTensor,
    train_weight: bool,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let ([n, width], [vocab, _]) = (dims::<2>(hidden), dims::<2>(weight));
    let active = Active::new(hidden, targets, mask);
    let weight = weight.to_contiguous();
    let weight = Matrix::dense(floats(&weight), [vocab, width]);
    let shape = if train_weight { [vocab, width] } else { [1, 1] };
    let mut d_weight = vec![0.0; shape[0] * shape[1]];
    let mut d_active = vec![0.0; active.rows.len() * width];
    let mut buffer = Vec::new();
    let mut total = 0.0;
    for rows in chunks(active.rows.len(), vocab) {
        total += chunk(&active, weight, [vocab, width], rows.clone(), &mut buffer);
        let logits = Matrix::dense(&buffer, [rows.len(), vocab]);
        let span = rows.start * width..rows.end * width;
        gemm(&mut d_active[span.clone()], false, logits, weight, 1.0, Threads::All);
        if train_weight {
            let part = Matrix::dense(&active.hidden[span], [rows.len(), width]);
            gemm(&mut d_weight, true, logits.t(), part, 1.0, Threads::All);
        }
    }
    let mut d_hidden = vec![0.0; n * width];
    for (&row, part) in active.rows.iter().zip(d_active.chunks_exact(width)) {
        d_hidden[row * width..(row + 1) * width].copy_from_slice(part);
    }
    (tensor(vec![total as f32], [1]), tensor(d_hidden, [n, width]), tensor(d_weight, shape))
}

/// Leaves `mask · (softmax − onehot)` of the chunk's rows in `buffer` and returns their loss.
fn chunk(
    active: &Active,
    weight: Matrix<'_>,
    [vocab, width]: [usize; 2],
    rows: core::ops::Range<usize>,
    buffer: &mut Vec<f32>,
) -> f64 {
    buffer.resize(rows.len() * vocab, 0.0);
    let hidden = &active.hidden[rows.start * width..rows.end * width];
    let hidden = Matrix::dense(hidden, [rows.len(), width]);
    gemm(buffer, false, hidden, weight.t(), 1.0, Threads::All);
    let labels = active.targets[rows.clone()].par_iter().zip(&active.mask[rows]);
    let losses: Vec<f64> = buffer
        .par_chunks_mut(vocab)
        .zip(labels)
        .map(|(logits, (&target, &mask))| {
            dispatch(
                #[inline(always)]
                || row_loss(logits, target, mask),
            )
        })
        .collect();
    losses.into_iter().sum()
}

#[inline(always)]
fn row_loss(logits: &mut [f32], target: usize, mask: f32) -> f64 {
    let chosen = logits[target];
    let largest = max(logits);
    let sum = exp_minus(logits, largest);
    let factor = mask / sum;
    for p in logits.iter_mut() {
        *p *= factor;
    }
    logits[target] -= mask;
    f64::from(mask) * (f64::from(largest) + f64::from(sum).ln() - f64::from(chosen))
}
