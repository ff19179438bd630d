//! The weight under a linear map, in whatever form it is stored.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use rekindle_kernels as kernels;

/// A weight of shape `[d_out, d_in]`, the layout Hugging Face stores.
///
/// Products go through [`BaseWeight::linear`] and [`BaseWeight::lora_linear`], which a packed form
/// answers without ever keeping a dense copy.
#[derive(Module, Debug)]
pub enum BaseWeight {
    /// Plain floating point numbers.
    Dense(Param<Tensor<2>>),
}

impl BaseWeight {
    /// A frozen dense weight `[d_out, d_in]`.
    pub fn frozen(weight: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(weight).set_require_grad(false))
    }

    /// A trained dense weight `[d_out, d_in]`.
    pub fn trained(weight: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(weight))
    }

    /// `[d_out, d_in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
        }
    }

    /// `x · Wᵀ` for `x [batch, seq, d_in]`: `[batch, seq, d_out]`.
    pub fn linear(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Dense(weight) => {
                let weight = kernels::in_dtype(weight.val(), x.dtype());
                kernels::linear(x, weight)
            }
        }
    }

    /// `x · Wᵀ + scale · (x · aᵀ) · bᵀ` with `a [rank, d_in]` and `b [d_out, rank]`.
    pub fn lora_linear(&self, x: Tensor<3>, a: Tensor<2>, b: Tensor<2>, scale: f64) -> Tensor<3> {
        match self {
            Self::Dense(weight) => kernels::lora_linear(x, weight.val(), a, b, scale),
        }
    }

    /// `[1]` with the gradients of `Σ grad ⊙ linear(x)`, whose product is not made.
    pub fn linear_pull(&self, x: Tensor<3>, grad: Tensor<3>) -> Tensor<1> {
        match self {
            Self::Dense(weight) => {
                let weight = kernels::in_dtype(weight.val(), x.dtype());
                kernels::linear_pull(x, weight, grad)
            }
        }
    }

    /// `[1]` with the gradients of `Σ grad ⊙ lora_linear(x, a, b, scale)`, whose products of full
    /// width are not made.
    pub fn lora_linear_pull(
        &self,
        x: Tensor<3>,
        a: Tensor<2>,
        b: Tensor<2>,
        scale: f64,
        grad: Tensor<3>,
    ) -> Tensor<1> {
        match self {
            Self::Dense(weight) => kernels::lora_linear_pull(x, weight.val(), a, b, scale, grad),
        }
    }

    /// The dense weight, for merging and for tests.
    pub fn dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.val(),
        }
    }
}
