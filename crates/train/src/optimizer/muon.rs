//! Muon: momentum made orthogonal.

use burn::tensor::{FloatDType, Tensor};

use super::state::all_numbers;
use super::update::{ParamUpdate, UpdateRule};
use super::{AdamW, PathPattern, Slot, StateTensor};

/// Momentum orthogonalised by Newton–Schulz, for the matrices between embedding and head.
///
/// b ← μ·b + (1 − μ)·g; u = μ·b + (1 − μ)·g with Nesterov's momentum, otherwise b;
/// θ ← θ − η·λ·θ − η·s·NS(u), with NS five times X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X from X = u / ‖u‖,
/// (a, b, c) = (3.4445, −4.7750, 2.0315).
///
/// Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the scales s of
/// [`AdjustLearningRate`], as `torch.optim.Muon` has it: the momentum is a mean, and every matrix
/// of the iteration is rounded to bf16. Products of those are summed in f32 here and rounded once,
/// as PyTorch's are.
///
/// PyTorch refuses what is not a matrix and leaves it to the caller to split the parameters. Here
/// parameters that are no matrices, and matrices whose path matches `adamw_paths`, are updated by
/// AdamW at the learning rate times `adamw_lr_factor`.
///
/// State: `momentum`, f32, in the parameter's shape, or AdamW's.
#[derive(Debug, Clone)]
pub struct Muon {
    /// μ, the decay of the mean of gradients.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// λ, the decoupled weight decay.
    pub weight_decay: f64,
    /// Newton–Schulz iterations.
    pub ns_steps: usize,
    /// How the learning rate depends on the matrix's shape.
    pub adjust_lr: AdjustLearningRate,
    /// The method of all other parameters.
    pub adamw: AdamW,
    /// AdamW's learning rate over Muon's.
    pub adamw_lr_factor: f64,
    /// Matrices that AdamW updates: the embeddings and heads of a model.
    pub adamw_paths: Option<PathPattern>,
}

/// The scale s of a step for a matrix of `rows` × `columns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AdjustLearningRate {
    /// √max(1, rows / columns), as Jordan's code.
    #[default]
    Original,
    /// 0.2·√max(rows, columns), the step of AdamW. Liu et al. 2025 (arXiv:2502.16982), eq. 4.
    MatchRmsAdamW,
    /// √(rows / columns), as Bernstein derives it.
    SpectralUnclamped,
}

impl Muon {
    /// Whether a parameter is updated by Muon's own formula.
    pub fn takes(&self, path: &str, shape: &[usize]) -> bool {
        shape.len() == 2 && !self.adamw_paths.as_ref().is_some_and(|it| it.matches(path))
    }
}

impl Default for Muon {
    /// PyTorch's defaults, and AdamW's for the rest at the same learning rate.
    fn default() -> Self {
        Self {
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            ns_steps: 5,
            adjust_lr: AdjustLearningRate::default(),
            adamw: AdamW::default(),
            adamw_lr_factor: 1.0,
            adamw_paths: None,
        }
    }
}

impl AdjustLearningRate {
    fn scale(self, rows: usize, columns: usize) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRmsAdamW => 0.2 * rows.max(columns).sqrt(),
            Self::SpectralUnclamped => (rows / columns).sqrt(),
        }
    }
}

impl UpdateRule for Muon {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::numbers("momentum", shape)]
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let [mean] = all_numbers(state);
        let &[rows, columns] = param.shape else { unreachable!("only matrices are given to Muon") };
        let decay_factor = param.decay_factor();
        let ParamUpdate { lr, value, grad, .. } = param;
        let mean = mean.clone() + (grad.clone() - mean).mul_scalar(1.0 - self.momentum);
        let step = match self.nesterov {
            true => mean.clone() + (grad - mean.clone()).mul_scalar(1.0 - self.momentum),
            false => mean.clone(),
        };
        let step = orthogonal(step.reshape([rows, columns]), self.ns_steps);
        let lr = lr * self.adjust_lr.scale(rows, columns);
        let step = step.reshape([rows * columns]).mul_scalar(lr);
        (value.mul_scalar(decay_factor) - step, vec![StateTensor::Numbers(mean)])
    }
}

/// The matrix with singular values near 1, by Newton–Schulz with every result in bf16.
fn orthogonal(matrix: Tensor<2>, steps: usize) -> Tensor<2> {
    const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
    const EPSILON: f64 = 1e-7;
    let (a, b, c) = COEFFICIENTS;
    let [rows, columns] = matrix.dims();
    let tall = rows > columns;
    let x = in_bf16(if tall { matrix.transpose() } else { matrix });
    let norm = in_bf16(x.clone().square().sum().sqrt().reshape([1, 1])).clamp_min(EPSILON);
    let mut x = in_bf16(x / norm);
    for _ in 0..steps {
        let gram = in_bf16(x.clone().matmul(x.clone().transpose()));
        let square = gram.clone().matmul(gram.clone());
        let factor = in_bf16(gram.mul_scalar(b) + square.mul_scalar(c));
        x = in_bf16(x.clone().mul_scalar(a) + factor.matmul(x));
    }
    if tall { x.transpose() } else { x }
}

/// Numbers of bf16, held in f32.
fn in_bf16(tensor: Tensor<2>) -> Tensor<2> {
    tensor.cast(FloatDType::BF16).cast(FloatDType::F32)
}
