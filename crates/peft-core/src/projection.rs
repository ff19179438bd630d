//! A linear map with room for an adapter.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use rekindle_kernels as kernels;
use rekindle_quant::BaseWeight;

use crate::Adapter;

/// `y = W x + b`, or the adapted form of it.
#[derive(Module, Debug)]
pub struct Projection {
    base: BaseWeight,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<Adapter>,
}

impl Projection {
    /// A projection without adapter.
    pub fn new(base: BaseWeight, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { base, bias, adapter: None }
    }

    /// The same projection with its base frozen and `adapter` in place of any earlier one.
    #[must_use]
    pub fn attach(self, adapter: Adapter) -> Self {
        let Self { base, bias, .. } = self;
        let base = base.set_require_grad(false);
        Self { base, bias: bias.map(|it| it.set_require_grad(false)), adapter: Some(adapter) }
    }

    /// The same projection without its adapter.
    #[must_use]
    pub fn without_adapter(self) -> Self {
        Self { adapter: None, ..self }
    }

    /// `x [batch, seq, d_in]` to `[batch, seq, d_out]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = match &self.adapter {
            Some(adapter) => adapter.math().forward(x, &self.base),
            None => self.base.linear(x),
        };
        match &self.bias {
            Some(bias) => {
                let bias = kernels::in_dtype(bias.val(), y.dtype());
                y + bias.unsqueeze()
            }
            None => y,
        }
    }

    /// `[1]` with the gradients of `Σ grad ⊙ forward(x)`, to be called `backward` on; the product
    /// with the base weight is not made.
    pub fn pull(&self, x: Tensor<3>, grad: Tensor<3>) -> Tensor<1> {
        let mut total = match &self.adapter {
            Some(adapter) => adapter.math().pull(x, &self.base, grad.clone()),
            None => self.base.linear_pull(x, grad.clone()),
        };
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.is_require_grad()) {
            let [_, _, d_out] = grad.dims();
            let sum = grad.sum_dim(0).sum_dim(1).reshape([d_out]);
            let bias = kernels::in_dtype(bias.val(), sum.dtype());
            total = total + kernels::pull(bias, sum);
        }
        total
    }

    /// The base weight.
    pub fn base(&self) -> &BaseWeight {
        &self.base
    }

    /// The bias `[d_out]`, if there is one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The weight `[d_out, d_in]` with the adapter, if any, merged into it.
    pub fn merged(&self) -> Tensor<2> {
        match &self.adapter {
            Some(adapter) => adapter.math().merge(self.base.dense()),
            None => self.base.dense(),
        }
    }
}
