//! Learning-rate schedules.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A learning-rate schedule: linear warm-up, then a decay.
///
/// Equal to the `get_*_schedule_with_warmup` functions of transformers for every step up to the
/// last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What follows the warm-up.
    pub decay: Decay,
    /// Steps over which the rate grows from 0 to its peak.
    pub warmup_steps: u64,
    /// Steps of the whole run, warm-up included.
    pub total_steps: u64,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// It stays at the peak.
    Constant,
    /// It falls to 0 along a line.
    Linear,
    /// It falls along half a cosine: r + (1 − r) · (1 + cos π·t) / 2 for t from 0 to 1.
    Cosine {
        /// r, the rate at the end over the peak, from 0 to 1.
        min_ratio: f64,
    },
}

impl Schedule {
    /// The factor on the peak learning rate at `step`, counted from 0; finite for every input.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / steps as f64).min(1.0);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear if self.total_steps <= self.warmup_steps => 0.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine { min_ratio } => {
                min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_testkit::{Golden, assert_close};

    use super::*;

    #[test]
    fn schedules_match_transformers() {
        let golden = Golden::open("train/schedules.safetensors");
        let decays = [
            ("constant", Decay::Constant),
            ("linear", Decay::Linear),
            ("cosine", Decay::Cosine { min_ratio: 0.0 }),
            ("cosine_min", Decay::Cosine { min_ratio: 0.1 }),
        ];
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
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine { min_ratio: 0.0 }] {
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
