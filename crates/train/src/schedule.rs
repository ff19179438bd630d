//! Learning-rate schedules.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A learning-rate schedule: linear warm-up, then a decay.
///
/// Equal to the `get_*_schedule` functions of transformers for every step up to the last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What follows the warm-up.
    pub decay: Decay,
    /// Steps over which the rate grows to its peak, from 0 or [`Decay::WarmupStableDecay`]'s least.
    pub warmup_steps: u64,
    /// Steps of the whole run, warm-up included.
    pub total_steps: u64,
}

/// How the learning rate falls after the warm-up; t goes from 0 to 1 over the steps after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// It stays at the peak.
    Constant,
    /// It falls to 0 along a line.
    Linear,
    /// It falls along half a cosine: r + (1 − r) · (1 + cos π·t) / 2.
    ///
    /// Loshchilov & Hutter 2016 (arXiv:1608.03983), eq. 5, with one period.
    Cosine {
        /// r, the rate at the end over the peak, from 0 to 1.
        min_ratio: f64,
    },
    /// It falls to 0 along half a cosine, several times, each time from the peak.
    ///
    /// Loshchilov & Hutter 2016 (arXiv:1608.03983), eq. 5, with periods of equal length.
    CosineWithRestarts {
        /// How many times.
        num_cycles: u64,
    },
    /// It falls along a power: r + (1 − r) · (1 − t)ᵖ.
    Polynomial {
        /// p, above 0.
        power: f64,
        /// r, the rate at the end over the peak, from 0 to 1.
        end_ratio: f64,
    },
    /// It falls as √(τ / (s + τ)), with s the steps after the warm-up.
    ///
    /// Zhai et al. 2022 (arXiv:2106.04560), §3.5.
    InverseSqrt {
        /// τ in steps; the warm-up's, or 10,000 without one, if not given.
        timescale: Option<u64>,
    },
    /// It stays at the peak until `decay_steps` before the end, then falls.
    ///
    /// Hu et al. 2024 (arXiv:2404.06395), eq. 1. Departure, as in transformers: the warm-up begins
    /// at `min_ratio`.
    WarmupStableDecay {
        /// Steps of the fall.
        decay_steps: u64,
        /// Its form.
        form: DecayForm,
        /// The rate at both ends over the peak, from 0 to 1.
        min_ratio: f64,
    },
}

/// The fall from 1 to 0 while t goes from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayForm {
    /// 1 − t
    Linear,
    /// (1 + cos π·t) / 2
    Cosine,
    /// 1 − √t
    OneMinusSqrt,
}

impl Schedule {
    /// The factor on the peak learning rate at `step`, counted from 0; finite for every input.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let progress = step as f64 / self.warmup_steps as f64;
            return match self.decay {
                Decay::WarmupStableDecay { min_ratio, .. } => above(min_ratio, progress),
                _ => progress,
            };
        }
        let since = (step - self.warmup_steps) as f64;
        let steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = (since / steps as f64).min(1.0);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear if self.total_steps <= self.warmup_steps => 0.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine { min_ratio } => above(min_ratio, half_cosine(progress)),
            Decay::CosineWithRestarts { .. } if progress >= 1.0 => 0.0,
            Decay::CosineWithRestarts { num_cycles } => {
                half_cosine((num_cycles as f64 * progress).fract())
            }
            Decay::Polynomial { power, end_ratio } => {
                above(end_ratio, (1.0 - progress).powf(power))
            }
            Decay::InverseSqrt { timescale } => {
                let by_warmup = if self.warmup_steps > 0 { self.warmup_steps } else { 10_000 };
                let timescale = timescale.unwrap_or(by_warmup).max(1) as f64;
                (timescale / (since + timescale)).sqrt()
            }
            Decay::WarmupStableDecay { decay_steps, form, min_ratio } => {
                above(min_ratio, form.at(self.fall(step, decay_steps)))
            }
        }
    }

    /// How much of the last `decay_steps` has passed at `step`, from 0 to 1.
    fn fall(&self, step: u64, decay_steps: u64) -> f64 {
        let left = self.total_steps.saturating_sub(step);
        let passed = decay_steps.saturating_sub(left);
        if left == 0 { 1.0 } else { passed as f64 / decay_steps.max(1) as f64 }
    }
}

impl DecayForm {
    fn at(self, progress: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - progress,
            Self::Cosine => half_cosine(progress),
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
        }
    }
}

fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (PI * progress).cos())
}

/// `factor`, from 0 to 1, as a place between `least` and 1.
fn above(least: f64, factor: f64) -> f64 {
    least + (1.0 - least) * factor
}

#[cfg(test)]
mod tests {
    use rekindle_testkit::{Golden, assert_close};

    use super::*;

    /// Every decay of the golden file by its name there.
    fn decays() -> Vec<(String, Decay)> {
        let mut decays = vec![
            ("constant".to_owned(), Decay::Constant),
            ("linear".to_owned(), Decay::Linear),
            ("cosine".to_owned(), Decay::Cosine { min_ratio: 0.0 }),
            ("cosine_min".to_owned(), Decay::Cosine { min_ratio: 0.1 }),
            ("inverse_sqrt.own".to_owned(), Decay::InverseSqrt { timescale: Some(7) }),
            ("inverse_sqrt.default".to_owned(), Decay::InverseSqrt { timescale: None }),
        ];
        for num_cycles in [1, 3] {
            let name = format!("cosine_with_restarts.{num_cycles}");
            decays.push((name, Decay::CosineWithRestarts { num_cycles }));
        }
        // The base rate there is 0.5.
        for (name, power, end_ratio) in [("line", 1.0, 1e-7 / 0.5), ("square", 2.0, 0.05 / 0.5)] {
            let name = format!("polynomial.{name}");
            decays.push((name, Decay::Polynomial { power, end_ratio }));
        }
        let forms = [
            ("linear", DecayForm::Linear),
            ("cosine", DecayForm::Cosine),
            ("1-sqrt", DecayForm::OneMinusSqrt),
        ];
        for (name, form) in forms {
            for min_ratio in [0.0, 0.1] {
                let decay = Decay::WarmupStableDecay { decay_steps: 6, form, min_ratio };
                decays.push((format!("wsd.{name}.{min_ratio:.1}"), decay));
            }
        }
        decays
    }

    #[test]
    fn schedules_match_transformers() {
        let golden = Golden::open("train/schedules.safetensors");
        let decays = decays();
        assert_eq!(golden.names().len(), 3 * decays.len());
        for (name, decay) in decays {
            for warmup_steps in [0, 1, 5] {
                let schedule = Schedule { decay, warmup_steps, total_steps: 20 };
                let ours: Vec<f32> = (0..=20).map(|step| schedule.at(step) as f32).collect();
                let expected = golden.floats(&format!("{name}.{warmup_steps}"));
                assert_close(&ours, &expected, 1e-6, 1e-7);
            }
        }
    }

    #[test]
    fn empty_and_single_step_runs_have_finite_rates() {
        let mut decays = decays();
        let odd = [
            Decay::InverseSqrt { timescale: Some(0) },
            Decay::CosineWithRestarts { num_cycles: 0 },
            Decay::WarmupStableDecay { decay_steps: 0, form: DecayForm::Linear, min_ratio: 0.0 },
            Decay::WarmupStableDecay {
                decay_steps: u64::MAX,
                form: DecayForm::OneMinusSqrt,
                min_ratio: 0.0,
            },
        ];
        decays.extend(odd.map(|decay| (String::new(), decay)));
        for (_, decay) in decays {
            for (warmup_steps, total_steps) in [(0, 0), (0, 1), (1, 1), (1, 0), (7, 3)] {
                let schedule = Schedule { decay, warmup_steps, total_steps };
                for step in [0, 1, 2, 100, u64::MAX] {
                    let factor = schedule.at(step);
                    assert!((0.0..=1.0).contains(&factor), "{schedule:?} at {step}: {factor}");
                }
            }
        }
    }
}
