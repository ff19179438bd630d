//! The extension trait: every operation the models are built from, on every backend.
//!
//! A default body is the reference: plain tensor operations that run on any backend, and, through
//! fusion, on any GPU. A backend with something better overrides the method. The implementation
//! for `Autodiff` adds the hand-written backward passes.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{IntDType, Slice, TensorData};

use crate::attention::AttentionRule;
use crate::gated::Activation;
use crate::linear_cross_entropy::CrossEntropy;
use crate::primitive::{self, dims};
use crate::{attention, gated, linear, linear_cross_entropy, pull, rms_norm, rope};

/// Operations of a decoder on the level where speed and memory are decided.
///
/// Shapes are written in the order `batch, seq, heads, head_dim, hidden, vocab`; `n` is the number
/// of tokens (`batch · seq`). Weights are `[d_out, d_in]`, as Hugging Face stores them.
#[backend_extension(
    Cube: cfg(feature = "cube"),
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
    Fusion: cfg(feature = "cube")
)]
pub trait LlmOps: Backend {
    /// `x · wᵀ` for `x [n, d_in]` and `w [d_out, d_in]`: `[n, d_out]`.
    #[fusion(default)]
    fn project(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let [rows, _] = dims::<2>(&x);
        if rows <= linear::FEW_ROWS {
            return Self::project_few(x, w);
        }
        Self::project_many(x, w)
    }

    /// [`LlmOps::project`] of many rows.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], w[0]]))]
    fn project_many(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(x, Self::float_transpose(w))
    }

    /// [`LlmOps::project`] of few rows, where reading the weight is what takes time.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], w[0]]))]
    fn project_few(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(x, Self::float_transpose(w))
    }

    /// `a · b + c · d` for matrices: two products into one result.
    #[fusion(default)]
    fn matmul_sum(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(Self::float_matmul(a, b), Self::float_matmul(c, d))
    }

    /// `x · wᵀ + scale · (x · aᵀ) · bᵀ` for `a [rank, d_in]` and `b [d_out, rank]`.
    #[fusion(default)]
    fn lora_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let [rows, _] = dims::<2>(&x);
        if rows <= linear::FEW_ROWS {
            let u = primitive::scale::<Self>(Self::project(x.clone(), a), scale);
            return Self::float_add(Self::project(x, w), Self::project(u, b));
        }
        linear::lora_linear_forward::<Self>(x, w, a, b, scale).0
    }

    /// A zero `[1]` whose gradient to `x` is `grad`, of the shape of `x`.
    #[fusion(default)]
    fn pull(x: FloatTensor<Self>, _grad: FloatTensor<Self>) -> FloatTensor<Self> {
        pull::zero::<Self>(&x)
    }

    /// [`LlmOps::pull`] through [`LlmOps::project`], whose result is not made.
    #[fusion(default)]
    fn project_pull(
        x: FloatTensor<Self>,
        _w: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        pull::zero::<Self>(&x)
    }

    /// [`LlmOps::pull`] through [`LlmOps::lora_linear`], whose result is not made.
    #[fusion(default)]
    fn lora_linear_pull(
        x: FloatTensor<Self>,
        _w: FloatTensor<Self>,
        _a: FloatTensor<Self>,
        _b: FloatTensor<Self>,
        _scale: f32,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        pull::zero::<Self>(&x)
    }

    /// RMSNorm over the last dimension of `x [n, hidden]` with gain `gamma [hidden]`.
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        rms_norm::reference::<Self>(x, gamma, eps)
    }

    /// Gradients of [`LlmOps::rms_norm`] to `x` and `gamma`.
    #[fusion(default)]
    fn rms_norm_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::reference_backward::<Self>(grad, x, gamma, eps)
    }

    /// Half-rotation RoPE of `x [batch, seq, heads, head_dim]` by `cos`, `sin`
    /// `[batch or 1, seq, 1, rotated / 2]`; dimensions from `rotated` up stay as they are.
    #[fusion(dtype = x, shape = x)]
    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rope::reference::<Self>(x, cos, sin)
    }

    /// `f(gate) ⊙ up`, elementwise.
    #[fusion(dtype = gate, shape = gate)]
    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        gated::reference::<Self>(gate, up, activation)
    }

    /// Gradients of [`LlmOps::gated`] to `gate` and `up`.
    #[fusion(default)]
    fn gated_backward(
        grad: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gated::reference_backward::<Self>(grad, gate, up, activation)
    }

    /// Causal grouped-query attention.
    ///
    /// `q [batch, seq, heads, head_dim]`, `k`, `v [batch, keys, kv_heads, head_dim]`,
    /// `segments [batch, keys]`: `[batch, seq, heads, head_dim]`.
    #[fusion(default)]
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        let [_, queries, _, _] = dims::<4>(&q);
        if queries <= attention::FEW_QUERIES {
            return Self::attention_few(q, k, v, segments, rule);
        }
        Self::attention_forward(q, k, v, segments, rule).0
    }

    /// [`LlmOps::attention`] of few queries, as in generation.
    #[fusion(dtype = q, shape = q)]
    fn attention_few(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        Self::attention_forward(q, k, v, segments, rule).0
    }

    /// [`LlmOps::attention_few`] with the rule's `first_query` also in `slot [1]` on the device,
    /// where a launch that is repeated finds it as it is by then.
    #[fusion(dtype = q, shape = q)]
    fn attention_at(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        _slot: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        Self::attention_forward(q, k, v, segments, rule).0
    }

    /// `keys` and `values` `[batch, capacity, kv_heads, head_dim]` with the new ones
    /// `[batch, added, kv_heads, head_dim]` from slot `first` on, which `slot [1]` tells too.
    #[fusion(meta = |keys, values, _, _, _, _| (keys.clone(), values.clone()))]
    fn cache_write(
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        new_keys: FloatTensor<Self>,
        new_values: FloatTensor<Self>,
        _slot: IntTensor<Self>,
        first: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let write = |old, new| {
            let [_, added, _, _] = dims::<4>(&new);
            let mut slices = vec![Slice::full(); 4];
            slices[1] = Slice::from(first..first + added);
            Self::float_slice_assign(old, &slices, new)
        };
        (write(keys, new_keys), write(values, new_values))
    }

    /// The place of the largest element of each row of `x [n, width]`, the first of equal ones:
    /// `[n, 1]`.
    #[fusion(
        dtype = burn::tensor::DType::I32,
        shape = burn::tensor::Shape::from([x[0], 1])
    )]
    fn argmax_rows(x: FloatTensor<Self>) -> IntTensor<Self> {
        Self::float_argmax(x, 1, IntDType::I32)
    }

    /// `x` with its elements replaced by `bytes`, in the form of its numbers; with those of every
    /// tensor that shares its memory, where memory can be written so.
    #[fusion(dtype = x, shape = x)]
    fn overwrite(x: FloatTensor<Self>, bytes: Vec<u8>) -> FloatTensor<Self> {
        let data = TensorData::from_bytes_vec(bytes, x.shape(), x.dtype());
        Self::float_from_data(data, &x.device())
    }

    /// [`LlmOps::overwrite`] for integers.
    #[fusion(dtype = x, shape = x)]
    fn overwrite_int(x: IntTensor<Self>, bytes: Vec<u8>) -> IntTensor<Self> {
        let data = TensorData::from_bytes_vec(bytes, x.shape(), x.dtype());
        Self::int_from_data(data, &x.device())
    }

    /// [`LlmOps::attention`] with the log-sum-exp of each row of scores,
    /// `[batch, heads, seq, 1]`, which the backward pass needs.
    #[fusion(default)]
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::reference::<Self>(q, k, v, segments, rule)
    }

    /// Gradients of [`LlmOps::attention`] to `q`, `k` and `v`.
    #[fusion(default)]
    fn attention_backward(
        grad: FloatTensor<Self>,
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        rule: AttentionRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::reference_backward::<Self>(grad, q, k, v, segments, out, lse, rule)
    }

    /// The sum of `maskᵢ` times each row's loss by `rule`, which [`CrossEntropy`] gives: `[1]`.
    #[fusion(default)]
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        rule: CrossEntropy,
    ) -> FloatTensor<Self> {
        let inputs = linear_cross_entropy::Inputs { hidden, weight, targets, rule };
        linear_cross_entropy::reference::<Self>(&inputs, mask)
    }

    /// [`LlmOps::linear_cross_entropy`] with its gradient to `hidden` and, where `train_weight`,
    /// to `weight` (otherwise a `[1, 1]` zero).
    #[fusion(default)]
    fn linear_cross_entropy_grad(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        rule: CrossEntropy,
        train_weight: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = linear_cross_entropy::Inputs { hidden, weight, targets, rule };
        linear_cross_entropy::reference_grad::<Self>(inputs, mask, train_weight)
    }

    /// `log softmax(cap(hiddenᵢ · weightᵀ))[targetᵢ]` of every token: `[n]`, in nats.
    #[fusion(default)]
    fn token_logps(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
    ) -> FloatTensor<Self> {
        let rule = CrossEntropy::capped(softcap);
        let inputs = linear_cross_entropy::Inputs { hidden, weight, targets, rule };
        linear_cross_entropy::reference_logps::<Self>(&inputs)
    }

    /// Gradients of [`LlmOps::token_logps`] to `hidden` and, where `train_weight`, to `weight`
    /// (otherwise a `[1, 1]` zero), for the gradient `grad [n]`.
    #[fusion(default)]
    fn token_logps_backward(
        grad: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
        train_weight: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let rule = CrossEntropy::capped(softcap);
        let inputs = linear_cross_entropy::Inputs { hidden, weight, targets, rule };
        linear_cross_entropy::reference_logps_backward::<Self>(grad, inputs, train_weight)
    }
}

#[cfg(feature = "ndarray")]
impl LlmOps for burn::backend::NdArray {}
