//! What has become of a run so far: its events, gathered.
//!
//! The dashboard, the report and the commands on runs all read this one account.

use std::path::{Path, PathBuf};

use crate::events::{self, DataStatistics, Environment, Event, EventsError, Status};

/// Everything that the events of a run have told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// How the run, or its newest part, began.
    pub started: Option<Started>,
    /// What it computes with and on.
    pub environment: Option<Environment>,
    /// What its rows are like.
    pub data: Option<DataStatistics>,
    /// Its updates, in order.
    pub steps: Vec<StepPoint>,
    /// Its evaluations, in order.
    pub evals: Vec<EvalPoint>,
    /// Answers that its evaluations made.
    pub samples: Vec<Sample>,
    /// Checkpoints, by step; older ones may have been deleted since.
    pub checkpoints: Vec<(u64, PathBuf)>,
    /// Warnings; one that is repeated stands here once.
    pub warnings: Vec<String>,
    /// Results, by what they are.
    pub exports: Vec<(String, PathBuf)>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
    /// Seconds since 1970-01-01 UTC of the first and the last event, where a log says so.
    pub times: Option<[f64; 2]>,
    /// Number of events of a newer version, which are passed over.
    pub unknown: usize,
}

/// How a run began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Name of the run.
    pub run: String,
    /// The model that is trained.
    pub model: String,
    /// The method, such as `lora`.
    pub method: String,
    /// The device in words.
    pub device: String,
    /// Number of trained weights.
    pub trainable_parameters: u64,
    /// Number of all weights.
    pub total_parameters: u64,
    /// Updates of the whole run.
    pub total_steps: u64,
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPoint {
    /// Number of the update, from 1.
    pub step: u64,
    /// Mean loss in nats per target token.
    pub loss: f64,
    /// Norm over all gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Target tokens of the update.
    pub tokens: u64,
    /// Wall time of the update.
    pub seconds: f64,
    /// Target tokens per second of wall time.
    pub tokens_per_second: f64,
    /// Whether the update was left out.
    pub skipped: bool,
    /// Most memory that the process has held at once, in bytes.
    pub memory_bytes: Option<u64>,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalPoint {
    /// Updates made so far.
    pub step: u64,
    /// Which rows, such as `validation`.
    pub split: String,
    /// Mean loss in nats per target token.
    pub loss: f64,
    /// e to the power of the loss.
    pub perplexity: f64,
    /// Part of the prompts that were answered exactly, 0 to 1.
    pub exact_match: Option<f64>,
}

/// One answer of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Updates made so far; 0 is the base model.
    pub step: u64,
    /// What was asked.
    pub question: String,
    /// The answer in the row.
    pub wanted: String,
    /// The model's answer.
    pub given: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Updates made in all.
    pub steps: u64,
    /// Wall time of the last part of the run.
    pub seconds: f64,
}

/// Updates that an estimate of the time left looks back on.
const RECENT: usize = 50;

impl History {
    /// The events of the log at `path`, gathered.
    ///
    /// # Errors
    /// As [`events::read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EventsError> {
        let mut history = Self::default();
        for record in events::read(path)? {
            let first = history.times.map_or(record.time, |[first, _]| first);
            history.times = Some([first, record.time]);
            history.apply(&record.event);
        }
        Ok(history)
    }

    /// Adds an event. An update that is made again, as after a resume, replaces what followed it.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => {
                self.started = Started::of(event);
                self.ended = None;
            }
            Event::Environment(environment) => self.environment = Some(environment.clone()),
            Event::Data(data) => self.data = Some(data.clone()),
            Event::Step { step, .. } => {
                self.forget_from(*step);
                self.steps.extend(StepPoint::of(event));
            }
            Event::Eval { step, split, loss, perplexity, exact_match, .. } => {
                self.evals.push(EvalPoint {
                    step: *step,
                    split: split.clone(),
                    loss: *loss,
                    perplexity: *perplexity,
                    exact_match: *exact_match,
                });
            }
            Event::Sample { step, question, wanted, given, .. } => self.samples.push(Sample {
                step: *step,
                question: question.clone(),
                wanted: wanted.clone(),
                given: given.clone(),
            }),
            Event::Checkpoint { step, path } => self.checkpoints.push((*step, path.clone())),
            Event::Warning { message } => {
                if !self.warnings.contains(message) {
                    self.warnings.push(message.clone());
                }
            }
            Event::Exported { kind, path } => {
                self.exports.retain(|(other, _)| other != kind);
                self.exports.push((kind.clone(), path.clone()));
            }
            Event::Finished { status, steps, seconds } => {
                self.ended = Some(Ended { status: *status, steps: *steps, seconds: *seconds });
            }
            Event::Unknown => self.unknown += 1,
        }
    }

    fn forget_from(&mut self, step: u64) {
        if self.steps.last().is_none_or(|last| last.step < step) {
            return;
        }
        self.steps.retain(|point| point.step < step);
        self.evals.retain(|point| point.step < step);
        self.samples.retain(|sample| sample.step < step);
        self.checkpoints.retain(|(of, _)| *of < step);
    }

    /// Number of the newest update; 0 before the first.
    pub fn step(&self) -> u64 {
        self.steps.last().map_or(0, |point| point.step)
    }

    /// Updates of the whole run; 0 if it is not known yet.
    pub fn total_steps(&self) -> u64 {
        self.started.as_ref().map_or(0, |started| started.total_steps)
    }

    /// Target tokens per second of wall time over all updates.
    pub fn mean_tokens_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.steps.iter().map(|point| point.seconds).sum();
        let tokens: u64 = self.steps.iter().map(|point| point.tokens).sum();
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }

    /// Seconds that the updates still to be made will take at the pace of the last 50.
    pub fn seconds_left(&self) -> Option<f64> {
        let recent = &self.steps[self.steps.len().saturating_sub(RECENT)..];
        let spent: f64 = recent.iter().map(|point| point.seconds).sum();
        let left = self.total_steps().saturating_sub(self.step());
        let seconds = spent / recent.len() as f64 * left as f64;
        (!recent.is_empty() && seconds.is_finite()).then_some(seconds)
    }

    /// One quantity of every update, by step.
    pub fn curve(&self, of: impl Fn(&StepPoint) -> f64) -> Vec<(u64, f64)> {
        self.steps.iter().map(|point| (point.step, of(point))).collect()
    }

    /// The loss of every evaluation, by step.
    pub fn eval_curve(&self) -> Vec<(u64, f64)> {
        self.evals.iter().map(|point| (point.step, point.loss)).collect()
    }
}

impl Started {
    fn of(event: &Event) -> Option<Self> {
        let Event::RunStarted {
            run,
            model,
            method,
            trainable_parameters,
            total_parameters,
            device,
            total_steps,
            ..
        } = event
        else {
            return None;
        };
        Some(Self {
            run: run.clone(),
            model: model.clone(),
            method: method.clone(),
            device: device.clone(),
            trainable_parameters: *trainable_parameters,
            total_parameters: *total_parameters,
            total_steps: *total_steps,
        })
    }
}

impl StepPoint {
    fn of(event: &Event) -> Option<Self> {
        let &Event::Step {
            step,
            loss,
            grad_norm,
            learning_rate,
            tokens,
            seconds,
            tokens_per_second,
            skipped,
            memory_bytes,
            ..
        } = event
        else {
            return None;
        };
        Some(Self {
            step,
            loss,
            grad_norm,
            learning_rate,
            tokens,
            seconds,
            tokens_per_second,
            skipped,
            memory_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, seconds: f64) -> Event {
        Event::Step {
            step,
            total_steps: 10,
            loss: 1.0 / step as f64,
            grad_norm: 1.0,
            learning_rate: 1e-3,
            tokens: 100,
            seconds,
            tokens_per_second: 100.0 / seconds,
            skipped: false,
            memory_bytes: Some(step),
        }
    }

    fn started() -> Event {
        Event::RunStarted {
            run: "r".into(),
            model: "m".into(),
            method: "lora".into(),
            trainable_parameters: 1,
            total_parameters: 2,
            device: "cpu".into(),
            train_rows: 3,
            validation_rows: 4,
            target_tokens: 5,
            total_steps: 10,
        }
    }

    #[test]
    fn an_update_made_again_replaces_what_followed_it() {
        let mut history = History::default();
        for event in [started(), step(1, 1.0), step(2, 1.0), step(3, 1.0)] {
            history.apply(&event);
        }
        history.apply(&Event::Checkpoint { step: 1, path: "a".into() });
        history.apply(&Event::Checkpoint { step: 3, path: "b".into() });
        history.apply(&Event::Finished { status: Status::Cancelled, steps: 3, seconds: 3.0 });
        history.apply(&started());
        assert_eq!(history.ended, None);
        history.apply(&step(2, 2.0));
        assert_eq!(history.curve(|point| point.seconds), [(1, 1.0), (2, 2.0)]);
        assert_eq!(history.checkpoints, [(1, "a".into())]);
    }

    #[test]
    fn pace_and_time_left_follow_from_the_updates() {
        let mut history = History::default();
        assert_eq!(history.mean_tokens_per_second(), None);
        assert_eq!(history.seconds_left(), None);
        history.apply(&started());
        history.apply(&step(1, 1.0));
        history.apply(&step(2, 3.0));
        assert_eq!(history.mean_tokens_per_second(), Some(50.0));
        assert_eq!(history.seconds_left(), Some(16.0));
    }
}
