//! What the formula of a method is given for one parameter, and what it gives back.

use burn::tensor::Tensor;

use super::block_quantization::Codebooks;
use super::{Slot, StateTensor};

/// The formula of a method, for one parameter at a time.
pub(crate) trait UpdateRule {
    /// The tensors of a parameter's state; all are zeros before the first update.
    fn slots(&self, shape: &[usize]) -> Vec<Slot>;

    /// The weight decay of parameters that no group gives another.
    fn weight_decay(&self) -> f64;

    /// The new value and the new state; `state` has one tensor for each slot, in their order.
    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>);
}

/// One parameter that is to be updated.
pub(crate) struct ParamUpdate<'a> {
    /// The learning rate of this parameter.
    pub lr: f64,
    /// The weight decay of this parameter.
    pub weight_decay: f64,
    /// Updates of this parameter with this one, from 1.
    pub steps: u64,
    /// The parameter's shape.
    pub shape: &'a [usize],
    /// The parameter, flat, plain and f32.
    pub value: Tensor<1>,
    /// Its gradient, as the value.
    pub grad: Tensor<1>,
    /// Where 8-bit states find their code.
    pub codebooks: &'a mut Codebooks,
}

impl ParamUpdate<'_> {
    /// 1 − βᵗ, by which a mean that began at zero falls short.
    pub fn bias_correction(&self, beta: f64) -> f64 {
        1.0 - beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX))
    }

    /// 1 − η·λ, the decoupled decay.
    pub fn decay_factor(&self) -> f64 {
        1.0 - self.lr * self.weight_decay
    }
}
