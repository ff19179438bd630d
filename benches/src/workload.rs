//! Whole training steps on random weights and tokens.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Device, FloatDType};
use clap::ValueEnum;
use rekindle_align::Sft;
use rekindle_data::{Padding, Sample, TokenBatch, collate};
use rekindle_models::cost::{Trained, trained_tensors};
use rekindle_models::{Arch, Decoder, Recompute};
use rekindle_peft_core::{LoraConfig, init};
use rekindle_train::{
    AdamW, Cursor, Decay, Observer, Schedule, SourceError, Step, StepReport, StepSource,
    TrainError, TrainPlan, TrainState, fit,
};
use tempfile::TempDir;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Low-rank adapters on every linear map but the head; all else frozen.
    Lora,
    /// Every weight.
    Full,
}

/// A model, a batch and an optimizer, ready to take steps through the real training loop.
///
/// Every step trains on the same batch of random tokens, all of them targets, with gradients
/// clipped to norm 1 and AdamW at a constant rate of 2e-4. No checkpoint is written.
#[derive(Debug)]
pub struct Workload {
    state: TrainState<Decoder>,
    source: SameBatch,
    folder: TempDir,
}

impl Workload {
    /// Random weights of `arch` on the plain `device`, trained by `method`.
    ///
    /// `size` is `[batch, seq]`. A row has `seq + 1` tokens, so that the forward pass sees `seq`
    /// of them and each has a target. `lora` is read for [`Method::Lora`] alone.
    ///
    /// # Errors
    /// A LoRA configuration that does not fit, or no room for a temporary folder.
    pub fn new(
        arch: &Arch,
        method: Method,
        lora: &LoraConfig,
        size: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        anyhow::ensure!(
            size.iter().all(|&it| it > 0),
            "batch is `{}` and seq `{}`; both must be at least 1",
            size[0],
            size[1]
        );
        let decoder = Decoder::random(arch, SEED, &device.clone().autodiff());
        let policy = match method {
            Method::Lora => decoder.with_lora(lora, SEED)?,
            Method::Full => decoder,
        };
        Ok(Self {
            state: TrainState::new(policy, AdamW::default()),
            source: SameBatch::new(arch.vocab, size, device),
            folder: tempfile::tempdir()?,
        })
    }

    /// The same with products in `dtype` and with blocks run again in the backward pass.
    #[must_use]
    pub fn computing(self, dtype: FloatDType, recompute: Recompute) -> Self {
        let Self { state, source, folder } = self;
        let policy = state.policy.computing_in(dtype).recomputing(recompute);
        Self { state: TrainState { policy, ..state }, source, folder }
    }

    /// What is trained, and the bytes that the optimizer keeps for it.
    #[must_use]
    pub fn trained(&self, method: Method, r: usize) -> (Trained, u64) {
        let arch = self.state.policy.arch();
        let trained = match method {
            Method::Full => Trained::Weights { frozen_embeddings: false, first_block: 0 },
            Method::Lora => {
                let maps = self.state.policy.projections().into_iter().map(|(name, _)| name);
                Trained::Adapters { r, names: maps.filter(|name| name != "lm_head").collect() }
            }
        };
        let tensors = trained_tensors(arch, &trained);
        let optimizer = &self.state.optimizer;
        let bytes = tensors.iter().map(|(name, shape)| optimizer.state_bytes(name, shape) as u64);
        let bytes = bytes.sum();
        (trained, bytes)
    }

    /// Takes `steps` more steps and tells what each did and how long it took.
    ///
    /// # Errors
    /// Whatever ends a training run, such as a loss that is not finite.
    pub fn run(self, steps: u64) -> Result<(Self, Vec<StepReport>)> {
        let Self { state, mut source, folder } = self;
        let plan = plan(state.step + steps, folder.path());
        let mut reports = Reports(Vec::new());
        let outcome = fit(state, &Sft::default(), &mut source, &plan, &mut reports)?;
        Ok((Self { state: outcome.state, source, folder }, reports.0))
    }
}

const SEED: u64 = 0;

fn plan(total_steps: u64, run_dir: &Path) -> TrainPlan {
    let schedule = Schedule { decay: Decay::Constant, warmup_steps: 0, total_steps };
    let (max_grad_norm, max_nonfinite) = (Some(1.0), 1);
    TrainPlan { max_grad_norm, max_nonfinite, ..TrainPlan::new(schedule, 2e-4, run_dir) }
}

/// A source that never ends and always gives one batch.
#[derive(Debug)]
struct SameBatch {
    samples: Vec<Sample>,
    batch: TokenBatch,
    device: Device,
}

impl SameBatch {
    fn new(vocab: usize, [batch, seq]: [usize; 2], device: &Device) -> Self {
        let mut rng = init::generator(SEED, "tokens", "batch");
        let sample = |_| {
            let draws = init::uniform(&mut rng, seq + 1, 0.5);
            let token = |draw: &f32| (((draw + 0.5) * vocab as f32) as usize).min(vocab - 1) as u32;
            Sample {
                tokens: draws.iter().map(token).collect(),
                target: vec![true; seq + 1],
                truncated: false,
            }
        };
        let samples: Vec<Sample> = (0..batch).map(sample).collect();
        let rows: Vec<_> = (0..batch).map(|row| vec![row]).collect();
        let batch = collate(&samples, &rows, Padding { id: 0, multiple: 1 }, device);
        Self { samples, batch, device: device.clone() }
    }
}

impl StepSource<Decoder, TokenBatch> for SameBatch {
    fn next_step(&mut self, _policy: &Decoder) -> Result<Option<Step<TokenBatch>>, SourceError> {
        Ok(Some(Step { micro: vec![self.batch.clone()] }))
    }

    fn halve(&self, batch: &TokenBatch) -> Option<[TokenBatch; 2]> {
        let (first, second) = batch.sample_ids.split_at(batch.sample_ids.len() / 2);
        let padding = Padding { id: 0, multiple: 1 };
        let half = |rows| collate(&self.samples, rows, padding, &self.device);
        (!first.is_empty()).then(|| [half(first), half(second)])
    }

    fn cursor(&self) -> Cursor {
        Cursor::default()
    }

    fn seek(&mut self, _cursor: Cursor) -> Result<(), SourceError> {
        Ok(())
    }
}

/// An observer that keeps every step's report.
struct Reports(Vec<StepReport>);

impl Observer<Decoder> for Reports {
    fn on_step(&mut self, report: &StepReport) {
        self.0.push(report.clone());
    }

    fn evaluate(&mut self, _step: u64, _policy: &Decoder) -> Result<Option<f64>, TrainError> {
        Ok(None)
    }

    fn on_checkpoint(&mut self, _step: u64, _path: &Path) {}

    fn on_warning(&mut self, message: &str) {
        eprintln!("warning: {message}");
    }

    fn stop_requested(&self) -> bool {
        false
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn steps_go_on_where_they_ended_and_learn_the_batch() {
        for method in [Method::Lora, Method::Full] {
            let arch = Shape::Tiny.arch();
            let lora = LoraConfig::default();
            let device = Device::flex();
            let workload =
                Workload::new(&arch, method, &lora, [2, 8], &device).expect("the shape is valid");
            let (workload, first) = workload.run(2).expect("the shape is valid");
            let (_, more) = workload.run(3).expect("the shape is valid");
            assert_eq!(more.last().expect("the shape is valid").step, 5);
            assert_eq!(first[0].units, 16);
            assert!(more.last().expect("the shape is valid").loss < first[0].loss, "{method:?}");
        }
    }

    #[test]
    fn an_empty_batch_is_refused() {
        let arch = Shape::Tiny.arch();
        let lora = LoraConfig::default();
        assert!(Workload::new(&arch, Method::Lora, &lora, [0, 8], &Device::flex()).is_err());
    }
}
