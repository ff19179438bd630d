//! `[train.optimizer.*]` and `[[train.groups]]`: how gradients change the weights.

use rekindle_train as train;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How gradients change the weights.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay. Loshchilov and Hutter 2019 (arXiv:1711.05101).
    #[serde(rename = "adamw")]
    AdamW(AdamWOptimizer),
    /// AdamW with two bytes of state for each weight. Dettmers et al. 2022 (arXiv:2110.02861).
    #[serde(rename = "adamw_8bit")]
    AdamW8bit(AdamW8bitOptimizer),
    /// Stochastic gradient descent. Sutskever et al. 2013 (PMLR 28:1139).
    Sgd(SgdOptimizer),
    /// The sign of a mean of gradients. Chen et al. 2023 (arXiv:2302.06675).
    Lion(LionOptimizer),
    /// Adam with a second moment of rows and columns. Shazeer and Stern 2018 (arXiv:1804.04235).
    Adafactor(AdafactorOptimizer),
    /// Orthogonalised momentum for matrices, AdamW for the rest. Jordan et al. 2024
    /// (kellerjordan.github.io/posts/muon).
    Muon(MuonOptimizer),
}

impl Default for Optimizer {
    // transformers TrainingArguments.optim
    fn default() -> Self {
        Self::AdamW(AdamWOptimizer::default())
    }
}

impl Optimizer {
    /// The optimizer's name as it stands in the recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdamW(_) => "adamw",
            Self::AdamW8bit(_) => "adamw_8bit",
            Self::Sgd(_) => "sgd",
            Self::Lion(_) => "lion",
            Self::Adafactor(_) => "adafactor",
            Self::Muon(_) => "muon",
        }
    }

    /// Whether the steps have a size of their own, so that a learning rate has no meaning.
    pub fn has_relative_steps(&self) -> bool {
        matches!(self, Self::Adafactor(adafactor) if adafactor.relative_step)
    }

    /// Whether the state is on the host between updates.
    pub fn offload(&self) -> bool {
        match self {
            Self::AdamW(it) => it.offload,
            Self::AdamW8bit(it) => it.offload,
            Self::Sgd(it) => it.offload,
            Self::Lion(it) => it.offload,
            Self::Adafactor(it) => it.offload,
            Self::Muon(it) => it.offload,
        }
    }

    /// Has the state wait on the host between updates.
    pub(crate) fn set_offload(&mut self) {
        let offload = match self {
            Self::AdamW(it) => &mut it.offload,
            Self::AdamW8bit(it) => &mut it.offload,
            Self::Sgd(it) => &mut it.offload,
            Self::Lion(it) => &mut it.offload,
            Self::Adafactor(it) => &mut it.offload,
            Self::Muon(it) => &mut it.offload,
        };
        *offload = true;
    }
}

/// AdamW; defaults of `torch.optim.AdamW`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWOptimizer {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Term that keeps the division finite.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f64,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

impl Default for AdamWOptimizer {
    fn default() -> Self {
        let train::AdamW { beta1, beta2, epsilon, weight_decay } = train::AdamW::default();
        Self { beta1, beta2, epsilon, weight_decay, offload: false }
    }
}

/// AdamW with quantised state; defaults of `bitsandbytes.optim.AdamW8bit`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW8bitOptimizer {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Term that keeps the division finite.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f64,
    /// Parameters of fewer elements keep f32 state.
    pub min_8bit_size: usize,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

impl Default for AdamW8bitOptimizer {
    fn default() -> Self {
        let train::AdamW8bit { adamw, min_8bit_size } = train::AdamW8bit::default();
        let train::AdamW { beta1, beta2, epsilon, weight_decay } = adamw;
        Self { beta1, beta2, epsilon, weight_decay, min_8bit_size, offload: false }
    }
}

/// Stochastic gradient descent; defaults of `torch.optim.SGD`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SgdOptimizer {
    /// Decay of the sum of gradients; 0 keeps no state.
    pub momentum: f64,
    /// Part of each gradient after the first that the sum leaves out; needs `momentum`.
    pub dampening: f64,
    /// Whether the momentum is Nesterov's; needs `momentum` and no `dampening`.
    pub nesterov: bool,
    /// Weight decay of matrices, added to the gradient; vectors have none.
    pub weight_decay: f64,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

impl Default for SgdOptimizer {
    fn default() -> Self {
        let train::Sgd { momentum, dampening, nesterov, weight_decay } = train::Sgd::default();
        Self { momentum, dampening, nesterov, weight_decay, offload: false }
    }
}

/// Lion; defaults of `bitsandbytes.optim.Lion`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LionOptimizer {
    /// Weight of the mean in the direction of a step.
    pub beta1: f64,
    /// Decay of the mean of gradients.
    pub beta2: f64,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f64,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

impl Default for LionOptimizer {
    fn default() -> Self {
        let train::Lion { beta1, beta2, weight_decay } = train::Lion::default();
        Self { beta1, beta2, weight_decay, offload: false }
    }
}

/// Adafactor; defaults of transformers' `Trainer`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdafactorOptimizer {
    /// Term added to squared gradients.
    pub epsilon1: f64,
    /// Least root mean square of a parameter; needs `scale_parameter`.
    pub epsilon2: Option<f64>,
    /// Root mean square above which an update is scaled down.
    pub clip_threshold: f64,
    /// Exponent of the second moment's decay, below 0.
    pub decay_rate: f64,
    /// Decay of the mean of steps; none is kept if not given.
    pub beta1: Option<f64>,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f64,
    /// Whether steps are in proportion to a parameter's root mean square.
    pub scale_parameter: bool,
    /// Whether steps have a size of their own that falls with their count; excludes
    /// `train.learning_rate`, and the schedule multiplies it.
    pub relative_step: bool,
    /// Whether relative steps begin at 1e-6 and grow; needs `relative_step`.
    pub warmup_init: bool,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

impl Default for AdafactorOptimizer {
    fn default() -> Self {
        let defaults = train::Adafactor::default();
        Self {
            epsilon1: defaults.epsilon1,
            epsilon2: None,
            clip_threshold: defaults.clip_threshold,
            decay_rate: defaults.decay_rate,
            beta1: defaults.beta1,
            weight_decay: defaults.weight_decay,
            scale_parameter: defaults.scale_parameter,
            relative_step: defaults.relative_step,
            warmup_init: defaults.warmup_init,
            offload: false,
        }
    }
}

/// Muon; defaults of `torch.optim.Muon` and, for the rest, of `torch.optim.AdamW`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MuonOptimizer {
    /// Decay of the mean of gradients.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Decoupled weight decay of the matrices that Muon updates.
    pub weight_decay: f64,
    /// Newton–Schulz iterations.
    pub ns_steps: usize,
    /// How the learning rate depends on a matrix's shape.
    pub adjust_lr: AdjustLr,
    /// Parameters, beside those that are no matrices, which AdamW updates: a regular expression
    /// that matches the whole name. Embeddings and heads if not given.
    pub adamw_match: String,
    /// Peak learning rate of AdamW; `train.learning_rate` if not given.
    pub adamw_learning_rate: Option<f64>,
    /// Decay of AdamW's mean of gradients.
    pub adamw_beta1: f64,
    /// Decay of AdamW's mean of squared gradients.
    pub adamw_beta2: f64,
    /// Term that keeps AdamW's division finite.
    pub adamw_epsilon: f64,
    /// Decoupled weight decay of the matrices that AdamW updates.
    pub adamw_weight_decay: f64,
    /// Keep the state in host memory between updates.
    pub offload: bool,
}

/// The module paths of embeddings and heads.
const EMBEDDINGS_AND_HEADS: &str = r"(.*\.)?(embed_tokens|positions|lm_head)\..*";

impl Default for MuonOptimizer {
    fn default() -> Self {
        let defaults = train::Muon::default();
        Self {
            momentum: defaults.momentum,
            nesterov: defaults.nesterov,
            weight_decay: defaults.weight_decay,
            ns_steps: defaults.ns_steps,
            adjust_lr: AdjustLr::default(),
            adamw_match: EMBEDDINGS_AND_HEADS.to_owned(),
            adamw_learning_rate: None,
            adamw_beta1: defaults.adamw.beta1,
            adamw_beta2: defaults.adamw.beta2,
            adamw_epsilon: defaults.adamw.epsilon,
            adamw_weight_decay: defaults.adamw.weight_decay,
            offload: false,
        }
    }
}

/// How Muon's learning rate depends on a matrix's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// √max(1, rows / columns).
    #[default]
    Original,
    /// 0.2·√max(rows, columns), which takes AdamW's learning rates. Liu et al. 2025
    /// (arXiv:2502.16982), eq. 4.
    MatchRmsAdamw,
    /// √(rows / columns).
    SpectralUnclamped,
}

/// Parameters with a learning rate or a weight decay of their own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSection {
    /// Which parameters: a regular expression that matches the whole name in a checkpoint.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Their peak learning rate.
    pub learning_rate: Option<f64>,
    /// Their weight decay, vectors included.
    pub weight_decay: Option<f64>,
}
