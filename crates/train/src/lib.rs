//! One training loop for every method: accumulate, clip, update, checkpoint, report.
//!
//! It knows no model, no loss and no data format: an [`Objective`] turns a batch into a sum, a
//! [`StepSource`] says what one update consumes, an [`Observer`] hears what happened. It chooses
//! no device: the policy lives on an autodiff device of the caller's. Start reading at [`fit`].
//!
//! A loop that `fit` is not can be made of its parts: [`gradient`](fn@gradient),
//! [`clip_global_norm`], [`TrainState::updated`], [`TrainState::save`] and
//! [`TrainState::restore`]; `examples/custom-loop` does so.

mod fit;
mod gradient;

mod objective;
mod source;

mod plan;
mod schedule;

mod clip;
mod ema;
mod loss_scale;
mod optimizer;
mod params;

mod observer;
mod report;

mod state;
mod watchdog;

pub mod checkpoint;
mod lock;

mod error;

#[cfg(test)]
mod toy;

pub use checkpoint::{Found, Saved};
pub use clip::{clip_global_norm, global_norm};
pub use ema::Ema;
pub use error::{CheckpointError, LockError, OptimizerError, TrainError};
pub use fit::{Ended, Outcome, fit};
pub use gradient::{StepGradient, gradient};
pub use lock::RunLock;
pub use loss_scale::LossScale;
pub use objective::{LossSum, Objective};
pub use observer::Observer;
pub use optimizer::{
    Adafactor, AdamW, AdamW8bit, AdjustLearningRate, Lion, LoraPlus, Muon, Optimizer,
    OptimizerMethod, ParamGroup, ParamGroups, PathPattern, Sgd,
};
pub use plan::{OnSaveError, Saving, TrainPlan};
pub use report::StepReport;
pub use schedule::{Decay, DecayForm, Schedule};
pub use source::{Cursor, SourceError, Step, StepSource};
pub use state::TrainState;
pub use watchdog::{Best, EarlyStopping, Metric, OnSpike, Watchdog};
