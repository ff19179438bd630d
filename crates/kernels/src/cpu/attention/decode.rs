//! Attention of one query a sequence, as a generation asks for it: keys and values are read where
//! they lie, once.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::attention::{AttentionRule, Sizes};
use crate::cpu::simd::{dispatch, dot, exp_minus, max, tanh};
use crate::cpu::{floats, tensor};

/// Keys or values, `[batch, keys, kv_heads, head_dim]`, with any strides but the last.
struct Rows<'a> {
    data: &'a [f32],
    strides: [usize; 3],
}

impl<'a> Rows<'a> {
    /// The rows of a tensor whose heads are dense; `None` for any other.
    fn of(x: &'a FlexTensor) -> Option<Self> {
        let layout = x.layout();
        let [batch, key, head, 1] = *layout.strides() else { return None };
        let strides = [batch, key, head].map(usize::try_from);
        let [Ok(batch), Ok(key), Ok(head)] = strides else { return None };
        let data = &x.storage::<f32>()[layout.start_offset()..];
        Some(Self { data, strides: [batch, key, head] })
    }

    fn row(&self, batch: usize, key: usize, head: usize, head_dim: usize) -> &'a [f32] {
        let [per_batch, per_key, per_head] = self.strides;
        let start = batch * per_batch + key * per_key + head * per_head;
        &self.data[start..start + head_dim]
    }
}

pub(super) fn forward(
    q: &FlexTensor,
    k: &FlexTensor,
    v: &FlexTensor,
    segments: &[i64],
    sizes: Sizes,
    rule: AttentionRule,
) -> (FlexTensor, FlexTensor) {
    let q = q.to_contiguous();
    let (dense_k, dense_v);
    let k = match Rows::of(k) {
        Some(rows) => rows,
        None => {
            dense_k = k.to_contiguous();
            Rows { data: floats(&dense_k), strides: dense(sizes) }
        }
    };
    let v = match Rows::of(v) {
        Some(rows) => rows,
        None => {
            dense_v = v.to_contiguous();
            Rows { data: floats(&dense_v), strides: dense(sizes) }
        }
    };
    let Sizes { batch, keys, heads, kv_heads, head_dim, offset, .. } = sizes;
    let group = sizes.group();
    let q = floats(&q);
    let mut out = vec![0.0; batch * heads * head_dim];
    let mut lse = vec![0.0; batch * heads];
    let outputs = out.par_chunks_mut(group * head_dim).zip(lse.par_chunks_mut(group)).enumerate();
    outputs.for_each(|(task, (out, lse))| {
        let (row, head) = (task / kv_heads, task % kv_heads);
        let segments = &segments[row * keys..(row + 1) * keys];
        let seen: Vec<usize> = (rule.first_key(offset)..offset + 1)
            .filter(|&key| segments[key] == segments[offset])
            .collect();
        let queries = &q[task * group * head_dim..(task + 1) * group * head_dim];
        let mut scores = vec![0.0; group * seen.len()];
        dispatch(
            #[inline(always)]
            || {
                for (at, &key) in seen.iter().enumerate() {
                    let k = k.row(row, key, head, head_dim);
                    for (g, q) in queries.chunks_exact(head_dim).enumerate() {
                        let score = rule.scale * dot(q, k);
                        scores[g * seen.len() + at] = match rule.softcap {
                            Some(cap) => cap * tanh(score / cap),
                            None => score,
                        };
                    }
                }
                for (scores, lse) in scores.chunks_exact_mut(seen.len()).zip(lse) {
                    let largest = max(scores);
                    let sum = exp_minus(scores, largest);
                    scores.iter_mut().for_each(|p| *p /= sum);
                    *lse = largest + sum.ln();
                }
                for (at, &key) in seen.iter().enumerate() {
                    let v = v.row(row, key, head, head_dim);
                    for (g, out) in out.chunks_exact_mut(head_dim).enumerate() {
                        let p = scores[g * seen.len() + at];
                        for (out, &v) in out.iter_mut().zip(v) {
                            *out += p * v;
                        }
                    }
                }
            },
        );
    });
    (tensor(out, [batch, 1, heads, head_dim]), tensor(lse, [batch, heads, 1, 1]))
}

fn dense(sizes: Sizes) -> [usize; 3] {
    let Sizes { keys, kv_heads, head_dim, .. } = sizes;
    [keys * kv_heads * head_dim, kv_heads * head_dim, head_dim]
}
