//! Supervised fine-tuning: the negative log-likelihood of the target tokens.

use burn::module::Module;
use burn::tensor::Device;
use rekindle_data::{self as data, Loader, MicroBatch, Padding, TokenBatch};
use rekindle_models::{CausalLm, Smoothing, Tokens};
use rekindle_train::{Cursor, LossSum, Objective, SourceError, Step, StepSource};

/// L = −Σ log π(tokenᵢ | tokens before it), over the target tokens.
///
/// Unit: one target token. The loop's division by units makes it the mean over the tokens of a
/// step, not a mean of per-row means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sft {
    /// What is added to the plain cross-entropy.
    pub smoothing: Smoothing,
}

impl<M: CausalLm> Objective<M> for Sft {
    type Batch = TokenBatch;

    fn units(&self, batch: &TokenBatch) -> usize {
        batch.n_targets
    }

    fn loss(&self, policy: &M, batch: &TokenBatch) -> LossSum {
        let total = policy.loss_sum(tokens(batch.clone()), batch.loss_mask.clone(), self.smoothing);
        LossSum { total, metrics: Vec::new() }
    }
}

/// A batch as the model takes it.
fn tokens(batch: TokenBatch) -> Tokens {
    let tokens = Tokens::new(batch.input_ids, batch.segment).at(batch.positions);
    match batch.noise {
        Some(seed) => tokens.with_noise(seed),
        None => tokens,
    }
}

/// Steps of collated samples.
#[derive(Debug)]
pub struct SftSource {
    loader: Loader,
    padding: Padding,
    device: Device,
    /// What each sample is called; empty if they are called by their places.
    names: Vec<u64>,
}

impl SftSource {
    /// Steps from `loader`, padded as `padding` says, on the plain (not autodiff) `device`.
    pub fn new(loader: Loader, padding: Padding, device: Device) -> Self {
        Self { loader, padding, device, names: Vec::new() }
    }

    /// Calls the samples by these numbers, such as those of their rows, where steps are told of.
    pub fn with_names(self, names: Vec<u64>) -> Self {
        Self { names, ..self }
    }

    /// The batch of `rows` in epoch `epoch`; what is random in it depends on the seed, the epoch
    /// and the rows alone.
    fn collate(&self, rows: &MicroBatch, epoch: u64) -> TokenBatch {
        let batch = data::collate(self.loader.samples(), rows, self.padding, &self.device);
        TokenBatch { noise: Some(self.loader.noise(epoch, rows)), ..batch }
    }
}

impl<M: Module> StepSource<M, TokenBatch> for SftSource {
    fn next_step(&mut self, _policy: &M) -> Result<Option<Step<TokenBatch>>, SourceError> {
        let epoch = self.loader.cursor().epoch;
        let Some(micro) = self.loader.next() else { return Ok(None) };
        Ok(Some(Step { micro: micro.iter().map(|rows| self.collate(rows, epoch)).collect() }))
    }

    /// Halves of the rows, or of the samples where they share one row.
    fn halve(&self, batch: &TokenBatch) -> Option<[TokenBatch; 2]> {
        let rows = &batch.sample_ids;
        let [first, second] = match rows.as_slice() {
            [one] if one.len() > 1 => {
                let (first, second) = one.split_at(one.len() / 2);
                [vec![first.to_vec()], vec![second.to_vec()]]
            }
            [_] | [] => return None,
            rows => {
                let (first, second) = rows.split_at(rows.len() / 2);
                [first.to_vec(), second.to_vec()]
            }
        };
        // Dropout cannot be as in the whole batch; each half has a seed of its own.
        let half = |rows: MicroBatch| {
            let noise = batch.noise.map(|seed| seed.wrapping_add(rows[0][0] as u64 + 1));
            let half = data::collate(self.loader.samples(), &rows, self.padding, &self.device);
            TokenBatch { noise, ..half }
        };
        Some([half(first), half(second)])
    }

    fn sample_ids(&self, batch: &TokenBatch) -> Vec<Vec<u64>> {
        let name = |&place: &usize| self.names.get(place).copied().unwrap_or(place as u64);
        batch.sample_ids.iter().map(|row| row.iter().map(name).collect()).collect()
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
