//! What a training run is told to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{Disk, RealDisk};
use crate::{Metric, Schedule, Watchdog};

/// Everything [`fit`](crate::fit) needs to know beside the policy, the objective and the data.
#[derive(Debug, Clone)]
pub struct TrainPlan {
    /// How the learning rate moves, as a factor on `learning_rate`; holds the total steps.
    pub schedule: Schedule,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// Longest gradient, as a global L2 norm; longer ones are scaled down to it.
    pub max_grad_norm: Option<f64>,
    /// Steps between evaluations; one more follows the last step. `None` evaluates never.
    pub eval_every: Option<u64>,
    /// Steps between checkpoints; one more follows the last step. `None` saves only when stopped.
    pub save_every: Option<u64>,
    /// Checkpoints kept, newest first; at least one is.
    pub keep_checkpoints: usize,
    /// Seed of all randomness on the device, such as dropout.
    pub seed: u64,
    /// Steps in a row whose loss or gradient may be non-finite; at this count the run ends.
    pub max_nonfinite: u32,
    /// What is done about losses that leap.
    pub watchdog: Option<Watchdog>,
    /// By what checkpoints are told apart, and when evaluations that bring nothing end the run.
    pub metric: Option<Metric>,
    /// Decay of a moving average of the trained weights, which is evaluated in their place.
    pub ema_decay: Option<f64>,
    /// Whether losses are scaled so that small gradients survive f16.
    pub scale_losses: bool,
    /// Where checkpoints go, and what follows one that cannot be written.
    pub saving: Saving,
    /// The run's folder; checkpoints go below its `checkpoints/`.
    pub run_dir: PathBuf,
    /// What the caller wants kept, word for word, in every checkpoint.
    pub extra: serde_json::Value,
}

impl TrainPlan {
    /// A plan without clipping, evaluations, checkpoints and all else that is not given, which ends
    /// at the third step in a row that is not finite.
    pub fn new(schedule: Schedule, learning_rate: f64, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            schedule,
            learning_rate,
            max_grad_norm: None,
            eval_every: None,
            save_every: None,
            keep_checkpoints: 1,
            seed: 0,
            max_nonfinite: 3,
            watchdog: None,
            metric: None,
            ema_decay: None,
            scale_losses: false,
            saving: Saving::default(),
            run_dir: run_dir.into(),
            extra: serde_json::Value::Null,
        }
    }

    /// The folder that holds the run's checkpoints.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.run_dir.join("checkpoints")
    }

    /// The folder of the checkpoint of `step`.
    pub fn checkpoint_dir(&self, step: u64) -> PathBuf {
        self.checkpoints_dir().join(crate::checkpoint::name(step))
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.schedule.total_steps
    }

    /// The learning rate of the update at `step`, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.learning_rate * self.schedule.at(step)
    }
}

/// Where checkpoints go, and what follows one that cannot be written.
#[derive(Debug, Clone)]
pub struct Saving {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// What follows a file system that refuses.
    pub on_error: OnSaveError,
    /// Time between two tries while the run pauses.
    pub retry_every: Duration,
}

impl Default for Saving {
    fn default() -> Self {
        let retry_every = Duration::from_secs(30);
        Self { disk: Arc::new(RealDisk), on_error: OnSaveError::Stop, retry_every }
    }
}

/// What follows a checkpoint that the file system refuses to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSaveError {
    /// The run ends with the error.
    #[default]
    Stop,
    /// The run waits and tries again until it is saved or the run is asked to stop.
    Pause,
}

/// Whether something done every `every` steps is due after `step` steps.
pub(crate) fn is_due(every: Option<u64>, step: u64) -> bool {
    every.is_some_and(|every| every > 0 && step.is_multiple_of(every))
}
