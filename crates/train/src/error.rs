//! What can go wrong while training.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::SourceError;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The source of batches failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source gave a step without a unit.
    #[error("step {step}: the batch has no unit to train on; drop such batches in the source")]
    EmptyStep {
        /// The step, counted from 1.
        step: u64,
    },
    /// The loss does not depend on any parameter that requires a gradient.
    #[error("step {step}: the loss depends on no trainable parameter; make some trainable")]
    NothingToTrain {
        /// The step, counted from 1.
        step: u64,
    },
    /// Several steps in a row were not finite.
    #[error(
        "step {step}: loss `{loss}`, gradient norm `{grad_norm}`; {in_a_row} steps in a row were \
         not finite{}; go on from the last checkpoint with a lower learning rate, or look at the \
         rows",
        dump.as_ref().map(|it| format!(", their rows are in `{}`", it.display())).unwrap_or_default()
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// The mean loss per unit.
        loss: f64,
        /// The global gradient norm.
        grad_norm: f64,
        /// How many steps in a row were not finite.
        in_a_row: u32,
        /// Where their rows and numbers are, if that file could be written.
        dump: Option<PathBuf>,
    },
    /// The loss stayed above the watchdog's threshold.
    #[error(
        "step {step}: loss `{loss}` is above the watchdog's `{threshold}` for the {in_a_row}th \
         step in a row, after the run went back {rollbacks} times; go on from an earlier \
         checkpoint with a lower learning rate, or look at the rows"
    )]
    Spiked {
        /// The step, counted from 1.
        step: u64,
        /// The mean loss per unit.
        loss: f64,
        /// The watchdog's threshold.
        threshold: f64,
        /// How many steps in a row.
        in_a_row: u32,
        /// How often the run went back to a checkpoint before.
        rollbacks: u32,
    },
    /// The watchdog asks for the last checkpoint, and there is none.
    #[error(
        "step {step}: loss `{loss}` is too high, and there is no checkpoint to go back to; save \
         more often, or start with a lower learning rate"
    )]
    NoWayBack {
        /// The step, counted from 1.
        step: u64,
        /// The mean loss per unit.
        loss: f64,
    },
    /// The device has no memory for the smallest micro-batch.
    #[error(
        "step {step}: the device ran out of memory with micro-batches that cannot be made \
         smaller: {cause}; use shorter rows, recomputation or a smaller model"
    )]
    OutOfMemory {
        /// The step, counted from 1.
        step: u64,
        /// What the device says.
        cause: String,
    },
    /// The device could not compute or hand over the step's results.
    #[error("step {step}: the device failed: {cause}")]
    Device {
        /// The step, counted from 1.
        step: u64,
        /// What the device says.
        cause: String,
    },
    /// The observer's evaluation failed.
    #[error("{cause}")]
    Evaluation {
        /// The process exit code the evaluation's crate gives it.
        exit_code: u8,
        /// What went wrong.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The observer gave up an evaluation for a request to stop.
    ///
    /// An observer returns it from `evaluate`; [`fit`](crate::fit) saves a checkpoint that
    /// remembers what is due and ends as [`Ended::Stopped`](crate::Ended::Stopped).
    #[error("the evaluation was given up for a request to stop")]
    EvaluationStopped,
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl TrainError {
    /// Wraps the failure of an evaluation; `exit_code` is what the process ends with.
    pub fn evaluation(exit_code: u8, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Evaluation { exit_code, cause: cause.into() }
    }

    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::EmptyStep { .. } => 3,
            Self::NothingToTrain { .. } => 2,
            Self::Diverged { .. } | Self::Spiked { .. } | Self::NoWayBack { .. } => 7,
            Self::OutOfMemory { .. } => 5,
            Self::Device { .. } => 1,
            Self::EvaluationStopped => 130,
            Self::Evaluation { exit_code, .. } => *exit_code,
            Self::Checkpoint(error) => error.exit_code(),
        }
    }
}

/// Why an optimizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// A pattern is no regular expression.
    #[error("the pattern `{pattern}` is no regular expression: {cause}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A group of parameters is empty.
    #[error(
        "the pattern `{pattern}` matches {reason}; it has to match the whole of a name, and the \
         {total} trainable parameters are `{}`{}",
        parameters.join("`, `"), if *total > parameters.len() { ", …" } else { "" }
    )]
    UnmatchedGroup {
        /// The group's place among the groups, from 0.
        index: usize,
        /// The group's pattern.
        pattern: String,
        /// What it matches none of.
        reason: &'static str,
        /// The first trainable parameters.
        parameters: Vec<String>,
        /// How many there are.
        total: usize,
    },
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} `{path}`: {cause}; {}", remedy(cause))]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The files are not the ones that were saved.
    #[error(
        "the checkpoint `{path}` is damaged: {}; name another one or train from the start",
        problems.join("; ")
    )]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<String>,
    },
    /// No checkpoint of the run is whole.
    #[error(
        "`{path}` holds checkpoints but none is whole: {}; move them away to train from the start",
        problems.join("; ")
    )]
    NoneWhole {
        /// The folder of checkpoints.
        path: PathBuf,
        /// What is wrong with each, newest first.
        problems: Vec<String>,
    },
    /// The checkpoint belongs to another set of trainable parameters.
    #[error(
        "the checkpoint `{path}` does not fit the model: {}; use the adapter settings it was \
         saved with",
        problems.join("; ")
    )]
    Mismatch {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Missing, unexpected and differently shaped tensors.
        problems: Vec<String>,
    },
    /// The checkpoint belongs to another optimizer.
    #[error(
        "the optimizer state in `{path}` was saved by `{saved}` and does not fit `{wanted}`: {}; \
         use the optimizer settings it was saved with",
        problems.join("; ")
    )]
    OptimizerMismatch {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The method that saved it.
        saved: String,
        /// The method that was to take it over.
        wanted: &'static str,
        /// Missing, unexpected and differently shaped tensors.
        problems: Vec<String>,
    },
    /// The checkpoint was written by a product version with another layout.
    #[error(
        "the checkpoint `{path}` has layout {found}, written by version `{version}`; this version \
         reads layout {wanted}: go on with that version, or train from the start"
    )]
    Layout {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The layout found.
        found: u32,
        /// The product version that wrote it, as it says; empty if it does not.
        version: String,
        /// The layout this version reads.
        wanted: u32,
    },
    /// A parameter could not be read from the device or put into a file.
    #[error("a trainable parameter cannot be saved: {cause}")]
    Tensor {
        /// What went wrong.
        cause: String,
    },
}

impl CheckpointError {
    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => 6,
            Self::Damaged { .. } | Self::NoneWhole { .. } | Self::Layout { .. } => 4,
            Self::Mismatch { .. } | Self::OptimizerMismatch { .. } => 2,
            Self::Tensor { .. } => 1,
        }
    }
}

/// What to do about a file system that refuses.
fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull => {
            "free some space; what was saved before is whole, and `--resume` goes on from there"
        }
        io::ErrorKind::QuotaExceeded => {
            "free some of your quota; what was saved before is whole, and `--resume` goes on from \
             there"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "make it writable; what was saved before is whole, and `--resume` goes on from there"
        }
        _ => "check the path and its disk; what was saved before is whole",
    }
}

/// Why a run folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process trains in the folder.
    #[error("`{path}` is locked by process {pid}; wait for it or use another run folder")]
    Held {
        /// The run folder.
        path: PathBuf,
        /// The process that holds the lock, as it wrote itself down.
        pid: String,
    },
    /// The file system refused.
    #[error("cannot lock `{path}`: {cause}; use a run folder that can be written to")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl LockError {
    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Held { .. } => 2,
            Self::Io { .. } => 6,
        }
    }
}
