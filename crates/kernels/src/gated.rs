//! The gated activations of feed-forward layers: SwiGLU and GeGLU.

use core::f32::consts::FRAC_2_SQRT_PI;
use std::f32::consts::FRAC_1_SQRT_2;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Scalar, TensorMetadata};
use burn::tensor::Tensor;

use crate::ops::LlmOps;
use crate::primitive::{narrowed, scale, widened};

/// The factor of `x³` in the tanh form of GELU.
pub(crate) const GELU_CUBIC: f32 = 0.044_715;
/// `√(2/π)`.
pub(crate) const GELU_SCALE: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

/// The function that a feed-forward layer bends its activations with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `z · σ(z)`. Llama and most others.
    Silu,
    /// `z/2 · (1 + tanh(√(2/π) · (z + 0.044715 z³)))`. Hendrycks & Gimpel 2016
    /// (arXiv:1606.08415), §2; GPT-2's `gelu_new`, Gemma's `gelu_pytorch_tanh`.
    GeluTanh,
}

/// `f(gate) ⊙ up`.
///
/// Shazeer 2020 (arXiv:2002.05202), eq. 5 and 6, with β = 1 and without the projections. Both
/// tensors have the same shape. The backward pass keeps `gate` and `up` and nothing else.
pub fn gated<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::gated(
        gate.into_dispatch(),
        up.into_dispatch(),
        activation,
    ))
}

/// `f(x)`, elementwise, for layers without a gate.
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Silu => x.clone() * burn::tensor::activation::sigmoid(x),
        Activation::GeluTanh => {
            let cube = x.clone() * x.clone() * x.clone() * GELU_CUBIC;
            let bent = ((x.clone() + cube) * GELU_SCALE).tanh();
            x * (bent + 1.0) * 0.5
        }
    }
}

fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let exp = B::float_exp(B::float_neg(x));
    B::float_recip(plus::<B>(exp, 1.0))
}

fn plus<B: Backend>(x: FloatTensor<B>, value: f32) -> FloatTensor<B> {
    B::float_add_scalar(x, Scalar::from(value))
}

/// `tanh(√(2/π) · (z + 0.044715 z³))` and `z²`.
fn gelu_parts<B: Backend>(z: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let square = B::float_mul(z.clone(), z.clone());
    let inner = plus::<B>(scale::<B>(square.clone(), GELU_CUBIC), 1.0);
    let inner = scale::<B>(B::float_mul(inner, z), GELU_SCALE);
    (B::float_tanh(inner), square)
}

pub(crate) fn reference<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let dtype = gate.dtype();
    let (gate, up) = (widened::<B>(gate), widened::<B>(up));
    let bent = match activation {
        Activation::Silu => B::float_mul(gate.clone(), sigmoid::<B>(gate)),
        Activation::GeluTanh => {
            let (bent, _) = gelu_parts::<B>(gate.clone());
            B::float_mul(scale::<B>(gate, 0.5), plus::<B>(bent, 1.0))
        }
    };
    narrowed::<B>(B::float_mul(bent, up), dtype)
}

/// With `f` and its slope `f'`: `d_gate = g ⊙ up ⊙ f'(gate)`, `d_up = g ⊙ f(gate)`.
pub(crate) fn reference_backward<B: Backend>(
    grad: FloatTensor<B>,
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dtype = gate.dtype();
    let [grad, gate, up] = [grad, gate, up].map(widened::<B>);
    let (value, slope) = match activation {
        Activation::Silu => silu_and_slope::<B>(gate),
        Activation::GeluTanh => gelu_and_slope::<B>(gate),
    };
    let d_gate = B::float_mul(B::float_mul(grad.clone(), up), slope);
    (narrowed::<B>(d_gate, dtype), narrowed::<B>(B::float_mul(grad, value), dtype))
}

/// d silu(z) / dz = σ(z) + silu(z) · (1 − σ(z)).
fn silu_and_slope<B: Backend>(z: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let sigma = sigmoid::<B>(z.clone());
    let silu = B::float_mul(z, sigma.clone());
    let rest = plus::<B>(B::float_neg(sigma.clone()), 1.0);
    let slope = B::float_add(sigma, B::float_mul(silu.clone(), rest));
    (silu, slope)
}

/// With `t` the tanh: d gelu(z) / dz = (1 + t)/2 + z/2 · (1 − t²) · √(2/π) · (1 + 3 · 0.044715 z²).
fn gelu_and_slope<B: Backend>(z: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let (bent, square) = gelu_parts::<B>(z.clone());
    let half = scale::<B>(z, 0.5);
    let above = plus::<B>(bent.clone(), 1.0);
    let value = B::float_mul(half.clone(), above.clone());
    let flat = plus::<B>(B::float_neg(B::float_mul(bent.clone(), bent)), 1.0);
    let inner = plus::<B>(scale::<B>(square, 3.0 * GELU_CUBIC), 1.0);
    let rest = scale::<B>(B::float_mul(B::float_mul(half, flat), inner), GELU_SCALE);
    (value, B::float_add(scale::<B>(above, 0.5), rest))
}
