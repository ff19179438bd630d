//! Where the batches of a step come from.

use std::error::Error;
use std::fmt;

use burn::module::Module;
use serde::{Deserialize, Serialize};

/// Everything one optimizer update consumes.
#[derive(Debug, Clone)]
pub struct Step<B> {
    /// The micro-batches, each one forward and one backward pass.
    pub micro: Vec<B>,
}

/// A resumable stream of steps.
pub trait StepSource<M: Module, B> {
    /// The next step, or `None` when the data are used up.
    ///
    /// Reinforcement learning samples from `policy`; loaders ignore it. A step holds at least one
    /// unit.
    fn next_step(&mut self, policy: &M) -> Result<Option<Step<B>>, SourceError>;

    /// `batch` in two halves that hold the same units, for a device with too little memory for it;
    /// `None` if it cannot be made smaller.
    fn halve(&self, batch: &B) -> Option<[B; 2]>;

    /// What the caller calls the samples of `batch`, row by row; told of steps that are not finite.
    fn sample_ids(&self, batch: &B) -> Vec<Vec<u64>> {
        let _ = batch;
        Vec::new()
    }

    /// The place just after the last step returned.
    fn cursor(&self) -> Cursor;

    /// Goes to `cursor`: the next step is the one that followed it.
    fn seek(&mut self, cursor: Cursor) -> Result<(), SourceError>;
}

/// A place in a shuffled data set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Passes over the data finished so far.
    pub epoch: u64,
    /// Rows of the running pass used so far, in shuffled order.
    pub row: u64,
}

/// A source's failure, with the exit code its own crate gives it.
#[derive(Debug)]
pub struct SourceError {
    exit_code: u8,
    cause: Box<dyn Error + Send + Sync>,
}

impl SourceError {
    /// Wraps `cause`; `exit_code` is what the process ends with.
    pub fn new(exit_code: u8, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit_code, cause: cause.into() }
    }

    /// The process exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(out)
    }
}

impl Error for SourceError {
    // The cause speaks through `Display`, so the chain goes on behind it.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
