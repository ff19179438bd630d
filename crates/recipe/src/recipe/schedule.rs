//! `[train.schedule.*]`: course of the learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Course of the learning rate after the warm-up.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Down to zero in a straight line.
    Linear(LinearSchedule),
    /// Down along half a cosine. Loshchilov and Hutter 2016 (arXiv:1608.03983), eq. 5.
    Cosine(CosineSchedule),
    /// Down to zero along half a cosine, several times.
    CosineWithRestarts(CosineWithRestartsSchedule),
    /// Down along a power.
    Polynomial(PolynomialSchedule),
    /// Down as the inverse square root of the steps. Zhai et al. 2022 (arXiv:2106.04560).
    InverseSqrt(InverseSqrtSchedule),
    /// At its peak until the last steps. Hu et al. 2024 (arXiv:2404.06395), eq. 1.
    Wsd(WsdSchedule),
    /// Stays at its peak.
    Constant(ConstantSchedule),
}

impl Default for Schedule {
    // transformers TrainingArguments.lr_scheduler_type
    fn default() -> Self {
        Self::Linear(LinearSchedule::default())
    }
}

/// A number of updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// This many updates.
    Steps(u64),
    /// This part of all updates.
    Ratio(f64),
}

impl Span {
    /// Updates in a run of `total_steps`.
    pub fn steps(self, total_steps: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Ratio(ratio) => (ratio * total_steps as f64).ceil() as u64,
        }
    }
}

impl Schedule {
    /// The schedule's name as it stands in the recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Cosine(_) => "cosine",
            Self::CosineWithRestarts(_) => "cosine_with_restarts",
            Self::Polynomial(_) => "polynomial",
            Self::InverseSqrt(_) => "inverse_sqrt",
            Self::Wsd(_) => "wsd",
            Self::Constant(_) => "constant",
        }
    }

    /// Length of the warm-up; none if nothing is given (transformers).
    pub fn warmup(&self) -> Span {
        match self.warmup_keys() {
            (None, Some(ratio)) => Span::Ratio(ratio),
            (steps, _) => Span::Steps(steps.unwrap_or(0)),
        }
    }

    pub(super) fn warmup_keys(&self) -> (Option<u64>, Option<f64>) {
        match self {
            Self::Linear(it) => (it.warmup_steps, it.warmup_ratio),
            Self::Cosine(it) => (it.warmup_steps, it.warmup_ratio),
            Self::CosineWithRestarts(it) => (it.warmup_steps, it.warmup_ratio),
            Self::Polynomial(it) => (it.warmup_steps, it.warmup_ratio),
            Self::InverseSqrt(it) => (it.warmup_steps, it.warmup_ratio),
            Self::Wsd(it) => (it.warmup_steps, it.warmup_ratio),
            Self::Constant(it) => (it.warmup_steps, it.warmup_ratio),
        }
    }
}

/// Down to zero in a straight line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinearSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
}

/// Down along half a cosine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CosineSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
    /// Learning rate at the end, as a part of the peak.
    pub min_lr_ratio: f64,
}

/// Down to zero along half a cosine, several times.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CosineWithRestartsSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
    /// How many times the rate falls.
    pub num_cycles: u64,
}

impl Default for CosineWithRestartsSchedule {
    // transformers get_cosine_with_hard_restarts_schedule_with_warmup
    fn default() -> Self {
        Self { warmup_steps: None, warmup_ratio: None, num_cycles: 1 }
    }
}

/// Down along a power.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolynomialSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
    /// Exponent of what is left of the run; 1 is a straight line.
    pub power: f64,
    /// Learning rate at the end.
    pub lr_end: f64,
}

impl Default for PolynomialSchedule {
    // transformers get_polynomial_decay_schedule_with_warmup
    fn default() -> Self {
        Self { warmup_steps: None, warmup_ratio: None, power: 1.0, lr_end: 1e-7 }
    }
}

/// Down as the inverse square root of the steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InverseSqrtSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
    /// Updates after the warm-up that divide the rate by √2; those of the warm-up, or 10,000
    /// without one, if not given.
    pub timescale: Option<u64>,
}

/// At its peak until the last steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WsdSchedule {
    /// Updates during which the rate rises from the least; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from the least.
    pub warmup_ratio: Option<f64>,
    /// Updates at the end during which the rate falls; excludes `decay_ratio`.
    pub decay_steps: Option<u64>,
    /// Part of all updates at the end during which the rate falls; 0.1 if `decay_steps` is not
    /// given either.
    pub decay_ratio: Option<f64>,
    /// Form of the fall.
    pub decay_type: DecayType,
    /// Least learning rate, at both ends, as a part of the peak.
    pub min_lr_ratio: f64,
}

impl WsdSchedule {
    /// Length of the fall; a tenth of the run if nothing is given (Hu et al. 2024, §4.2).
    pub fn decay(&self) -> Span {
        match (self.decay_steps, self.decay_ratio) {
            (Some(steps), _) => Span::Steps(steps),
            (None, ratio) => Span::Ratio(ratio.unwrap_or(0.1)),
        }
    }
}

/// Form of the fall at the end of a `wsd` schedule; t goes from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DecayType {
    /// 1 − t.
    #[serde(rename = "linear")]
    Linear,
    /// Half a cosine.
    #[default]
    #[serde(rename = "cosine")]
    Cosine,
    /// 1 − √t.
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

/// Stays at its peak.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantSchedule {
    /// Updates during which the rate rises from zero; excludes `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Part of all updates during which the rate rises from zero.
    pub warmup_ratio: Option<f64>,
}
