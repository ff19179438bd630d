//! Stochastic gradient descent with momentum.

use burn::tensor::Tensor;

use super::state::all_numbers;
use super::update::{ParamUpdate, UpdateRule};
use super::{Slot, StateTensor};

/// Stochastic gradient descent, with momentum if it is not 0.
///
/// g ← g + λ·θ; b ← μ·b + (1 − τ)·g, at the first update b ← g; with Nesterov's momentum
/// θ ← θ − η·(g + μ·b), otherwise θ ← θ − η·b.
///
/// Sutskever et al. 2013 (PMLR 28:1139), eq. 1 to 4, as `torch.optim.SGD` departs from it: the
/// learning rate multiplies the whole step instead of the gradient alone, and the weight decay is
/// added to the gradient.
///
/// State: `momentum`, f32, in the parameter's shape; none if μ is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// μ, the decay of the sum of gradients.
    pub momentum: f64,
    /// τ, what is left out of each gradient after the first; 0 with Nesterov's momentum.
    pub dampening: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// λ, the weight decay, added to the gradient.
    pub weight_decay: f64,
}

impl Default for Sgd {
    /// PyTorch's defaults: no momentum, no decay.
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl UpdateRule for Sgd {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        match self.momentum {
            0.0 => Vec::new(),
            _ => vec![Slot::numbers("momentum", shape)],
        }
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let ParamUpdate { lr, weight_decay, steps, value, grad, .. } = param;
        let grad = match weight_decay {
            0.0 => grad,
            decay => grad + value.clone().mul_scalar(decay),
        };
        if self.momentum == 0.0 {
            return (value - grad.mul_scalar(lr), state);
        }
        let [sum] = all_numbers(state);
        let sum = match steps {
            1 => grad.clone(),
            _ => sum.mul_scalar(self.momentum) + grad.clone().mul_scalar(1.0 - self.dampening),
        };
        let step = match self.nesterov {
            true => grad + sum.clone().mul_scalar(self.momentum),
            false => sum.clone(),
        };
        (value - step.mul_scalar(lr), vec![StateTensor::Numbers(sum)])
    }
}
