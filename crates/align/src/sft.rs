//! Supervised fine-tuning: the negative log-likelihood of the target tokens.

use burn::module::Module;
use burn::tensor::Device;
use rekindle_data::{self as data, Loader, MicroBatch, Padding, TokenBatch};
use rekindle_models::CausalLm;
use rekindle_train::{Cursor, LossSum, Objective, SourceError, Step, StepSource};

/// L = −Σ log π(tokenᵢ | tokens before it), over the target tokens.
///
/// Unit: one target token. The loop's division by units makes it the mean over the tokens of a
/// step, not a mean of per-row means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sft;

impl<M: CausalLm> Objective<M> for Sft {
    type Batch = TokenBatch;

    fn units(&self, batch: &TokenBatch) -> usize {
        batch.n_targets
    }

    fn loss(&self, policy: &M, batch: &TokenBatch) -> LossSum {
        let TokenBatch { input_ids, segment, loss_mask, .. } = batch.clone();
        LossSum { total: policy.nll_sum(input_ids, segment, loss_mask), metrics: Vec::new() }
    }
}

/// Steps of collated samples.
#[derive(Debug)]
pub struct SftSource {
    loader: Loader,
    padding: Padding,
    device: Device,
}

impl SftSource {
    /// Steps from `loader`, padded as `padding` says, on the plain (not autodiff) `device`.
    pub fn new(loader: Loader, padding: Padding, device: Device) -> Self {
        Self { loader, padding, device }
    }
}

impl<M: Module> StepSource<M, TokenBatch> for SftSource {
    fn next_step(&mut self, _policy: &M) -> Result<Option<Step<TokenBatch>>, SourceError> {
        let Some(micro) = self.loader.next() else { return Ok(None) };
        let samples = self.loader.samples();
        let collate = |rows: &MicroBatch| data::collate(samples, rows, self.padding, &self.device);
        Ok(Some(Step { micro: micro.iter().map(collate).collect() }))
    }

    fn cursor(&self) -> Cursor {
        let data::Cursor { epoch, row } = self.loader.cursor();
        Cursor { epoch, row: row as u64 }
    }

    fn seek(&mut self, cursor: Cursor) -> Result<(), SourceError> {
        let cursor = data::Cursor { epoch: cursor.epoch, row: cursor.row as usize };
        self.loader.seek(cursor).map_err(|error| SourceError::new(3, error))
    }
}
