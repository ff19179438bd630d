//! Attention, one task for each sequence and key head, a block of queries at a time.

mod decode;

use core::ops::Range;
use std::collections::HashMap;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, Threads, gemm};
use super::simd::{dispatch, dot, exp, exp_minus, max, tanh};
use super::{floats, tensor};
use crate::attention::{AttentionRule, HIDDEN_SCORE, Sizes};

/// Query rows whose scores exist at a time in one task.
const BLOCK: usize = 64;

/// What the backward pass needs of the forward pass.
pub(super) struct Saved<'a> {
    pub q: &'a FlexTensor,
    pub k: &'a FlexTensor,
    pub v: &'a FlexTensor,
    pub out: &'a FlexTensor,
    pub lse: &'a FlexTensor,
}

/// Queries of one head and the keys that one of them may see.
struct Block {
    group: usize,
    rows: Range<usize>,
    keys: Range<usize>,
}

/// One sequence and one key head.
struct Task<'a> {
    sizes: Sizes,
    batch: usize,
    kv_head: usize,
    places: &'a Places<'a>,
    rule: AttentionRule,
}

/// The segment of every key, `[batch, keys]`, and where each key's segment begins in its row.
struct Places<'a> {
    segments: &'a [i64],
    begins: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(segments: &'a [i64], keys: usize) -> Self {
        let mut begins = Vec::with_capacity(segments.len());
        for row in segments.chunks(keys.max(1)) {
            let mut first = HashMap::new();
            begins.extend(
                row.iter().zip(0..).map(|(segment, at)| *first.entry(segment).or_insert(at)),
            );
        }
        Self { segments, begins }
    }
}

impl Task<'_> {
    /// Rows `rows` of head `head` of a `[batch, seq, heads, head_dim]` slice.
    fn queries<'x>(&self, x: &'x [f32], group: usize, rows: &Range<usize>) -> Matrix<'x> {
        let Sizes { seq, heads, head_dim, .. } = self.sizes;
        let head = self.kv_head * self.sizes.group() + group;
        let start = ((self.batch * seq + rows.start) * heads + head) * head_dim;
        Matrix::new(&x[start..], [rows.len(), head_dim], [heads * head_dim, 1])
    }

    /// Keys or values `range` of a `[batch, keys, kv_heads, head_dim]` slice.
    fn keys<'x>(&self, x: &'x [f32], range: &Range<usize>) -> Matrix<'x> {
        let Sizes { keys, kv_heads, head_dim, .. } = self.sizes;
        let start = ((self.batch * keys + range.start) * kv_heads + self.kv_head) * head_dim;
        Matrix::new(&x[start..], [range.len(), head_dim], [kv_heads * head_dim, 1])
    }

    /// Blocks of queries with all keys that one of them may see.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        let Sizes { seq, keys, offset, .. } = self.sizes;
        let rule = self.rule;
        let begins = &self.places.begins[self.batch * keys..][..keys];
        (0..self.sizes.group()).flat_map(move |group| {
            (0..seq).step_by(BLOCK).map(move |start| {
                let end = (start + BLOCK).min(seq);
                // Where texts share a row, what lies before the first one of these is never seen.
                let text = begins[offset + start..offset + end].iter().min().copied();
                let first = rule.first_key(offset + start).max(text.unwrap_or(0));
                Block { group, rows: start..end, keys: first..offset + end }
            })
        })
    }

    /// Scores of a block with hidden keys at [`HIDDEN_SCORE`].
    fn scores(&self, scores: &mut [f32], q: Matrix<'_>, k: Matrix<'_>, block: &Block) {
        gemm(scores, false, q, k.t(), self.rule.scale, Threads::One);
        if let Some(cap) = self.rule.softcap {
            dispatch(
                #[inline(always)]
                || scores.iter_mut().for_each(|score| *score = cap * tanh(*score / cap)),
            );
        }
        let offset = self.sizes.offset;
        let segments = &self.places.segments[self.batch * self.sizes.keys..][..self.sizes.keys];
        for (row, scores) in block.rows.clone().zip(scores.chunks_exact_mut(block.keys.len())) {
            let position = row + offset;
            let first = self.rule.first_key(position).max(block.keys.start);
            let last = position - block.keys.start;
            scores[..first - block.keys.start].fill(HIDDEN_SCORE);
            scores[last + 1..].fill(HIDDEN_SCORE);
            let own = segments[position];
            for (score, &segment) in scores[..last].iter_mut().zip(&segments[block.keys.clone()]) {
                if segment != own {
                    *score = HIDDEN_SCORE;
                }
            }
        }
    }
}

fn tasks(sizes: Sizes) -> usize {
    sizes.batch * sizes.kv_heads
}

fn task<'a>(sizes: Sizes, index: usize, places: &'a Places<'a>, rule: AttentionRule) -> Task<'a> {
    let (batch, kv_head) = (index / sizes.kv_heads, index % sizes.kv_heads);
    Task { sizes, batch, kv_head, places, rule }
}

/// `[batch · outer, rows, d]` written by task order into `[batch, rows, outer, d]`.
fn interleave(parts: &[f32], [batch, outer, rows, d]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0.0; parts.len()];
    out.par_chunks_mut(outer * d).enumerate().for_each(|(token, out)| {
        let (b, row) = (token / rows, token % rows);
        for (o, out) in out.chunks_exact_mut(d).enumerate() {
            let start = ((b * outer + o) * rows + row) * d;
            out.copy_from_slice(&parts[start..start + d]);
        }
    });
    debug_assert_eq!(out.len(), batch * outer * rows * d);
    out
}

pub(super) fn forward(
    q: &FlexTensor,
    k: &FlexTensor,
    v: &FlexTensor,
    segments: &[i64],
    rule: AttentionRule,
) -> (FlexTensor, FlexTensor) {
    let sizes = Sizes::of(q, k, rule);
    if sizes.seq == 1 {
        return decode::forward(q, k, v, segments, sizes, rule);
    }
    let Sizes { batch, seq, heads, head_dim, .. } = sizes;
    let (q, k, v) = (q.to_contiguous(), k.to_contiguous(), v.to_contiguous());
    let (q, k, v) = (floats(&q), floats(&k), floats(&v));
    let mut parts = vec![0.0; tasks(sizes) * sizes.group() * seq * head_dim];
    let mut lse = vec![0.0; batch * heads * seq];
    let per_task = sizes.group() * seq;
    let places = Places::new(segments, sizes.keys);
    let outputs =
        parts.par_chunks_mut(per_task * head_dim).zip(lse.par_chunks_mut(per_task)).enumerate();
    outputs.for_each(|(index, (part, lse))| {
        let task = task(sizes, index, &places, rule);
        let mut buffer = vec![0.0; BLOCK.min(seq) * sizes.keys];
        for block in task.blocks() {
            let Block { group, rows, keys } = &block;
            let scores = &mut buffer[..rows.len() * keys.len()];
            task.scores(scores, task.queries(q, *group, rows), task.keys(k, keys), &block);
            let first = group * seq + rows.start;
            dispatch(
                #[inline(always)]
                || soften(scores, &mut lse[first..first + rows.len()], keys.len()),
            );
            let p = Matrix::dense(scores, [rows.len(), keys.len()]);
            let out = &mut part[first * head_dim..(first + rows.len()) * head_dim];
            gemm(out, false, p, task.keys(v, keys), 1.0, Threads::One);
        }
    });
    let out = interleave(&parts, [batch, heads, seq, head_dim]);
    (tensor(out, [batch, seq, heads, head_dim]), tensor(lse, [batch, heads, seq, 1]))
}

/// Scores to probabilities, row by row, with the log-sum-exp of each row.
#[inline(always)]
fn soften(scores: &mut [f32], lse: &mut [f32], visible: usize) {
    for (row, lse) in scores.chunks_exact_mut(visible).zip(lse) {
        let largest = max(row);
        let sum = exp_minus(row, largest);
        let inverse = sum.recip();
        for p in row.iter_mut() {
            *p *= inverse;
        }
        *lse = largest + sum.ln();
    }
}

pub(super) fn backward(
    grad: &FlexTensor,
    saved: &Saved<'_>,
    segments: &[i64],
    rule: AttentionRule,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let sizes = Sizes::of(saved.q, saved.k, rule);
    let Sizes { batch, seq, keys, heads, kv_heads, head_dim, .. } = sizes;
    let contiguous =
        [grad, saved.q, saved.k, saved.v, saved.out, saved.lse].map(|x| x.to_contiguous());
    let [grad, q, k, v, out, lse] = contiguous.each_ref().map(floats);
    let inputs = Inputs { grad, q, k, v, out, lse };
    let per_task = sizes.group() * seq * head_dim;
    let places = Places::new(segments, keys);
    let mut d_q = vec![0.0; tasks(sizes) * per_task];
    let mut d_k = vec![0.0; tasks(sizes) * keys * head_dim];
    let mut d_v = vec![0.0; tasks(sizes) * keys * head_dim];
    let d_keys = d_k.par_chunks_mut(keys * head_dim).zip(d_v.par_chunks_mut(keys * head_dim));
    d_q.par_chunks_mut(per_task).zip(d_keys).enumerate().for_each(|(index, (d_q, (d_k, d_v)))| {
        backward_task(&task(sizes, index, &places, rule), &inputs, d_q, d_k, d_v);
    });
    let d_q = interleave(&d_q, [batch, heads, seq, head_dim]);
    let of_keys = |parts: &[f32]| {
        tensor(
            interleave(parts, [batch, kv_heads, keys, head_dim]),
            [batch, keys, kv_heads, head_dim],
        )
    };
    (tensor(d_q, [batch, seq, heads, head_dim]), of_keys(&d_k), of_keys(&d_v))
}

struct Inputs<'a> {
    grad: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
}

fn backward_task(
    task: &Task<'_>,
    inputs: &Inputs<'_>,
    d_q: &mut [f32],
    d_k: &mut [f32],
    d_v: &mut [f32],
) {
    let Sizes { seq, keys, heads, head_dim, .. } = task.sizes;
    let width = BLOCK.min(seq);
    let (mut p_buffer, mut s_buffer) = (vec![0.0; width * keys], vec![0.0; width * keys]);
    for block in task.blocks() {
        let Block { group, rows, keys } = &block;
        let visible = keys.len();
        let p = &mut p_buffer[..rows.len() * visible];
        let d_s = &mut s_buffer[..rows.len() * visible];
        let q = task.queries(inputs.q, *group, rows);
        let g = task.queries(inputs.grad, *group, rows);
        let k = task.keys(inputs.k, keys);
        task.scores(p, q, k, &block);
        gemm(d_s, false, g, task.keys(inputs.v, keys).t(), 1.0, Threads::One);
        let head = task.kv_head * task.sizes.group() + group;
        dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.clone().enumerate() {
                    let token = ((task.batch * seq + row) * heads + head) * head_dim;
                    let token = token..token + head_dim;
                    let delta = dot(&inputs.grad[token.clone()], &inputs.out[token]);
                    let lse = inputs.lse[(task.batch * heads + head) * seq + row];
                    let span = i * visible..(i + 1) * visible;
                    soften_backward(&mut p[span.clone()], &mut d_s[span], lse, delta, task.rule);
                }
            },
        );
        let shape = [rows.len(), visible];
        let (p, d_s) = (Matrix::dense(p, shape), Matrix::dense(d_s, shape));
        let first = (group * seq + rows.start) * head_dim;
        let d_q = &mut d_q[first..first + rows.len() * head_dim];
        gemm(d_q, false, d_s, k, 1.0, Threads::One);
        let span = keys.start * head_dim..keys.end * head_dim;
        gemm(&mut d_k[span.clone()], true, d_s.t(), q, 1.0, Threads::One);
        gemm(&mut d_v[span], true, p.t(), g, 1.0, Threads::One);
    }
}

/// Turns scores into `p` and `grad · vᵀ` into `scale · p ⊙ (grad · vᵀ − delta)`, times the slope of
/// the cap where there is one.
#[inline(always)]
fn soften_backward(p: &mut [f32], d_s: &mut [f32], lse: f32, delta: f32, rule: AttentionRule) {
    // A hidden score lies far below the cap: its slope is no slope, and its `p` is zero.
    let inverse = rule.softcap.map_or(0.0, f32::recip);
    for (p, d_s) in p.iter_mut().zip(d_s) {
        let bent = *p * inverse;
        let slope = if bent > -1.0 { 1.0 - bent * bent } else { 0.0 };
        *p = exp(*p - lse);
        *d_s = rule.scale * *p * (*d_s - delta) * slope;
    }
}
