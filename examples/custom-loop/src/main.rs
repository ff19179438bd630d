//! A training loop of one's own, made of the parts of `fit`.
//!
//! It fits a plane by gradient descent and does two things that `fit` does not: it halves the
//! learning rate whenever the loss has not fallen for ten steps, and it ends when the gradient has
//! vanished rather than after a number of steps. At its end it saves a checkpoint and reads it
//! back. The plane is known, so the result can be checked.

use std::error::Error;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rekindle_train::{
    AdamW, Cursor, Decay, LossSum, Objective, Schedule, Step, TrainPlan, TrainState,
    clip_global_norm, gradient,
};

/// The plane that is to be found: y = 1.5 a − 2 b + 0.5 c + 3.
const SLOPES: [f32; 3] = [1.5, -2.0, 0.5];
const HEIGHT: f32 = 3.0;

/// Points that are fitted; all of them are one step, in micro-batches of 16.
const POINTS: usize = 64;
const MICRO: usize = 16;

/// Longest gradient; longer ones are scaled down to it.
const MAX_NORM: f64 = 1.0;
/// A gradient as short as this has vanished.
const VANISHED: f64 = 1e-4;
/// Steps without progress after which the learning rate is halved.
const PATIENCE: u32 = 10;
/// The loop gives up here.
const MOST_STEPS: u64 = 5000;

/// y = x · slopes + height
#[derive(Module, Debug)]
struct Plane {
    slopes: Param<Tensor<2>>,
    height: Param<Tensor<1>>,
}

impl Plane {
    fn flat(device: &Device) -> Self {
        Self {
            slopes: Param::from_tensor(Tensor::zeros([SLOPES.len(), 1], device)),
            height: Param::from_tensor(Tensor::zeros([1], device)),
        }
    }

    /// The largest error of a coefficient.
    fn error(&self) -> Result<f32, Box<dyn Error>> {
        let mut found: Vec<f32> = self.slopes.val().into_data().try_to_vec()?;
        found.extend(self.height.val().into_data().try_to_vec::<f32>()?);
        let wanted = SLOPES.into_iter().chain([HEIGHT]);
        Ok(found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
    }
}

/// Points and their values: `[points, 3]` and `[points, 1]`.
struct Points {
    x: Tensor<2>,
    y: Tensor<2>,
}

/// Squared distance, summed over points; `fit` and its parts divide by their number.
struct SquaredDistance;

impl Objective<Plane> for SquaredDistance {
    type Batch = Points;

    fn units(&self, batch: &Points) -> usize {
        batch.x.dims()[0]
    }

    fn loss(&self, plane: &Plane, batch: &Points) -> LossSum {
        let found = batch.x.clone().matmul(plane.slopes.val()) + plane.height.val().unsqueeze();
        let total = (found - batch.y.clone()).square().sum();
        LossSum { total, metrics: Vec::new() }
    }
}

/// All points as the micro-batches of one step.
fn points(device: &Device) -> Step<Points> {
    // Three frequencies: of one alone the third number would follow from the two before it.
    let row = |i: usize| [1.7, 2.9, 4.3].map(|frequency| (i as f32 * frequency).sin());
    let rows: Vec<[f32; 3]> = (0..POINTS).map(row).collect();
    let value =
        |row: &[f32; 3]| HEIGHT + row.iter().zip(SLOPES).map(|(x, slope)| x * slope).sum::<f32>();
    let micro = rows.chunks(MICRO).map(|rows| {
        let y: Vec<f32> = rows.iter().map(value).collect();
        let upload = |values: &[f32], width: usize| {
            Tensor::<1>::from_floats(values, device).reshape([rows.len(), width])
        };
        Points { x: upload(rows.as_flattened(), SLOPES.len()), y: upload(&y, 1) }
    });
    Step { micro: micro.collect() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let folder = tempfile::tempdir()?;
    // The plan is what checkpoints are written by; this loop has its own learning rate and end.
    let schedule = Schedule { decay: Decay::Constant, warmup_steps: 0, total_steps: MOST_STEPS };
    let plan = TrainPlan::new(schedule, 0.1, folder.path());
    let points = points(&device);
    let optimizer = AdamW { weight_decay: 0.0, ..AdamW::default() };
    let mut state = TrainState::new(Plane::flat(&device.clone().autodiff()), optimizer.clone());

    let mut learning_rate = plan.learning_rate;
    let (mut lowest, mut stale) = (f64::INFINITY, 0);
    loop {
        let found = gradient(&state, &SquaredDistance, &points, plan.seed)?;
        if !found.is_finite() || state.step == MOST_STEPS {
            return Err(format!("no plane after {} steps", state.step).into());
        }
        if state.step.is_multiple_of(100) {
            println!("step {}: loss {:.3e}, gradient {:.3e}", state.step, found.loss, found.norm);
        }
        if found.norm < VANISHED {
            break;
        }
        stale = if found.loss < lowest { 0 } else { stale + 1 };
        lowest = lowest.min(found.loss);
        if stale == PATIENCE {
            (learning_rate, stale) = (learning_rate / 2.0, 0);
        }
        let grads = clip_global_norm(&state.policy, found.grads, found.norm, Some(MAX_NORM));
        state = state.updated(learning_rate, grads);
        state.step += 1;
        state.units += found.units;
    }
    println!("the gradient vanished after {} steps", state.step);
    println!("learning rate was halved: {}", learning_rate < plan.learning_rate);
    println!("largest error of a coefficient: {:.1e}", state.policy.error()?);

    let path = state.save(&plan, Cursor { epoch: state.step, row: 0 })?;
    let fresh = TrainState::new(Plane::flat(&device.autodiff()), optimizer);
    let (restored, _) = fresh.restore(&path)?;
    let same = restored.policy.error()?.to_bits() == state.policy.error()?.to_bits();
    println!("the checkpoint holds the same plane: {}", same && restored.step == state.step);
    Ok(())
}
