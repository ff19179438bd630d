//! The closed set of methods.

use super::update::UpdateRule;
use super::{Adafactor, AdamW, AdamW8bit, Lion, Muon, Sgd};

/// Which formula updates the parameters, with its settings.
#[derive(Debug, Clone)]
pub enum OptimizerMethod {
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// AdamW with moments of one byte a number.
    AdamW8bit(AdamW8bit),
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// The sign of an interpolated mean.
    Lion(Lion),
    /// A second moment of rows and columns.
    Adafactor(Adafactor),
    /// Orthogonalised momentum, with AdamW for what is no hidden matrix.
    Muon(Muon),
}

impl OptimizerMethod {
    /// The method's name as it stands in recipes and checkpoints.
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

    /// The formula for one parameter.
    pub(super) fn rule(&self, path: &str, shape: &[usize]) -> &dyn UpdateRule {
        let elements = shape.iter().product::<usize>();
        match self {
            Self::AdamW(adamw) => adamw,
            Self::AdamW8bit(small) if elements < small.min_8bit_size => &small.adamw,
            Self::AdamW8bit(adamw) => adamw,
            Self::Sgd(sgd) => sgd,
            Self::Lion(lion) => lion,
            Self::Adafactor(adafactor) => adafactor,
            Self::Muon(muon) if muon.takes(path, shape) => muon,
            Self::Muon(muon) => &muon.adamw,
        }
    }

    /// The learning rate of one parameter over the one that the loop gives.
    pub(super) fn lr_factor(&self, path: &str, shape: &[usize]) -> f64 {
        match self {
            Self::Muon(muon) if !muon.takes(path, shape) => muon.adamw_lr_factor,
            _ => 1.0,
        }
    }
}

macro_rules! from_settings {
    ($($method:ident),*) => {$(
        impl From<$method> for OptimizerMethod {
            fn from(settings: $method) -> Self {
                Self::$method(settings)
            }
        }
    )*};
}

from_settings!(AdamW, AdamW8bit, Sgd, Lion, Adafactor, Muon);
