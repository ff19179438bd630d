//! SwiGLU: the gated activation of Llama's feed-forward block.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Scalar};
use burn::tensor::Tensor;

use crate::ops::LlmOps;

/// `silu(gate) ⊙ up` with `silu(z) = z · σ(z)`.
///
/// Shazeer 2020 (arXiv:2002.05202), eq. 5, with β = 1 and without the projections. Both tensors
/// have the same shape. The backward pass keeps `gate` and `up` and nothing else.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let exp = B::float_exp(B::float_neg(x));
    B::float_recip(B::float_add_scalar(exp, Scalar::from(1.0f32)))
}

pub(crate) fn reference<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let silu = B::float_mul(gate.clone(), sigmoid::<B>(gate));
    B::float_mul(silu, up)
}

/// d silu(z) / dz = σ(z) · (1 + z · (1 − σ(z))).
pub(crate) fn reference_backward<B: Backend>(
    grad: FloatTensor<B>,
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sigma = sigmoid::<B>(gate.clone());
    let silu = B::float_mul(gate, sigma.clone());
    let slope = B::float_add(
        sigma.clone(),
        B::float_mul(silu.clone(), B::float_add_scalar(B::float_neg(sigma), Scalar::from(1.0f32))),
    );
    let d_gate = B::float_mul(B::float_mul(grad.clone(), up), slope);
    (d_gate, B::float_mul(grad, silu))
}
