//! Rotary position embedding: its base and how long contexts stretch it.

use std::f64::consts::TAU;

use serde::Serialize;

use super::{out_of_range, positive, within};
use crate::error::ModelError;

/// How the frequencies are stretched beyond the context of pre-training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`. Chen et al. 2023 (arXiv:2306.15595).
    Linear {
        /// What positions are divided by.
        factor: f64,
    },
    /// A base that grows once a text is longer than the original context: times
    /// `(factor · length / original − factor + 1) ^ (dims / (dims − 2))`.
    /// bloc97 2023, "Dynamically scaled RoPE", after Peng & Quesnelle; as in transformers.
    Dynamic {
        /// How much longer the context becomes.
        factor: f64,
        /// The original context, in tokens.
        original_max_positions: usize,
    },
    /// High frequencies kept, low ones divided by `factor`, a ramp over dimensions between.
    /// Peng et al. 2023 (arXiv:2309.00071), eq. 11 to 15 and 22.
    Yarn(Yarn),
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
    /// Every frequency divided by a number of its own, another one for texts longer than the
    /// original context. Ding et al. 2024 (arXiv:2402.13753), §3.
    #[serde(rename = "longrope")]
    LongRope {
        /// Divisors for texts within the original context.
        short_factor: Vec<f64>,
        /// Divisors for longer texts.
        long_factor: Vec<f64>,
        /// The original context, in tokens.
        original_max_positions: usize,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
}

/// The numbers of [`RopeScaling::Yarn`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Yarn {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// The original context, in tokens.
    pub original_max_positions: usize,
    /// Turns within the original context above which a frequency is kept.
    pub beta_fast: f64,
    /// Turns within the original context below which a frequency is divided.
    pub beta_slow: f64,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    /// Whether the ends of the ramp are whole dimensions.
    pub truncate: bool,
}

/// Rotary position embedding. Su et al. 2021 (arXiv:2104.09864), eq. 15.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Dimensions of a head that are rotated, from the first; even.
    pub dims: usize,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// The angle per token of each pair of dimensions in a text of `length` tokens, in radians:
    /// `dims / 2` numbers.
    ///
    /// `ωᵢ = theta^(−2i / dims)`, then stretched.
    pub fn inverse_frequencies(&self, length: usize) -> Vec<f64> {
        let (dims, theta) = (self.dims as f64, self.theta_at(length));
        let plain = (0..self.dims / 2).map(|pair| theta.powf(-((2 * pair) as f64) / dims));
        match &self.scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|it| it / factor).collect(),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: original,
            } => plain
                .map(|frequency| {
                    let turns = *original as f64 * frequency / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                })
                .collect(),
            RopeScaling::Yarn(yarn) => {
                let divided = yarn.ramp(self.theta, self.dims);
                plain.zip(divided).map(|(it, on)| it / yarn.factor * on + it * (1.0 - on)).collect()
            }
            RopeScaling::LongRope { short_factor, long_factor, original_max_positions, .. } => {
                let long = length > *original_max_positions;
                let divisors = if long { long_factor } else { short_factor };
                plain.zip(divisors).map(|(it, divisor)| it / divisor).collect()
            }
        }
    }

    /// Whether a longer text has other frequencies than a shorter one.
    pub fn depends_on_length(&self) -> bool {
        self.length_of_change().is_some()
    }

    /// The length, in tokens, up to which all texts have the same frequencies, where longer ones
    /// have others.
    pub fn length_of_change(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::Dynamic { original_max_positions, .. } => Some(*original_max_positions),
            _ => self.length_of_switch(),
        }
    }

    /// The length up to which the frequencies of [`RopeScaling::LongRope`] are the short ones,
    /// where the long ones are others.
    pub fn length_of_switch(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope { short_factor, long_factor, original_max_positions, .. } => {
                Some(*original_max_positions).filter(|_| short_factor != long_factor)
            }
            _ => None,
        }
    }

    /// What cosines and sines are multiplied by.
    pub fn magnitude(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        }
    }

    /// The base in a text of `length` tokens.
    fn theta_at(&self, length: usize) -> f64 {
        let RopeScaling::Dynamic { factor, original_max_positions: original } = self.scaling else {
            return self.theta;
        };
        let stretch = factor * length.max(original) as f64 / original as f64 - (factor - 1.0);
        let dims = self.dims as f64;
        self.theta * stretch.powf(dims / (dims - 2.0))
    }

    pub(super) fn check(&self, head_dim: usize) -> Result<(), ModelError> {
        positive("rope_theta", self.theta)?;
        if self.dims == 0 || self.dims > head_dim || !self.dims.is_multiple_of(2) {
            let wanted = format!("an even number of rotated dimensions up to {head_dim}");
            return Err(out_of_range("head_dim", self.dims, wanted));
        }
        self.scaling.check(self.dims)
    }
}

const FACTOR: &str = "rope_scaling.factor";
const ORIGINAL: &str = "rope_scaling.original_max_position_embeddings";

impl RopeScaling {
    fn check(&self, dims: usize) -> Result<(), ModelError> {
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => positive(FACTOR, *factor),
            Self::Dynamic { factor, original_max_positions } => {
                if dims < 4 {
                    return Err(out_of_range("head_dim", dims, "at least 4 for dynamic scaling"));
                }
                at_least_one(FACTOR, *factor)?;
                within(ORIGINAL, *original_max_positions, 1 << 26)
            }
            Self::Yarn(yarn) => yarn.check(),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions,
            } => {
                positive(FACTOR, *factor)?;
                positive("rope_scaling.low_freq_factor", *low)?;
                positive("rope_scaling.high_freq_factor", *high)?;
                if high <= low {
                    let wanted = format!("more than `low_freq_factor`, which is {low}");
                    return Err(out_of_range("rope_scaling.high_freq_factor", high, wanted));
                }
                within(ORIGINAL, *original_max_positions, 1 << 26)
            }
            Self::LongRope {
                short_factor,
                long_factor,
                original_max_positions,
                attention_factor,
            } => {
                let lists = [("short_factor", short_factor), ("long_factor", long_factor)];
                for (name, list) in lists {
                    let key = format!("rope_scaling.{name}");
                    if list.len() != dims / 2 {
                        let wanted = format!("{} numbers, one a pair of dimensions", dims / 2);
                        return Err(out_of_range(&key, format!("{} numbers", list.len()), wanted));
                    }
                    list.iter().try_for_each(|&divisor| positive(&key, divisor))?;
                }
                positive("rope_scaling.attention_factor", *attention_factor)?;
                within(ORIGINAL, *original_max_positions, 1 << 26)
            }
        }
    }
}

impl Yarn {
    /// How far each pair of `dims / 2` is divided: 0 where its frequency is kept, 1 where it is
    /// divided by the whole factor.
    fn ramp(&self, theta: f64, dims: usize) -> impl Iterator<Item = f64> + use<> {
        let original = self.original_max_positions as f64;
        // The pair that turns `turns` times within the original context.
        let pair = |turns: f64| dims as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        (0..dims / 2).map(move |it| ((it as f64 - low) / (high - low)).clamp(0.0, 1.0))
    }

    /// `0.1 · mscale · ln(factor) + 1`: how much longer queries and keys become.
    /// Peng et al. 2023 (arXiv:2309.00071), eq. 22.
    pub(super) fn magnitude(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one(FACTOR, self.factor)?;
        positive("rope_scaling.attention_factor", self.attention_factor)?;
        positive("rope_scaling.beta_slow", self.beta_slow)?;
        positive("rope_scaling.beta_fast", self.beta_fast)?;
        if self.beta_fast < self.beta_slow {
            let wanted = format!("at least `beta_slow`, which is {}", self.beta_slow);
            return Err(out_of_range("rope_scaling.beta_fast", self.beta_fast, wanted));
        }
        within(ORIGINAL, self.original_max_positions, 1 << 26)
    }
}

fn at_least_one(key: &str, value: f64) -> Result<(), ModelError> {
    if value >= 1.0 && value.is_finite() {
        return Ok(());
    }
    Err(out_of_range(key, value, "a finite number from 1 up"))
}
