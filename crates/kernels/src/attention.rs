//! Causal attention with grouped queries and segment ids, linear in memory.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Scalar, TensorMetadata};
use burn::tensor::{DType, FloatDType, Int, IntDType, Shape, Tensor};

use crate::cache::Slot;
use crate::ops::LlmOps;
use crate::primitive::{
    cap, dims, is_half, log_sum_exp, narrow, narrowed, reshape, scale, widened,
};

/// Query rows whose scores exist at a time.
const CHUNK_ROWS: usize = 128;

/// Up to so many queries a text, a backend that has a kernel for few of them uses it.
pub(crate) const FEW_QUERIES: usize = 512;

/// Added to a score that must not be seen; large, yet finite in f32 sums.
pub(crate) const HIDDEN_SCORE: f32 = -1e30;

/// How scores come about and which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionRule {
    /// What the products of queries and keys are multiplied by.
    pub scale: f32,
    /// `cap · tanh(score / cap)` instead of the score. Gemma 2, Riviere et al. 2024
    /// (arXiv:2408.00118), §2.
    pub softcap: Option<f32>,
    /// How many tokens a query sees, itself among them. Mistral 7B, Jiang et al. 2023
    /// (arXiv:2310.06825), §2.
    pub window: Option<usize>,
    /// Where the first query stands among the keys; the queries are the last positions where this
    /// is `None`. Keys behind the last query are not seen: a cache may have room there.
    pub first_query: Option<usize>,
}

impl AttentionRule {
    /// `scale` alone: every earlier token of the segment is seen.
    pub fn scaled(scale: f64) -> Self {
        Self { scale: scale as f32, softcap: None, window: None, first_query: None }
    }

    /// The first key that the query at `position` sees.
    pub(crate) fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Scaled dot-product attention: `softmax(cap(scale · q · kᵀ) + visibility) · v`.
///
/// Vaswani et al. 2017 (arXiv:1706.03762), eq. 1, with the grouped queries of Ainslie et al. 2023
/// (arXiv:2305.13245): query head `h` reads key head `h / (heads / kv_heads)`. A query sees keys at
/// its own position and before it, as far back as the rule's window, and only of its own segment,
/// so that packed documents and padding stay apart.
///
/// `q [batch, seq, heads, head_dim]`, `k` and `v [batch, keys, kv_heads, head_dim]`, `segments
/// [batch, keys]`; with `keys > seq` (a cache) the queries are the last `seq` positions, or those
/// from the rule's `first_query` on. Result like `q`. Scores exist for a chunk of queries at a
/// time, forward and backward; the backward pass keeps `q`, `k`, `v`, the result and one number a
/// row (Dao et al. 2022, arXiv:2205.14135, §3.1).
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    segments: Tensor<2, Int>,
    rule: AttentionRule,
) -> Tensor<4> {
    Sizes::new(q.dims(), k.dims(), rule);
    Tensor::from_dispatch(<Dispatch as LlmOps>::attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        segments.into_dispatch(),
        rule,
    ))
}

/// [`attention`], the first query of which stands at `first`; few queries take its place from the
/// device, as what is recorded must.
pub fn attention_at(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    segments: Tensor<2, Int>,
    first: &Slot,
    rule: AttentionRule,
) -> Tensor<4> {
    let rule = AttentionRule { first_query: Some(first.host), ..rule };
    if q.dims()[1] > FEW_QUERIES {
        return attention(q, k, v, segments, rule);
    }
    Sizes::new(q.dims(), k.dims(), rule);
    Tensor::from_dispatch(<Dispatch as LlmOps>::attention_at(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        segments.into_dispatch(),
        first.device.clone().into_dispatch(),
        rule,
    ))
}

/// Sizes of one attention call.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub seq: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Where the first query stands among the keys.
    pub offset: usize,
}

impl Sizes {
    pub(crate) fn of(
        q: &impl TensorMetadata,
        k: &impl TensorMetadata,
        rule: AttentionRule,
    ) -> Self {
        Self::new(dims::<4>(q), dims::<4>(k), rule)
    }

    fn new(q: [usize; 4], k: [usize; 4], rule: AttentionRule) -> Self {
        let ([batch, seq, heads, head_dim], [_, keys, kv_heads, _]) = (q, k);
        assert!(keys >= seq, "attention: {keys} keys for {seq} queries");
        assert_eq!(heads % kv_heads, 0, "attention: heads not a multiple of key heads");
        let offset = rule.first_query.unwrap_or(keys - seq);
        assert!(offset + seq <= keys, "attention: queries from {offset} on end behind the keys");
        Self { batch, seq, keys, heads, kv_heads, head_dim, offset }
    }

    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn chunks(&self) -> impl Iterator<Item = core::ops::Range<usize>> {
        let seq = self.seq;
        (0..seq).step_by(CHUNK_ROWS).map(move |i| i..(i + CHUNK_ROWS).min(seq))
    }
}

/// `[batch, rows, heads, d]` to `[batch, kv_heads, group · rows, d]`.
fn by_group<B: Backend>(x: FloatTensor<B>, sizes: Sizes) -> FloatTensor<B> {
    let [batch, rows, _, d] = dims::<4>(&x);
    let x = reshape::<B, 5>(x, [batch, rows, sizes.kv_heads, sizes.group(), d]);
    let x = B::float_permute(x, &[0, 2, 3, 1, 4]);
    reshape::<B, 4>(x, [batch, sizes.kv_heads, sizes.group() * rows, d])
}

/// The inverse of [`by_group`].
fn ungroup<B: Backend>(x: FloatTensor<B>, sizes: Sizes, rows: usize) -> FloatTensor<B> {
    let [batch, _, _, d] = dims::<4>(&x);
    let x = reshape::<B, 5>(x, [batch, sizes.kv_heads, sizes.group(), rows, d]);
    let x = B::float_permute(x, &[0, 3, 1, 2, 4]);
    reshape::<B, 4>(x, [batch, rows, sizes.heads, d])
}

/// What hides keys from queries, as a number to add to the scores.
struct Visibility<B: Backend> {
    segments: FloatTensor<B>,  // [batch, keys]
    positions: FloatTensor<B>, // [keys]
}

impl<B: Backend> Visibility<B> {
    fn new(segments: IntTensor<B>, like: &FloatTensor<B>, sizes: Sizes) -> Self {
        let (device, dtype) = (like.device(), FloatDType::F32);
        let positions =
            B::int_arange(0..sizes.keys as i64, &device, IntDType::from(segments.dtype()));
        Self {
            segments: B::int_into_float(segments, dtype),
            positions: B::int_into_float(positions, dtype),
        }
    }

    /// `[batch, 1, 1, rows, keys]`: 0 where visible, else [`HIDDEN_SCORE`].
    fn bias(
        &self,
        sizes: Sizes,
        rows: core::ops::Range<usize>,
        rule: AttentionRule,
    ) -> FloatTensor<B> {
        let len = rows.len();
        let rows = rows.start + sizes.offset..rows.end + sizes.offset;
        let capped = |x| B::float_clamp(x, Scalar::from(0.0f32), Scalar::from(1.0f32));
        let query = narrow::<B>(self.positions.clone(), 1, 0, rows.clone());
        let later = B::float_sub(
            reshape::<B, 5>(self.positions.clone(), [1, 1, 1, 1, sizes.keys]),
            reshape::<B, 5>(query, [1, 1, 1, len, 1]),
        );
        let own = narrow::<B>(self.segments.clone(), 2, 1, rows);
        let other = B::float_sub(
            reshape::<B, 5>(self.segments.clone(), [sizes.batch, 1, 1, 1, sizes.keys]),
            reshape::<B, 5>(own, [sizes.batch, 1, 1, len, 1]),
        );
        let mut hidden = B::float_add(capped(later.clone()), capped(B::float_abs(other)));
        if let Some(window) = rule.window {
            // `query − key ≥ window` for what is too far back.
            let beyond = Scalar::from(1.0 - window as f32);
            hidden = B::float_add(hidden, capped(B::float_add_scalar(B::float_neg(later), beyond)));
        }
        scale::<B>(capped(hidden), HIDDEN_SCORE)
    }
}

/// Scores of one chunk of queries, `[batch, kv_heads, group · rows, keys]`, and where they are
/// capped the slope of the cap, `1 − (score / cap)²`.
fn scores<B: Backend>(
    q: FloatTensor<B>,
    keys_t: FloatTensor<B>,
    bias: FloatTensor<B>,
    sizes: Sizes,
    rule: AttentionRule,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let Sizes { batch, keys, kv_heads, .. } = sizes;
    let [_, rows, _, _] = dims::<4>(&q);
    let scores = B::float_matmul(scale::<B>(by_group::<B>(q, sizes), rule.scale), keys_t);
    let (scores, slope) = cap::<B>(widened::<B>(scores), rule.softcap);
    let scores = reshape::<B, 5>(scores, [batch, kv_heads, sizes.group(), rows, keys]);
    let shape = [batch, kv_heads, sizes.group() * rows, keys];
    (reshape::<B, 4>(B::float_add(scores, bias), shape), slope)
}

pub(crate) fn reference<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    segments: IntTensor<B>,
    rule: AttentionRule,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of(&q, &k, rule);
    let visibility = Visibility::<B>::new(segments, &q, sizes);
    let keys_t = B::float_permute(k, &[0, 2, 3, 1]);
    let values = B::float_permute(v, &[0, 2, 1, 3]);
    let (mut outs, mut lses) = (Vec::new(), Vec::new());
    for rows in sizes.chunks() {
        let len = rows.len();
        let bias = visibility.bias(sizes, rows.clone(), rule);
        let part = narrow::<B>(q.clone(), 4, 1, rows);
        let (scores, _) = scores::<B>(part, keys_t.clone(), bias, sizes, rule);
        let lse = log_sum_exp::<B>(scores.clone(), 3);
        let p = B::float_exp(B::float_sub(scores, lse.clone()));
        let p = narrowed::<B>(p, values.dtype());
        outs.push(ungroup::<B>(B::float_matmul(p, values.clone()), sizes, len));
        lses.push(reshape::<B, 4>(lse, [sizes.batch, sizes.heads, len, 1]));
    }
    (B::float_cat(outs, 1), B::float_cat(lses, 2))
}

/// With `p = exp(scores − lse)` and `δ = rowsum(grad ⊙ out)`: `dv = pᵀ·grad`,
/// `ds = p ⊙ (grad·vᵀ − δ)`, times the slope of the cap, `dq = scale · ds·k`, `dk = scale · dsᵀ·q`.
pub(crate) fn reference_backward<B: Backend>(
    grad: FloatTensor<B>,
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    segments: IntTensor<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    rule: AttentionRule,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of(&q, &k, rule);
    let Sizes { batch, keys, kv_heads, head_dim, .. } = sizes;
    let visibility = Visibility::<B>::new(segments, &q, sizes);
    let keys_t = B::float_permute(k.clone(), &[0, 2, 3, 1]);
    let keys_g = B::float_permute(k, &[0, 2, 1, 3]);
    let values_t = B::float_permute(v, &[0, 2, 3, 1]);
    // Halves are multiplied as such, but summed and softened in f32.
    let (device, dtype) = (q.device(), q.dtype());
    let total = FloatDType::from(if is_half(&q) { DType::F32 } else { dtype });
    let zeros = || B::float_zeros(Shape::from([batch, kv_heads, keys, head_dim]), &device, total);
    let (mut d_q, mut d_k, mut d_v) = (Vec::new(), zeros(), zeros());
    for rows in sizes.chunks() {
        let len = rows.len();
        let bias = visibility.bias(sizes, rows.clone(), rule);
        let part = |x: &FloatTensor<B>| narrow::<B>(x.clone(), 4, 1, rows.clone());
        let (scores, slope) = scores::<B>(part(&q), keys_t.clone(), bias, sizes, rule);
        let lse = narrow::<B>(lse.clone(), 4, 2, rows.clone());
        let lse = reshape::<B, 4>(lse, [batch, kv_heads, sizes.group() * len, 1]);
        let p = B::float_exp(B::float_sub(scores, lse));
        let g = by_group::<B>(part(&grad), sizes);
        let o = by_group::<B>(part(&out), sizes);
        let delta = B::float_mul(widened::<B>(g.clone()), widened::<B>(o));
        let delta = B::float_sum_dim(delta, 3);
        let p_t = narrowed::<B>(B::float_swap_dims(p.clone(), 2, 3), dtype);
        d_v = B::float_add(d_v, widened::<B>(B::float_matmul(p_t, g.clone())));
        let d_p = widened::<B>(B::float_matmul(g, values_t.clone()));
        let d_p = B::float_sub(d_p, delta);
        let mut d_s = scale::<B>(B::float_mul(p, d_p), rule.scale);
        if let Some(slope) = slope {
            d_s = B::float_mul(d_s, slope);
        }
        let d_s = narrowed::<B>(d_s, dtype);
        d_q.push(ungroup::<B>(B::float_matmul(d_s.clone(), keys_g.clone()), sizes, len));
        let part_q = by_group::<B>(part(&q), sizes);
        let part_k = B::float_matmul(B::float_swap_dims(d_s, 2, 3), part_q);
        d_k = B::float_add(d_k, widened::<B>(part_k));
    }
    let back = |x| B::float_permute(narrowed::<B>(x, dtype), &[0, 2, 1, 3]);
    (B::float_cat(d_q, 1), back(d_k), back(d_v))
}
