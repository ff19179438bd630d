//! What is watched while a run goes on: steps that are not finite, losses that leap, a metric that
//! no longer gets better.

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::report::StepNumbers;

/// When a loss counts as a spike, and what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watchdog {
    /// A mean loss per unit above this is a spike.
    pub threshold: f64,
    /// Spikes in a row that are borne; the next one is acted on.
    pub patience: u32,
    /// What is done then.
    pub on_spike: OnSpike,
}

/// What follows losses that stay too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSpike {
    /// The run ends with an error.
    #[default]
    Stop,
    /// Weights and optimizer go back to the last checkpoint, and training goes on with the rows
    /// that come next.
    Rollback,
}

/// How often a run may go back to its last checkpoint before it ends.
pub(crate) const MAX_ROLLBACKS: u32 = 3;

/// Counts steps in a row that were not finite, or whose loss was a spike.
#[derive(Debug)]
pub(crate) struct Guard {
    max_nonfinite: u32,
    watchdog: Option<Watchdog>,
    nonfinite: u32,
    spikes: u32,
    rollbacks: u32,
}

/// What a step's numbers call for.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// The update was left out; the text says why and how often in a row.
    Skipped(String),
    /// Back to the last checkpoint.
    Rollback,
}

impl Guard {
    pub(crate) fn new(max_nonfinite: u32, watchdog: Option<Watchdog>) -> Self {
        Self {
            max_nonfinite: max_nonfinite.max(1),
            watchdog,
            nonfinite: 0,
            spikes: 0,
            rollbacks: 0,
        }
    }

    /// Judges the numbers of `step`; an error ends the run.
    ///
    /// `excused` says why a step that is not finite is no sign of divergence, where it is none.
    pub(crate) fn judge(
        &mut self,
        step: u64,
        numbers: &StepNumbers,
        excused: Option<String>,
    ) -> Result<Verdict, TrainError> {
        let (loss, grad_norm) = (numbers.loss, numbers.grad_norm);
        if !numbers.is_finite() {
            if let Some(why) = excused {
                return Ok(Verdict::Skipped(format!("step {step}: {why}")));
            }
            self.nonfinite += 1;
            let in_a_row = self.nonfinite;
            if in_a_row >= self.max_nonfinite {
                return Err(TrainError::Diverged { step, loss, grad_norm, in_a_row, dump: None });
            }
            return Ok(Verdict::Skipped(format!(
                "step {step}: loss `{loss}`, gradient norm `{grad_norm}`; the update was skipped \
                 ({in_a_row} of at most {} in a row)",
                self.max_nonfinite - 1
            )));
        }
        self.nonfinite = 0;
        let Some(Watchdog { threshold, patience, on_spike }) = self.watchdog else {
            return Ok(Verdict::Fine);
        };
        if loss <= threshold {
            self.spikes = 0;
            return Ok(Verdict::Fine);
        }
        self.spikes += 1;
        if self.spikes <= patience {
            return Ok(Verdict::Fine);
        }
        let (in_a_row, rollbacks) = (self.spikes, self.rollbacks);
        self.spikes = 0;
        if on_spike == OnSpike::Rollback && rollbacks < MAX_ROLLBACKS {
            self.rollbacks += 1;
            return Ok(Verdict::Rollback);
        }
        Err(TrainError::Spiked { step, loss, threshold, in_a_row, rollbacks })
    }
}

/// A measured quantity by which checkpoints are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Whether a larger value is a better one.
    pub greater_is_better: bool,
    /// Whether the best checkpoint is kept beside the newest ones.
    pub keep_best: bool,
    /// When evaluations that bring nothing end the run.
    pub early_stopping: Option<EarlyStopping>,
}

/// When evaluations that bring nothing end the run, as transformers' `EarlyStoppingCallback`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    /// So many evaluations in a row without a better value end the run.
    pub patience: u32,
    /// A value must be better by more than this to count.
    pub threshold: f64,
}

/// The best value so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps done when it was measured.
    pub step: u64,
    /// The value.
    pub value: f64,
    /// Evaluations since that were not better.
    pub stale: u32,
}

/// What an evaluation's value calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It is the best so far: a checkpoint is due where the best one is kept.
    pub is_best: bool,
    /// The run ends here.
    pub stop: bool,
}

impl Metric {
    /// Takes in the value measured after `step` steps.
    pub(crate) fn take(self, best: &mut Option<Best>, step: u64, value: f64) -> Progress {
        let threshold = self.early_stopping.map_or(0.0, |it| it.threshold);
        let better = |by: f64, old: &Best| match self.greater_is_better {
            true => value > old.value + by,
            false => value < old.value - by,
        };
        let is_best = value.is_finite() && best.as_ref().is_none_or(|old| better(0.0, old));
        let counts = value.is_finite() && best.as_ref().is_none_or(|old| better(threshold, old));
        let stale = match (counts, &best) {
            (true, _) | (_, None) => 0,
            (false, Some(old)) => old.stale + 1,
        };
        if is_best {
            *best = Some(Best { step, value, stale });
        } else if let Some(best) = best {
            best.stale = stale;
        }
        Progress { is_best, stop: self.ends_at(stale) }
    }

    /// Whether so many evaluations in a row without a better value end the run.
    pub(crate) fn ends_at(self, stale: u32) -> bool {
        self.early_stopping.is_some_and(|it| stale >= it.patience.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(loss: f64) -> StepNumbers {
        StepNumbers { loss, shares: vec![loss], grad_norm: 1.0, metrics: Vec::new() }
    }

    fn guard(on_spike: OnSpike) -> Guard {
        Guard::new(3, Some(Watchdog { threshold: 5.0, patience: 2, on_spike }))
    }

    #[test]
    fn spikes_are_borne_up_to_the_patience_and_a_calm_step_forgives() {
        let mut guard = guard(OnSpike::Stop);
        let mut judge = |step, loss| guard.judge(step, &numbers(loss), None);
        for (step, loss) in [(1, 9.0), (2, 9.0), (3, 1.0), (4, 9.0), (5, 5.1)] {
            assert_eq!(judge(step, loss).unwrap(), Verdict::Fine);
        }
        let error = judge(6, 6.0).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert!(error.to_string().contains("loss `6`"), "{error}");
    }

    #[test]
    fn a_run_goes_back_three_times_at_most() {
        let mut guard = guard(OnSpike::Rollback);
        let mut verdicts = Vec::new();
        for step in 1.. {
            match guard.judge(step, &numbers(8.0), None) {
                Ok(verdict) => verdicts.push(verdict),
                Err(error) => {
                    assert!(error.to_string().contains("3 times"), "{error}");
                    break;
                }
            }
        }
        assert_eq!(verdicts.iter().filter(|it| **it == Verdict::Rollback).count(), 3);
        assert_eq!(verdicts.len(), 11);
    }

    #[test]
    fn a_step_that_is_excused_does_not_count_as_divergence() {
        let mut guard = guard(OnSpike::Stop);
        for step in 1..20 {
            let verdict = guard.judge(step, &numbers(f64::NAN), Some("the scale".into())).unwrap();
            assert_eq!(verdict, Verdict::Skipped(format!("step {step}: the scale")));
        }
    }

    #[test]
    fn evaluations_that_bring_too_little_end_the_run() {
        let early_stopping = Some(EarlyStopping { patience: 2, threshold: 0.1 });
        let metric = Metric { greater_is_better: false, keep_best: true, early_stopping };
        let mut best = None;
        let mut take = |step, value| {
            let Progress { is_best, stop } = metric.take(&mut best, step, value);
            (is_best, stop)
        };
        assert_eq!(take(1, 3.0), (true, false));
        assert_eq!(take(2, 2.95), (true, false)); // better, but not by enough to count
        assert_eq!(take(3, 2.5), (true, false));
        assert_eq!(take(4, 2.6), (false, false));
        assert_eq!(take(5, f64::NAN), (false, true));
        assert_eq!(best, Some(Best { step: 3, value: 2.5, stale: 2 }));
    }

    #[test]
    fn a_larger_value_is_better_where_it_is_said_so() {
        let metric = Metric { greater_is_better: true, keep_best: true, early_stopping: None };
        let mut best = None;
        for (step, value, is_best) in [(1, 0.5, true), (2, 0.4, false), (3, 0.6, true)] {
            assert_eq!(metric.take(&mut best, step, value), Progress { is_best, stop: false });
        }
        assert_eq!(best.map(|it| it.step), Some(3));
    }
}
