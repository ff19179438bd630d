//! What a run has made so far.

use std::path::{Path, PathBuf};

use burn::module::Module;

use crate::checkpoint::{self, Saved};
use crate::{CheckpointError, Cursor, Optimizer, TrainPlan};

/// Everything that changes from step to step, beside the place in the data.
#[derive(Debug, Clone)]
pub struct TrainState<M: Module> {
    /// The model being trained, its parameters on an autodiff device.
    pub policy: M,
    /// The optimizer and its state.
    pub optimizer: Optimizer,
    /// Steps done.
    pub step: u64,
    /// Units trained on so far.
    pub units: u64,
}

impl<M: Module> TrainState<M> {
    /// A state before the first step.
    pub fn new(policy: M, optimizer: impl Into<Optimizer>) -> Self {
        Self { policy, optimizer: optimizer.into(), step: 0, units: 0 }
    }

    /// Saves a checkpoint below the plan's run folder, then drops the oldest ones.
    ///
    /// Returns its folder. When this returns, the checkpoint survives a power cut.
    pub fn save(&self, plan: &TrainPlan, cursor: Cursor) -> Result<PathBuf, CheckpointError> {
        let saved = Saved {
            layout: checkpoint::LAYOUT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            units: self.units,
            cursor,
            seed: plan.seed,
            learning_rate: plan.learning_rate,
            schedule: plan.schedule,
            extra: plan.extra.clone(),
        };
        let dir = plan.checkpoints_dir();
        let path = checkpoint::write(&dir, &self.policy, &self.optimizer, &saved)?;
        checkpoint::retain(&dir, self.step, plan.keep_checkpoints)?;
        Ok(path)
    }

    /// Takes weights, optimizer state and counts from the checkpoint at `path`.
    ///
    /// The optimizer keeps its own settings. Returns what else the checkpoint holds; the caller
    /// seeks the source to its cursor. Fails on any damage, on any difference in the trainable
    /// parameters and on the state of another method.
    pub fn restore(self, path: &Path) -> Result<(Self, Saved), CheckpointError> {
        let saved = checkpoint::verify(path)?;
        let policy = checkpoint::load_weights(self.policy, path)?;
        let mut optimizer = self.optimizer;
        optimizer.states = checkpoint::load_state(&policy, &optimizer, path)?;
        Ok((Self { policy, optimizer, step: saved.step, units: saved.units }, saved))
    }
}
