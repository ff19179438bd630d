//! Rotary position embedding: its base and how long contexts stretch it.

use std::f64::consts::TAU;

use serde::Serialize;

use super::out_of_range;
use crate::error::ModelError;

/// How the frequencies are stretched beyond the context of pre-training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`. Chen et al. 2023 (arXiv:2306.15595).
    Linear {
        /// What positions are divided by.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated.
    /// Grattafiori et al. 2024 (arXiv:2407.21783), as in the released Llama 3.1 configs.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Turns within the original context below which a frequency is low.
        low_freq_factor: f64,
        /// Turns within the original context above which a frequency is high.
        high_freq_factor: f64,
        /// The original context, in tokens.
        original_max_positions: usize,
    },
}

/// Rotary position embedding. Su et al. 2021 (arXiv:2104.09864), eq. 15.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// The angle per token of each pair of dimensions, in radians: `head_dim / 2` numbers.
    ///
    /// `ωᵢ = theta^(−2i / head_dim)`, then stretched.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|pair_idx| {
                let exponent = -((2 * pair_idx) as f64) / head_dim as f64;
                self.scaling.stretch(self.theta.powf(exponent))
            })
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        positive("rope_theta", self.theta)?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("rope_scaling.factor", factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: original,
            } => {
                positive("rope_scaling.factor", factor)?;
                positive("rope_scaling.low_freq_factor", low)?;
                positive("rope_scaling.high_freq_factor", high)?;
                if high <= low {
                    let wanted = format!("more than `low_freq_factor`, which is {low}");
                    return Err(out_of_range("rope_scaling.high_freq_factor", high, wanted));
                }
                let key = "rope_scaling.original_max_position_embeddings";
                super::within(key, original, 1 << 26)
            }
        }
    }
}

impl RopeScaling {
    /// The stretched form of a frequency in radians per token.
    fn stretch(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: original,
            } => {
                let turns = original as f64 * frequency / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

fn positive(key: &str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(out_of_range(key, value, "a finite number above 0"))
}
