//! The run's log: one JSON object a line in `events.jsonl`.

mod facts;
mod log;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use facts::{DataStatistics, Environment, LengthBin, length_bins};
pub use log::{EventLog, EventsError, read};

/// Something that happened in a run.
///
/// A number that is not finite is written as `null` and read back as NaN, as JSON has no other.
/// Fields and events that a newer version has added are passed over when a log is read.
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
    /// What the run computes with and on.
    Environment(Environment),
    /// What the rows of the run are like.
    Data(DataStatistics),
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
        /// Most memory that the process has held at once, in bytes, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_bytes: Option<u64>,
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
    /// An answer that an evaluation made; at step 0 it is the base model's.
    Sample {
        /// Updates made so far.
        step: u64,
        /// Which rows, such as `validation`.
        split: String,
        /// What was asked.
        question: String,
        /// The answer in the row.
        wanted: String,
        /// The model's answer.
        given: String,
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
    /// An event of a newer version, of which nothing is known; it is never written.
    #[serde(other, skip_serializing)]
    Unknown,
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
            Self::Step { step, .. }
            | Self::Eval { step, .. }
            | Self::Sample { step, .. }
            | Self::Checkpoint { step, .. } => Some(*step),
            Self::RunStarted { .. }
            | Self::Environment(_)
            | Self::Data(_)
            | Self::Warning { .. }
            | Self::Exported { .. }
            | Self::Finished { .. }
            | Self::Unknown => None,
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
    /// The record as a line of the log, with its line break.
    ///
    /// # Errors
    /// For [`Event::Unknown`], of which nothing is known that could be written.
    pub fn line(&self) -> serde_json::Result<String> {
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
            memory_bytes: None,
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
            Event::Environment(Environment {
                version: "0.1.0".into(),
                os: "linux".into(),
                arch: "x86_64".into(),
                cpu: Some("a processor".into()),
                threads: Some(2),
                features: vec!["flex".into()],
                model_blake3: Some("ab".into()),
                ..Environment::default()
            }),
            Event::Data(DataStatistics {
                total_tokens: 70,
                rejected: [("too long".to_owned(), 3)].into(),
                lengths: length_bins([1, 40, 41].into_iter()),
                ..DataStatistics::default()
            }),
            step(1, 0.1 + 0.2),
            Event::Sample {
                step: 1,
                split: "validation".into(),
                question: "q".into(),
                wanted: "w".into(),
                given: "g\n\"".into(),
            },
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
    fn lines_of_older_and_newer_versions_are_read() {
        let old = "{\"time\":1.0,\"event\":\"step\",\"step\":1,\"total_steps\":9,\"loss\":2.0,\
                   \"grad_norm\":1.0,\"learning_rate\":0.1,\"tokens\":4,\"seconds\":1.0,\
                   \"tokens_per_second\":4.0,\"colour\":{\"r\":1}}";
        let record: Record = serde_json::from_str(old).unwrap();
        let Event::Step { skipped: false, memory_bytes: None, .. } = record.event else {
            panic!("{record:?}")
        };
        let new = "{\"time\":1.0,\"event\":\"moon_phase\",\"step\":[1],\"phase\":\"new\"}";
        let record: Record = serde_json::from_str(new).unwrap();
        assert_eq!(record.event, Event::Unknown);
        assert!(record.line().is_err(), "it must not overwrite what is not known");
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
