//! The run's log: one JSON object a line in `events.jsonl`.

mod log;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use log::{EventLog, EventsError, read};

/// Something that happened in a run.
///
/// A number that is not finite is written as `null` and read back as NaN, as JSON has no other.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run, or its continuation, begins.
    RunStarted {
        /// Name of the run.
        run: String,
        /// The model that is trained.
        model: String,
        /// The method, such as `lora`.
        method: String,
        /// Number of trained weights.
        trainable_parameters: u64,
        /// Number of all weights.
        total_parameters: u64,
        /// The device in words.
        device: String,
        /// Rows that are trained on.
        train_rows: u64,
        /// Rows that are held out.
        validation_rows: u64,
        /// Tokens with a loss in one pass over the training rows.
        target_tokens: u64,
        /// Updates of the whole run.
        total_steps: u64,
    },
    /// An update was made.
    Step {
        /// Number of the update, from 1.
        step: u64,
        /// Updates of the whole run.
        total_steps: u64,
        /// Mean loss in nats per target token.
        #[serde(with = "or_nan")]
        loss: f64,
        /// Norm over all gradients before clipping.
        #[serde(with = "or_nan")]
        grad_norm: f64,
        /// Learning rate of the update.
        #[serde(with = "or_nan")]
        learning_rate: f64,
        /// Target tokens of the update.
        tokens: u64,
        /// Wall time of the update.
        seconds: f64,
        /// Target tokens per second of wall time.
        #[serde(with = "or_nan")]
        tokens_per_second: f64,
        /// Whether the update was left out because its gradient was not finite.
        #[serde(default)]
        skipped: bool,
    },
    /// Held-out rows were measured.
    Eval {
        /// Updates made so far.
        step: u64,
        /// Which rows, such as `validation`.
        split: String,
        /// Mean loss in nats per target token.
        #[serde(with = "or_nan")]
        loss: f64,
        /// e to the power of the loss.
        #[serde(with = "or_nan")]
        perplexity: f64,
        /// Target tokens measured.
        tokens: u64,
        /// Part of the prompts that were answered exactly as in the row, 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exact_match: Option<f64>,
    },
    /// A checkpoint was written and is safe.
    Checkpoint {
        /// Updates it holds.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// Something the user should know.
    Warning {
        /// The warning in words.
        message: String,
    },
    /// A result was written.
    Exported {
        /// What it is, such as `adapter`.
        kind: String,
        /// Its folder.
        path: PathBuf,
    },
    /// The run has ended, or stops here for now.
    Finished {
        /// How it ended.
        status: Status,
        /// Updates made in all.
        steps: u64,
        /// Wall time of this part of the run.
        seconds: f64,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All steps were made.
    Succeeded,
    /// An error ended it.
    Failed,
    /// The user stopped it; a checkpoint was saved.
    Cancelled,
    /// The system stopped it; a checkpoint was saved.
    Preempted,
}

impl Event {
    /// The update that the event belongs to, for those that a resumed run makes again.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::Step { step, .. } | Self::Eval { step, .. } | Self::Checkpoint { step, .. } => {
                Some(*step)
            }
            Self::RunStarted { .. }
            | Self::Warning { .. }
            | Self::Exported { .. }
            | Self::Finished { .. } => None,
        }
    }
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Record {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// The record as a line of the log.
    fn line(&self) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }
}

mod or_nan {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn step(step: u64, loss: f64) -> Event {
        Event::Step {
            step,
            total_steps: 9,
            loss,
            grad_norm: 1.5,
            learning_rate: 1e-4,
            tokens: 640,
            seconds: 2.0,
            tokens_per_second: 320.0,
            skipped: false,
        }
    }

    #[test]
    fn a_line_is_flat_json_with_time_and_tag() {
        let text = Record { time: 1.5, event: step(1, 0.25) }.line().unwrap();
        assert_eq!(
            text,
            "{\"time\":1.5,\"event\":\"step\",\"step\":1,\"total_steps\":9,\"loss\":0.25,\
             \"grad_norm\":1.5,\"learning_rate\":0.0001,\"tokens\":640,\"seconds\":2.0,\
             \"tokens_per_second\":320.0,\"skipped\":false}\n"
        );
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let events = [
            Event::RunStarted {
                run: "r".into(),
                model: "m".into(),
                method: "lora".into(),
                trainable_parameters: 1,
                total_parameters: u64::MAX,
                device: "cpu".into(),
                train_rows: 2,
                validation_rows: 3,
                target_tokens: 4,
                total_steps: 5,
            },
            step(1, 0.1 + 0.2),
            Event::Eval {
                step: 1,
                split: "validation".into(),
                loss: 1.0,
                perplexity: std::f64::consts::E,
                tokens: 7,
                exact_match: Some(0.5),
            },
            Event::Checkpoint { step: 1, path: "checkpoints/1".into() },
            Event::Exported { kind: "adapter".into(), path: "adapter".into() },
            Event::Finished { status: Status::Preempted, steps: 1, seconds: 0.5 },
        ];
        for event in events {
            let record = Record { time: 1.0, event };
            let read: Record = serde_json::from_str(&record.line().unwrap()).unwrap();
            assert_eq!(read, record);
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_stays_readable() {
        for loss in [f64::NAN, f64::INFINITY] {
            let text = Record { time: 1.0, event: step(1, loss) }.line().unwrap();
            let record: Record = serde_json::from_str(&text).unwrap();
            assert!(matches!(record.event, Event::Step { loss, .. } if loss.is_nan()));
        }
    }
}
