//! What is kept of steps that were not finite, so that their rows can be looked at.

use std::path::Path;

use burn::module::Module;
use serde::Serialize;

use crate::TrainError;
use crate::checkpoint;
use crate::report::StepNumbers;
use crate::source::{Step, StepSource};

/// Steps kept; a run ends long before so many in a row.
const MOST: usize = 32;

/// The samples of a step: micro-batch by micro-batch, row by row.
pub(super) type SampleIds = Vec<Vec<Vec<u64>>>;

pub(super) fn sample_ids<M: Module, B, S: StepSource<M, B>>(
    source: &S,
    step: &Step<B>,
) -> SampleIds {
    step.micro.iter().map(|batch| source.sample_ids(batch)).collect()
}

/// The steps in a row that were not finite.
#[derive(Default, Serialize)]
pub(super) struct Broken {
    steps: Vec<BrokenStep>,
}

#[derive(Serialize)]
struct BrokenStep {
    step: u64,
    loss: Number,
    grad_norm: Number,
    /// Each micro-batch's share of the loss.
    micro_batch_losses: Vec<Number>,
    /// Each micro-batch's rows, and each row's samples.
    micro_batch_samples: SampleIds,
}

/// A number that may not be finite, which JSON has no number for.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Word(String),
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() { Self::Finite(value) } else { Self::Word(value.to_string()) }
    }
}

impl Broken {
    /// Keeps a step that is not finite; one that is ends the row.
    pub(super) fn take(&mut self, step: u64, numbers: &StepNumbers, ids: SampleIds) {
        if numbers.is_finite() {
            self.steps.clear();
            return;
        }
        if self.steps.len() == MOST {
            self.steps.remove(0);
        }
        self.steps.push(BrokenStep {
            step,
            loss: numbers.loss.into(),
            grad_norm: numbers.grad_norm.into(),
            micro_batch_losses: numbers.shares.iter().map(|&share| share.into()).collect(),
            micro_batch_samples: ids,
        });
    }

    /// `error` with the place of what is known of these steps, if it is they that end the run.
    pub(super) fn dumped(&self, error: TrainError, run_dir: &Path) -> TrainError {
        let TrainError::Diverged { step, loss, grad_norm, in_a_row, .. } = error else {
            return error;
        };
        let path = run_dir.join(format!("nonfinite-step-{step}.json"));
        let written = serde_json::to_vec_pretty(self)
            .is_ok_and(|text| checkpoint::replace_file(&path, &text).is_ok());
        let dump = written.then_some(path);
        TrainError::Diverged { step, loss, grad_norm, in_a_row, dump }
    }
}
