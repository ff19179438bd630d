//! Lion: the sign of an interpolated mean.

use burn::tensor::Tensor;

use super::state::all_numbers;
use super::update::{ParamUpdate, UpdateRule};
use super::{Slot, StateTensor};

/// Evolved sign momentum.
///
/// c = β₁·m + (1 − β₁)·g; θ ← θ − η·λ·θ − η·sign(c); m ← β₂·m + (1 − β₂)·g
///
/// Chen et al. 2023 (arXiv:2302.06675), program 1 and algorithm 2, as `bitsandbytes.optim.Lion`
/// has it: the decay comes before the step, which changes η·λ·θ by nothing but rounding.
///
/// State: `m`, f32, in the parameter's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Lion {
    /// β₁, the weight of the mean in the direction of the step.
    pub beta1: f64,
    /// β₂, the decay of the mean of gradients.
    pub beta2: f64,
    /// λ, the decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for Lion {
    /// The defaults of bitsandbytes and of the paper: β = (0.9, 0.99), no decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

impl UpdateRule for Lion {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::numbers("m", shape)]
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let [m] = all_numbers(state);
        let decay_factor = param.decay_factor();
        let ParamUpdate { lr, value, grad, .. } = param;
        let direction =
            m.clone().mul_scalar(self.beta1) + grad.clone().mul_scalar(1.0 - self.beta1);
        let m = m.mul_scalar(self.beta2) + grad.mul_scalar(1.0 - self.beta2);
        (
            value.mul_scalar(decay_factor) - direction.sign().mul_scalar(lr),
            vec![StateTensor::Numbers(m)],
        )
    }
}
