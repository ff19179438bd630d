//! Who hears what a run does, and may stop it.

use std::path::Path;

use burn::module::Module;

use crate::{StepReport, TrainError};

/// Hears what a run does, evaluates the policy, and may ask the run to stop.
pub trait Observer<M: Module> {
    /// A step is done.
    fn on_step(&mut self, report: &StepReport);

    /// An evaluation is due after `step` steps; `policy` is tracked, so take `policy.valid()`.
    ///
    /// Returns the value by which the plan's [`Metric`](crate::Metric) tells checkpoints apart, if
    /// it was measured. Wrap failures with [`TrainError::evaluation`]; an evaluation given up for
    /// a request to stop is [`TrainError::EvaluationStopped`].
    fn evaluate(&mut self, step: u64, policy: &M) -> Result<Option<f64>, TrainError>;

    /// The checkpoint of `step` is durable at `path`.
    fn on_checkpoint(&mut self, step: u64, path: &Path);

    /// Something went wrong that did not end the run.
    fn on_warning(&mut self, message: &str);

    /// Whether the run is to save a checkpoint and stop; asked before every step, and while the
    /// run waits for a disk.
    fn stop_requested(&self) -> bool;

    /// Takes a request to save a checkpoint now and go on; asked after every step.
    fn save_requested(&mut self) -> bool {
        false
    }
}
