//! AdamW with f32 state.

use burn::tensor::Tensor;

use super::state::all_numbers;
use super::update::{ParamUpdate, UpdateRule};
use super::{Slot, StateTensor};

/// Adam with decoupled weight decay.
///
/// m ← β₁·m + (1 − β₁)·g and v ← β₂·v + (1 − β₂)·g²;
/// θ ← θ − η·λ·θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, as `torch.optim.AdamW` departs from
/// it: the decay is multiplied by the learning rate η, there is no other schedule multiplier, and
/// the decay comes before the gradient step.
///
/// State: `m` and `v`, f32, in the parameter's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// β₁, the decay of the mean of gradients.
    pub beta1: f64,
    /// β₂, the decay of the mean of squared gradients.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub epsilon: f64,
    /// λ, the decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for AdamW {
    /// PyTorch's defaults: β = (0.9, 0.999), ε = 1e-8, λ = 1e-2.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

impl UpdateRule for AdamW {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::numbers("m", shape), Slot::numbers("v", shape)]
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let [m, v] = all_numbers(state);
        let bias1 = param.bias_correction(self.beta1);
        let root_bias2 = param.bias_correction(self.beta2).sqrt();
        let decay_factor = param.decay_factor();
        // Taken apart, not borrowed: a tensor with one owner is updated in place.
        let ParamUpdate { lr, value, grad, .. } = param;
        let scaled = grad.clone().mul_scalar(1.0 - self.beta1);
        let squared = grad.square().mul_scalar(1.0 - self.beta2);
        let m = m.mul_scalar(self.beta1) + scaled;
        let v = v.mul_scalar(self.beta2) + squared;
        // Both sides of the fraction are multiplied by √(1 − β₂ᵗ), which saves an operation.
        let denominator = v.clone().sqrt().add_scalar(self.epsilon * root_bias2);
        let delta = (m.clone() / denominator).mul_scalar(lr * root_bias2 / bias1);
        (
            value.mul_scalar(decay_factor) - delta,
            vec![StateTensor::Numbers(m), StateTensor::Numbers(v)],
        )
    }
}
