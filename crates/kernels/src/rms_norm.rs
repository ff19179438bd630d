//! Root-mean-square normalisation.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Scalar, TensorMetadata};
use burn::tensor::Tensor;

use crate::ops::LlmOps;
use crate::primitive::{dims, narrowed, reshape, scale, widened};

/// `x / sqrt(mean(x²) + eps) ⊙ gamma` over the last dimension.
///
/// Zhang & Sennrich 2019 (arXiv:1910.07467), eq. 4, with `eps` inside the root as in Llama.
/// `x [.., hidden]`, `gamma [hidden]`; halves are normalised in f32. The
/// backward pass keeps `x` and recomputes the statistic.
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, eps: f64) -> Tensor<D> {
    let shape = x.dims();
    let hidden = shape[D - 1];
    let n = shape.iter().product::<usize>() / hidden;
    let flat = x.reshape([n, hidden]).into_dispatch();
    let y = <Dispatch as LlmOps>::rms_norm(flat, gamma.into_dispatch(), eps as f32);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

fn inverse_rms<B: Backend>(x: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x), 1);
    let rms = B::float_sqrt(B::float_add_scalar(mean, Scalar::from(eps)));
    B::float_recip(rms) // [n, 1]
}

pub(crate) fn reference<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    eps: f32,
) -> FloatTensor<B> {
    let [_, hidden] = dims::<2>(&x);
    let dtype = x.dtype();
    let (x, gamma) = (widened::<B>(x), widened::<B>(gamma));
    let inv = inverse_rms::<B>(x.clone(), eps);
    let y = B::float_mul(B::float_mul(x, inv), reshape::<B, 2>(gamma, [1, hidden]));
    narrowed::<B>(y, dtype)
}

/// With `r = 1/rms` and `w = g ⊙ gamma`: `dx = r · (w − x · r² · mean(w ⊙ x))`,
/// `dgamma = Σₙ g ⊙ x · r`.
pub(crate) fn reference_backward<B: Backend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    eps: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [_, hidden] = dims::<2>(&x);
    let (dtype, gain_dtype) = (x.dtype(), gamma.dtype());
    let [grad, x, gamma] = [grad, x, gamma].map(widened::<B>);
    let inv = inverse_rms::<B>(x.clone(), eps);
    let normed = B::float_mul(x, inv.clone());
    let d_gamma = B::float_sum_dim(B::float_mul(grad.clone(), normed.clone()), 0);
    let weighted = B::float_mul(grad, reshape::<B, 2>(gamma, [1, hidden]));
    let dot = B::float_sum_dim(B::float_mul(weighted.clone(), normed.clone()), 1);
    let along = B::float_mul(normed, scale::<B>(dot, 1.0 / hidden as f32));
    let d_x = B::float_mul(B::float_sub(weighted, along), inv);
    let d_gamma = narrowed::<B>(reshape::<B, 1>(d_gamma, [hidden]), gain_dtype);
    (narrowed::<B>(d_x, dtype), d_gamma)
}
