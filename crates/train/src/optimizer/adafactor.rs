//! Adafactor: a second moment of rows and columns.

use burn::tensor::{DType, Tensor};

use super::update::{ParamUpdate, UpdateRule};
use super::{Slot, StateTensor};

/// Adam with a factored second moment, clipped updates and, if asked, relative step sizes.
///
/// R ← β₂ₜ·R + (1 − β₂ₜ)·mean over columns of (g² + ε₁), C likewise over rows, with
/// β₂ₜ = 1 − t^γ; u = g / √(R·C / mean R); u ← u / max(1, RMS(u) / d);
/// θ ← θ − α·λ·θ − α·u, where α is η, times max(ε₂, RMS(θ)) if `scale_parameter`, times
/// min(0.01, 1/√t) if `relative_step`; with `warmup_init` 1e-6·t stands for 0.01.
/// Parameters of one dimension have v in place of R and C.
///
/// Shazeer & Stern 2018 (arXiv:1804.04235), algorithms 4 and 5, as
/// `transformers.optimization.Adafactor` has it: the mean instead of the sum normalises R, a
/// parameter of more than two dimensions is a stack of matrices, and the optional first moment
/// (β₁) is a mean of the finished steps α·u.
/// Departure: with `relative_step` the learning rate that the loop gives multiplies the relative
/// step, so that a schedule has its effect; give 1 to have transformers' numbers.
///
/// State: `row` and `col`, or `v`; with β₁ also `m`, in the parameter's shape; f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Adafactor {
    /// ε₁, added to squared gradients.
    pub epsilon1: f64,
    /// ε₂, the least scale of a parameter.
    pub epsilon2: f64,
    /// d, the root mean square above which an update is scaled down.
    pub clip_threshold: f64,
    /// γ, below 0: the exponent of the second moment's decay.
    pub decay_rate: f64,
    /// β₁, the decay of the mean of steps; `None` keeps no such mean.
    pub beta1: Option<f64>,
    /// λ, the decoupled weight decay.
    pub weight_decay: f64,
    /// Whether steps are in proportion to the parameter's root mean square.
    pub scale_parameter: bool,
    /// Whether the step size falls with the count of updates.
    pub relative_step: bool,
    /// Whether relative steps begin at 1e-6 and grow; needs `relative_step`.
    pub warmup_init: bool,
}

impl Default for Adafactor {
    /// As `TrainingArguments(optim="adafactor")` of transformers: an outer learning rate.
    fn default() -> Self {
        Self {
            epsilon1: 1e-30,
            epsilon2: 1e-3,
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta1: None,
            weight_decay: 0.0,
            scale_parameter: false,
            relative_step: false,
            warmup_init: false,
        }
    }
}

impl UpdateRule for Adafactor {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        let mut slots = match shape {
            [outer @ .., rows, columns] => {
                let with = |last: usize| [outer, &[last]].concat();
                vec![Slot::numbers("row", &with(*rows)), Slot::numbers("col", &with(*columns))]
            }
            _ => vec![Slot::numbers("v", shape)],
        };
        if self.beta1.is_some() {
            slots.push(Slot::numbers("m", shape));
        }
        slots
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let rate = self.rate(&param);
        let beta2 = 1.0 - (param.steps as f64).powf(self.decay_rate);
        let ParamUpdate { shape, value, grad, weight_decay, .. } = param;
        let mut state = state.into_iter().map(StateTensor::numbers);
        let mut next = || state.next().expect("a state has one tensor for each slot of its rule");
        let squared = grad.clone().square().add_scalar(self.epsilon1);
        let (inverse_root, mut new) = match shape {
            [outer @ .., rows, columns] => {
                let sizes = [outer.iter().product(), *rows, *columns];
                factored(squared.reshape(sizes), next(), next(), beta2)
            }
            _ => {
                let v = mixed(next(), squared, beta2);
                (v.clone().sqrt().recip(), vec![v])
            }
        };
        let update = inverse_root * grad;
        let excess = rms(update.clone()).div_scalar(self.clip_threshold).clamp_min(1.0);
        let mut update = update / excess * rate.clone();
        if let Some(beta1) = self.beta1 {
            update = next().mul_scalar(beta1) + update.mul_scalar(1.0 - beta1);
            new.push(update.clone());
        }
        let value = match weight_decay {
            0.0 => value,
            decay => value.clone() - value * rate.mul_scalar(decay),
        };
        (value - update, new.into_iter().map(StateTensor::Numbers).collect())
    }
}

impl Adafactor {
    /// α, shape `[1]`.
    fn rate(&self, param: &ParamUpdate<'_>) -> Tensor<1> {
        let steps = param.steps as f64;
        let first = if self.warmup_init { 1e-6 * steps } else { 1e-2 };
        let relative = if self.relative_step { first.min(steps.sqrt().recip()) } else { 1.0 };
        let rate = param.lr * relative;
        match self.scale_parameter {
            true => rms(param.value.clone()).clamp_min(self.epsilon2).mul_scalar(rate),
            false => Tensor::full([1], rate, (&param.value.device(), DType::F32)),
        }
    }
}

/// 1 / √(R·C / mean R), flat, with the new R and C; `squared` is a stack of matrices.
fn factored(
    squared: Tensor<3>,
    row: Tensor<1>,
    col: Tensor<1>,
    beta2: f64,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let [outer, rows, columns] = squared.dims();
    let row_means = squared.clone().mean_dim(2).reshape([outer * rows]);
    let col_means = squared.mean_dim(1).reshape([outer * columns]);
    let row = mixed(row, row_means, beta2);
    let col = mixed(col, col_means, beta2);
    let by_row = row.clone().reshape([outer, rows, 1]);
    let by_row = (by_row.clone() / by_row.mean_dim(1)).sqrt().recip();
    let by_col = col.clone().reshape([outer, 1, columns]).sqrt().recip();
    ((by_row * by_col).reshape([outer * rows * columns]), vec![row, col])
}

fn mixed(old: Tensor<1>, new: Tensor<1>, beta: f64) -> Tensor<1> {
    old.mul_scalar(beta) + new.mul_scalar(1.0 - beta)
}

/// The root mean square, shape `[1]`.
fn rms(tensor: Tensor<1>) -> Tensor<1> {
    let [elements] = tensor.dims();
    tensor.square().sum().sqrt().div_scalar((elements as f64).sqrt())
}
