//! Gradients of what comes after, handed in: `Σ grad ⊙ f(x)` for its gradient alone.
//!
//! The backward pass of a stretch of a model starts from a gradient that is known already. These
//! functions give a scalar to call `backward` on: it is zero, and its gradient is that of
//! `Σ grad ⊙ f(x)`. Where `f` is a linear map, its result is not made, which saves a product.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{FloatDType, Shape, Tensor};

use crate::ops::LlmOps;

/// The zero whose gradient to `x` is `grad`, both of one shape: `[1]`.
///
/// `grad` is a constant: no gradient flows to it.
pub fn pull<const D: usize>(x: Tensor<D>, grad: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::pull(x.into_dispatch(), like(grad).into_dispatch()))
}

/// The zero whose gradients are those of `Σ grad ⊙ (x · wᵀ)`: `[1]`.
///
/// `x [batch, seq, d_in]`, `w [d_out, d_in]`, `grad [batch, seq, d_out]`.
pub fn linear_pull(x: Tensor<3>, w: Tensor<2>, grad: Tensor<3>) -> Tensor<1> {
    let (x, grad) = (rows(x), rows(like(grad)));
    Tensor::from_dispatch(Dispatch::project_pull(
        x.into_dispatch(),
        w.into_dispatch(),
        grad.into_dispatch(),
    ))
}

/// The zero whose gradients are those of `Σ grad ⊙ (x · wᵀ + scale · (x · aᵀ) · bᵀ)`: `[1]`.
///
/// Shapes as in [`linear_pull`], with `a [rank, d_in]` and `b [d_out, rank]`. As in
/// [`crate::lora_linear()`], `w` gets no gradient.
pub fn lora_linear_pull(
    x: Tensor<3>,
    w: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
    grad: Tensor<3>,
) -> Tensor<1> {
    let (x, grad) = (rows(x), rows(like(grad)));
    Tensor::from_dispatch(Dispatch::lora_linear_pull(
        x.into_dispatch(),
        w.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        scale as f32,
        grad.into_dispatch(),
    ))
}

/// What all of them return where there is nothing to differentiate.
pub(crate) fn zero<B: Backend>(x: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::from([1]), &x.device(), FloatDType::from(x.dtype()))
}

/// A constant among tracked tensors.
fn like<const D: usize>(grad: Tensor<D>) -> Tensor<D> {
    if grad.is_autodiff() { grad.detach() } else { Tensor::from_inner(grad) }
}

fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}
