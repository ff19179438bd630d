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

/// What one task reads: the queries of a group of heads, and the keys and values that they see.
struct Task<'a> {
    queries: &'a [f32],
    k: Vec<&'a [f32]>,
    v: Vec<&'a [f32]>,
    head_dim: usize,
    rule: AttentionRule,
}

impl Task<'_> {
    /// Weighted values of each head to `out`, the log-sum-exp of its scores to `lse`.
    #[inline(always)]
    fn run(&self, out: &mut [f32], lse: &mut [f32]) {
        let seen = self.k.len();
        let mut scores = vec![0.0; lse.len() * seen];
        for (at, k) in self.k.iter().enumerate() {
            for (g, q) in self.queries.chunks_exact(self.head_dim).enumerate() {
                let score = self.rule.scale * dot(q, k);
                scores[g * seen + at] = match self.rule.softcap {
                    Some(cap) => cap * tanh(score / cap),
                    None => score,
                };
            }
        }
        for (scores, lse) in scores.chunks_exact_mut(seen).zip(lse) {
            let largest = max(scores);
            let sum = exp_minus(scores, largest);
            scores.iter_mut().for_each(|p| *p /= sum);
            *lse = largest + sum.ln();
        }
        for (at, v) in self.v.iter().enumerate() {
            for (g, out) in out.chunks_exact_mut(self.head_dim).enumerate() {
                let p = scores[g * seen + at];
                out.iter_mut().zip(*v).for_each(|(out, &v)| *out += p * v);
            }
        }
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
    // Dense only where a head's numbers do not lie side by side.
    let readable = |x: &FlexTensor| match Rows::of(x) {
        Some(_) => x.clone(),
        None => x.to_contiguous(),
    };
    let (q, k, v) = (q.to_contiguous(), readable(k), readable(v));
    let [Some(k), Some(v)] = [Rows::of(&k), Rows::of(&v)] else {
        unreachable!("a dense tensor has dense heads")
    };
    let Sizes { batch, keys, heads, kv_heads, head_dim, offset, .. } = sizes;
    let (q, group) = (floats(&q), sizes.group());
    let mut out = vec![0.0; batch * heads * head_dim];
    let mut lse = vec![0.0; batch * heads];
    let outputs = out.par_chunks_mut(group * head_dim).zip(lse.par_chunks_mut(group)).enumerate();
    outputs.for_each(|(index, (out, lse))| {
        let (row, head) = (index / kv_heads, index % kv_heads);
        let segments = &segments[row * keys..(row + 1) * keys];
        let seen =
            (rule.first_key(offset)..offset + 1).filter(|&key| segments[key] == segments[offset]);
        let (k, v) = seen
            .map(|key| (k.row(row, key, head, head_dim), v.row(row, key, head, head_dim)))
            .unzip();
        let queries = &q[index * group * head_dim..(index + 1) * group * head_dim];
        let task = Task { queries, k, v, head_dim, rule };
        dispatch(
            #[inline(always)]
            || task.run(out, lse),
        );
    });
    (tensor(out, [batch, 1, heads, head_dim]), tensor(lse, [batch, heads, 1, 1]))
}
