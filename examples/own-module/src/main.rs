//! A Burn module that is no language model, trained by `fit` and resumed.
//!
//! Two layers of `burn::nn` learn which of three arms of a spiral a point lies on. The run is
//! stopped half way, as Ctrl-C would stop it, and a new state goes on from its checkpoint; the
//! result has the same bits as that of a run that was never stopped.

mod spiral;

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use rekindle_train::{
    AdamW, Decay, Ended, LossSum, Objective, Observer, Schedule, StepReport, StepSource,
    TrainError, TrainPlan, TrainState, checkpoint, fit,
};

use spiral::{ARMS, Points, Spiral};

const HIDDEN: usize = 48;
const STEPS: u64 = 300;
/// Where the first part of the resumed run is stopped.
const STOP: u64 = 150;

/// Scores of each arm: tanh(x · inner) · outer.
#[derive(Module, Debug)]
struct Classifier {
    inner: Linear,
    outer: Linear,
}

impl Classifier {
    /// First weights are drawn on the device, which is seeded before.
    fn new(device: &Device) -> Self {
        device.seed(1);
        Self {
            inner: LinearConfig::new(2, HIDDEN).init(device),
            outer: LinearConfig::new(HIDDEN, ARMS).init(device),
        }
    }

    /// Log-probabilities of each arm, `[points, arms]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        log_softmax(self.outer.forward(self.inner.forward(x).tanh()), 1)
    }

    /// The share of `points` whose arm has the highest score.
    fn accuracy(&self, points: &Points) -> Result<f64, Box<dyn Error>> {
        let found = self.forward(points.x.clone()).argmax(1).squeeze_dim::<1>(1);
        let right: i64 =
            found.equal(points.arm.clone()).int().sum().into_data().iter::<i64>().sum();
        Ok(right as f64 / points.len() as f64)
    }

    /// The weights of the first layer, bit for bit.
    fn bits(&self) -> Result<Vec<u32>, Box<dyn Error>> {
        let values: Vec<f32> = self.inner.weight.val().into_data().try_to_vec()?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    }
}

/// L = −Σ log p(arm). Unit: one point.
struct CrossEntropy;

impl Objective<Classifier> for CrossEntropy {
    type Batch = Points;

    fn units(&self, batch: &Points) -> usize {
        batch.len()
    }

    fn loss(&self, policy: &Classifier, batch: &Points) -> LossSum {
        let arm: Tensor<2, Int> = batch.arm.clone().unsqueeze_dim(1);
        let total = policy.forward(batch.x.clone()).gather(1, arm).sum().neg();
        LossSum { total, metrics: Vec::new() }
    }
}

/// Measures held-out points, and asks to stop after a step if it is to.
struct Hears<'a> {
    held_out: &'a Points,
    step: u64,
    stop_after: Option<u64>,
}

impl Observer<Classifier> for Hears<'_> {
    fn on_step(&mut self, report: &StepReport) {
        self.step = report.step;
    }

    fn evaluate(&mut self, step: u64, policy: &Classifier) -> Result<Option<f64>, TrainError> {
        let accuracy = policy.valid().accuracy(self.held_out);
        let accuracy = accuracy.map_err(|error| TrainError::evaluation(1, error.to_string()))?;
        println!("step {step}: {:.1} % of held-out points are right", 100.0 * accuracy);
        Ok(Some(accuracy))
    }

    fn on_checkpoint(&mut self, step: u64, _: &Path) {
        println!("step {step}: checkpoint");
    }

    fn on_warning(&mut self, message: &str) {
        eprintln!("{message}");
    }

    fn stop_requested(&self) -> bool {
        self.stop_after.is_some_and(|last| self.step >= last)
    }
}

/// Trains from the newest checkpoint in `folder`, or from the start if there is none.
fn train(
    device: &Device,
    folder: &Path,
    stop_after: Option<u64>,
) -> Result<(Classifier, Ended), Box<dyn Error>> {
    let schedule =
        Schedule { decay: Decay::Cosine { min_ratio: 0.0 }, warmup_steps: 10, total_steps: STEPS };
    let plan = TrainPlan {
        max_grad_norm: Some(1.0),
        eval_every: Some(100),
        save_every: Some(100),
        ..TrainPlan::new(schedule, 0.05, folder)
    };
    let mut source = Spiral::new(device);
    let mut state = TrainState::new(Classifier::new(&device.clone().autodiff()), AdamW::default());
    if let Some(found) = checkpoint::latest(&plan.checkpoints_dir())? {
        let (restored, saved) = state.restore(&found.path)?;
        state = restored;
        StepSource::<Classifier, _>::seek(&mut source, saved.cursor)?;
        println!("step {}: goes on", state.step);
    }
    let held_out = source.held_out();
    let mut hears = Hears { held_out: &held_out, step: state.step, stop_after };
    let outcome = fit(state, &CrossEntropy, &mut source, &plan, &mut hears)?;
    Ok((outcome.state.policy, outcome.ended))
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let (whole, parts) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (uninterrupted, _) = train(&device, whole.path(), None)?;
    let (_, ended) = train(&device, parts.path(), Some(STOP))?;
    println!("stopped on request: {}", ended == Ended::Stopped);
    let (resumed, _) = train(&device, parts.path(), None)?;

    let accuracy = uninterrupted.valid().accuracy(&Spiral::new(&device).held_out())?;
    println!("accuracy: {accuracy:.3}");
    println!("the resumed run has the same bits: {}", resumed.bits()? == uninterrupted.bits()?);
    Ok(())
}
