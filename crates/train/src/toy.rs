//! A regression small enough to train in a test.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};
use rekindle_testkit::device;

use crate::{
    AdamW, Cursor, Decay, LossSum, Objective, Observer, Optimizer, Outcome, Saving, Schedule,
    SourceError, Step, StepReport, StepSource, TrainError, TrainPlan, TrainState, fit,
};

/// Outputs of the toy model.
pub const OUTPUTS: usize = 3;
const INPUTS: usize = 4;
const HIDDEN: usize = 6;

/// y = (dropout(tanh(x · up)) · down) ⊙ gain + x · frozen
#[derive(Module, Debug)]
pub struct Mlp {
    pub up: Param<Tensor<2>>,
    pub down: Param<Tensor<2>>,
    pub head: Head,
    pub frozen: Param<Tensor<2>>,
    #[module(skip)]
    pub dropout: f64,
}

/// An enum, as adapters are: its variant is part of the parameter's path.
#[derive(Module, Debug)]
pub enum Head {
    Scaled(Scaled),
}

#[derive(Module, Debug)]
pub struct Scaled {
    pub gain: Param<Tensor<1>>,
}

impl Mlp {
    pub fn new(hidden: usize, dropout: f64) -> Self {
        let device = device().autodiff();
        let ramp = |rows: usize, columns: usize, phase: f32| {
            let values = (0..rows * columns).map(|it| (it as f32 * 1.7 + phase).sin() * 0.5);
            let flat = values.collect::<Vec<_>>();
            let flat = Tensor::<1>::from_floats(flat.as_slice(), &device);
            Param::from_tensor(flat.reshape([rows, columns]))
        };
        Self {
            up: ramp(INPUTS, hidden, 0.1),
            down: ramp(hidden, OUTPUTS, 0.7),
            head: Head::Scaled(Scaled {
                gain: Param::from_tensor(Tensor::ones([OUTPUTS], &device)),
            }),
            frozen: ramp(INPUTS, OUTPUTS, 2.0).set_require_grad(false),
            dropout,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let Head::Scaled(Scaled { gain }) = &self.head;
        let hidden = x.clone().matmul(self.up.val()).tanh();
        let hidden = if self.dropout > 0.0 {
            let keep = Distribution::Bernoulli(1.0 - self.dropout);
            hidden.clone() * Tensor::random(hidden.dims(), keep, &hidden.device().inner())
        } else {
            hidden
        };
        let scaled = hidden.matmul(self.down.val()) * gain.val().unsqueeze();
        scaled + x.matmul(self.frozen.val())
    }

    /// All parameters as bits.
    pub fn bits(&self) -> Vec<u32> {
        let Head::Scaled(Scaled { gain }) = &self.head;
        let mut values: Vec<f32> = gain.val().into_data().try_to_vec().expect("the toy is f32");
        for param in [&self.up, &self.down, &self.frozen] {
            values.extend(param.val().into_data().try_to_vec::<f32>().expect("the toy is f32"));
        }
        values.into_iter().map(f32::to_bits).collect()
    }
}

/// One row: inputs, wanted outputs, and which outputs count.
pub type Row = ([f32; INPUTS], [f32; OUTPUTS], [bool; OUTPUTS]);

/// Rows on the device.
#[derive(Debug, Clone)]
pub struct Batch {
    x: Tensor<2>,
    y: Tensor<2>,
    mask: Tensor<2>,
    units: usize,
    pub rows: Vec<Row>,
}

impl Batch {
    pub fn new(rows: &[Row]) -> Self {
        let device = device();
        let upload = |values: Vec<f32>, width: usize, device: &Device| {
            Tensor::<1>::from_floats(values.as_slice(), device).reshape([rows.len(), width])
        };
        let mask = rows.iter().flat_map(|row| row.2.map(|on| if on { 1.0 } else { 0.0 }));
        Self {
            x: upload(rows.iter().flat_map(|row| row.0).collect(), INPUTS, &device),
            y: upload(rows.iter().flat_map(|row| row.1).collect(), OUTPUTS, &device),
            mask: upload(mask.collect(), OUTPUTS, &device),
            units: rows.iter().flat_map(|row| row.2).filter(|on| *on).count(),
            rows: rows.to_vec(),
        }
    }
}

/// Squared error, summed over the outputs that count; the metric is the absolute error.
pub struct SquaredError;

impl Objective<Mlp> for SquaredError {
    type Batch = Batch;

    fn units(&self, batch: &Batch) -> usize {
        batch.units
    }

    fn loss(&self, policy: &Mlp, batch: &Batch) -> LossSum {
        let error = (policy.forward(batch.x.clone()) - batch.y.clone()) * batch.mask.clone();
        let absolute = error.clone().detach().abs().sum();
        LossSum { total: error.square().sum(), metrics: vec![("absolute_error", absolute)] }
    }
}

/// Row number `index` of an endless data set.
pub fn row(index: usize) -> Row {
    let at = |offset: usize| ((index * 7 + offset) as f32 * 0.61).sin();
    let x = [at(0), at(1), at(2), at(3)];
    (x, [x[0] * x[1], x[2] - x[3], 0.5 * x[0]], [true, !index.is_multiple_of(3), true])
}

/// Steps of two micro-batches of two rows; the steps in `broken` have a NaN in the first one.
pub struct Rows {
    pub next: u64,
    pub broken: Vec<u64>,
}

impl StepSource<Mlp, Batch> for Rows {
    fn next_step(&mut self, _policy: &Mlp) -> Result<Option<Step<Batch>>, SourceError> {
        let step = self.next;
        self.next += 1;
        let first = (step % 8) as usize * 4;
        let mut rows: Vec<_> = (first..first + 4).map(row).collect();
        if self.broken.contains(&step) {
            rows[0].0[0] = f32::NAN;
        }
        Ok(Some(Step { micro: rows.chunks(2).map(Batch::new).collect() }))
    }

    fn halve(&self, batch: &Batch) -> Option<[Batch; 2]> {
        let (first, second) = batch.rows.split_at(batch.rows.len() / 2);
        (!first.is_empty()).then(|| [first, second].map(Batch::new))
    }

    fn sample_ids(&self, batch: &Batch) -> Vec<Vec<u64>> {
        let index = |wanted: &Row| (0..32).find(|&index| row(index).1 == wanted.1);
        batch.rows.iter().map(|row| index(row).into_iter().map(|it| it as u64).collect()).collect()
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: 0, row: self.next * 4 }
    }

    fn seek(&mut self, cursor: Cursor) -> Result<(), SourceError> {
        self.next = cursor.row / 4;
        Ok(())
    }
}

/// Keeps all that it hears; asks to stop after `stop_after` steps.
#[derive(Default)]
pub struct Recorder {
    pub reports: Vec<StepReport>,
    pub evaluated: Vec<u64>,
    /// The weights that were evaluated.
    pub measured: Vec<Vec<u32>>,
    /// What the evaluations find, one after the other.
    pub values: Vec<f64>,
    pub checkpoints: Vec<PathBuf>,
    pub warnings: Vec<String>,
    pub stop_after: Option<usize>,
    /// The step whose evaluation is given up, once.
    pub give_up: Option<u64>,
    /// Steps after which a checkpoint is asked for.
    pub save_after: Vec<usize>,
}

impl Observer<Mlp> for Recorder {
    fn on_step(&mut self, report: &StepReport) {
        self.reports.push(report.clone());
    }

    fn evaluate(&mut self, step: u64, policy: &Mlp) -> Result<Option<f64>, TrainError> {
        if self.give_up.take_if(|at| *at == step).is_some() {
            return Err(TrainError::EvaluationStopped);
        }
        self.evaluated.push(step);
        self.measured.push(policy.bits());
        Ok(self.values.get(self.evaluated.len() - 1).copied())
    }

    fn on_checkpoint(&mut self, _step: u64, path: &Path) {
        self.checkpoints.push(path.to_path_buf());
    }

    fn on_warning(&mut self, message: &str) {
        self.warnings.push(message.to_string());
    }

    fn stop_requested(&self) -> bool {
        self.stop_after == Some(self.reports.len())
    }

    fn save_requested(&mut self) -> bool {
        self.save_after.contains(&self.reports.len())
    }
}

pub fn plan(run_dir: &Path, total_steps: u64) -> TrainPlan {
    TrainPlan {
        schedule: Schedule {
            decay: Decay::Cosine { min_ratio: 0.1 },
            warmup_steps: 2,
            total_steps,
        },
        learning_rate: 0.02,
        max_grad_norm: Some(1.0),
        eval_every: None,
        save_every: None,
        keep_checkpoints: 3,
        seed: 7,
        max_nonfinite: 3,
        watchdog: None,
        metric: None,
        ema_decay: None,
        scale_losses: false,
        saving: Saving::default(),
        run_dir: run_dir.to_path_buf(),
        extra: serde_json::json!({ "recipe": "toy" }),
    }
}

pub fn state(dropout: f64) -> TrainState<Mlp> {
    state_with(AdamW::default(), dropout)
}

/// A fresh state under another optimizer.
pub fn state_with(optimizer: impl Into<Optimizer>, dropout: f64) -> TrainState<Mlp> {
    TrainState::new(Mlp::new(HIDDEN, dropout), optimizer)
}

// The CPU backend has one random generator for the whole process, so runs in one process take
// turns; with one process a test this never waits.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test of this process is in the middle of a run.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fits from `state` on; the source is put where the state's steps left it.
pub fn run(
    state: TrainState<Mlp>,
    broken: &[u64],
    plan: &TrainPlan,
    recorder: &mut Recorder,
) -> Result<Outcome<Mlp>, TrainError> {
    let _turn = turn();
    let mut source = Rows { next: state.step, broken: broken.to_vec() };
    fit(state, &SquaredError, &mut source, plan, recorder)
}
