//! Everything that can end a command, with the exit code it ends with.

use std::path::PathBuf;

use rekindle_data::{DataError, LengthReport, Reject, RowError, TemplateError, TokenizerError};
use rekindle_export::ExportError;
use rekindle_models::ModelError;
use rekindle_peft_core::PeftError;
use rekindle_track::TrackError;
use rekindle_train::{CheckpointError, LockError, TrainError};
use thiserror::Error;

use crate::events::EventsError;
use crate::finite::NonFinite;
use crate::reproduce::Input;
use crate::{Problem, SourceError};

/// A failure of a run or of a command on a run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The recipe is not readable.
    #[error(transparent)]
    Recipe(#[from] SourceError),
    /// The recipe has values that cannot be used.
    #[error("{}", join(.0))]
    Problems(Vec<Problem>),
    /// A file could not be read or written.
    #[error("cannot read or write `{path}`: {source}; check the path, free space and permissions", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The output folder cannot be used.
    #[error("`{path}` {reason}", path = path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Rows of a dataset that cannot be used.
    #[error("{path}: {} of {rows} rows cannot be used:\n{}\nmend or remove them, or set `data.on_bad_row = \"skip\"` to leave them out", rejects.len(), list(rejects), path = path.display())]
    BadRows {
        /// The dataset.
        path: PathBuf,
        /// Rows in it.
        rows: usize,
        /// The rows and why.
        rejects: Vec<Reject>,
    },
    /// More rows are too long than the recipe allows.
    #[error("{path}: with `data.max_tokens = {max_tokens}`, {lengths}; wanted at most a share of {max_truncated}: raise `data.max_tokens`, or `data.max_truncated` if so many may be", path = path.display())]
    TooManyLongRows {
        /// The dataset.
        path: PathBuf,
        /// The longest length, in tokens.
        max_tokens: usize,
        /// The share that the recipe allows.
        max_truncated: f64,
        /// The rows by outcome, and the longest.
        lengths: LengthReport,
    },
    /// A checkpoint belongs to a run with other settings.
    #[error("the run in `{path}` was started with other settings:\n{}\nstart a new run, or restore these values", differences.join("\n"), path = path.display())]
    OtherSettings {
        /// The run folder.
        path: PathBuf,
        /// One line for each key that differs.
        differences: Vec<String>,
    },
    /// A dataset changed since the checkpoint was saved.
    #[error("`{path}` has changed since the run began, so the order of rows cannot be continued; restore the file or start a new run", path = path.display())]
    DataChanged {
        /// The dataset.
        path: PathBuf,
    },
    /// A run cannot be reproduced from other data or another model than it had.
    #[error("`{path}` is not what the run was made from: its hash is another; restore it to reproduce the run", path = path.display())]
    InputChanged {
        /// Whether it is the data or the model.
        input: Input,
        /// The file or folder.
        path: PathBuf,
    },
    /// Something about one row that is not about the file.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A dataset cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model folder lacks a part.
    #[error("`{path}` {reason}", path = path.display())]
    ModelPart {
        /// The model.
        path: PathBuf,
        /// What is missing and what to do.
        reason: String,
    },
    /// The base model has weights that are NaN or infinite.
    #[error("the weights of `{path}` are not all finite: {found}; fetch the model again, or train on it all the same with `--allow-nonfinite-base`", path = path.display())]
    NonFiniteBase {
        /// The model.
        path: PathBuf,
        /// Which weights.
        found: NonFinite,
    },
    /// The adapter does not fit.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// The run was asked to stop before it had anything to save.
    #[error("stopped before the first step; nothing is lost, start again with `--resume`")]
    Stopped {
        /// The signal's number.
        signal: usize,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Another process holds the run folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Export failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A tracker cannot be used, or does not take what is sent.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// The log cannot be used.
    #[error(transparent)]
    Events(#[from] EventsError),
}

impl RunError {
    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Recipe(error) => error.exit_code(),
            Self::Problems(_) | Self::Output { .. } | Self::OtherSettings { .. } => 2,
            Self::Peft(_) => 2,
            Self::Io { .. } | Self::Events(_) => 6,
            Self::Data(error) => error.exit_code(),
            Self::Tokenizer(error) => error.exit_code(),
            Self::Template(_)
            | Self::ModelPart { .. }
            | Self::Row(RowError::UnusableTemplate(_)) => 4,
            Self::Model(error) => error.exit_code(),
            Self::InputChanged { input: Input::Model, .. } => 4,
            Self::InputChanged { input: Input::Data, .. }
            | Self::BadRows { .. }
            | Self::TooManyLongRows { .. }
            | Self::DataChanged { .. }
            | Self::Row(_) => 3,
            Self::NonFiniteBase { .. } => 7,
            Self::Stopped { signal: crate::run::TERMINATE } => 75,
            Self::Stopped { .. } => 130,
            Self::Train(error) => error.exit_code(),
            Self::Checkpoint(error) => error.exit_code(),
            Self::Lock(error) => error.exit_code(),
            Self::Export(error) => error.exit_code(),
            Self::Track(TrackError::Unsent { .. }) => 9,
            Self::Track(TrackError::Io { .. } | TrackError::Spool { .. }) => 6,
            Self::Track(_) => 2,
        }
    }
}

/// Rows named in a message; the others are counted.
const SHOWN: usize = 10;

fn list(rejects: &[Reject]) -> String {
    let mut lines: Vec<String> =
        rejects.iter().take(SHOWN).map(|it| format!("  line {}: {}", it.line, it.reason)).collect();
    if rejects.len() > SHOWN {
        lines.push(format!("  and {} more", rejects.len() - SHOWN));
    }
    lines.join("\n")
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
