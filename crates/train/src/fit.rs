//! The one training loop.

use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;

use crate::plan::is_due;
use crate::report::{StepNumbers, StepSums};
use crate::source::{Step, StepSource};
use crate::{
    Objective, Observer, TrainError, TrainPlan, TrainState, checkpoint, clip_global_norm,
    global_norm,
};

/// How a run ended, and what it made.
#[derive(Debug)]
pub struct Outcome<M: Module> {
    /// The state after the last step.
    pub state: TrainState<M>,
    /// Whether the run is complete.
    pub ended: Ended,
}

/// Why a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All steps are done or the data are used up.
    Finished,
    /// The observer asked to stop; a checkpoint was saved.
    Stopped,
}

/// Trains `state` until the plan's last step, the end of the data, or a request to stop.
///
/// Each micro-batch's sum is divided by the units of the whole step before its backward pass, so
/// any split of a step gives the same gradient. The device is reseeded from (seed, step) before
/// the source is asked and from (seed, step, micro-batch) before each forward pass: a resumed run
/// repeats the uninterrupted one bit for bit. A step whose loss or gradient is not finite changes
/// neither weights nor optimizer.
///
/// The policy's parameters are on an autodiff device; batches may be on the plain one. To resume,
/// restore the state and seek the source first.
pub fn fit<M, O, S>(
    mut state: TrainState<M>,
    objective: &O,
    source: &mut S,
    plan: &TrainPlan,
    observer: &mut dyn Observer<M>,
) -> Result<Outcome<M>, TrainError>
where
    M: Module,
    O: Objective<M>,
    S: StepSource<M, O::Batch>,
{
    checkpoint::remove_leftovers(&plan.checkpoints_dir())?;
    let devices = state.policy.devices();
    let mut guard = NonFinite { in_a_row: 0, limit: plan.max_nonfinite };
    let (mut evaluated, mut saved) = (None, None);
    let mut stopped = false;

    while state.step < plan.total_steps() {
        stopped = observer.stop_requested();
        if stopped {
            break;
        }
        let started = Instant::now();
        let seeds = Seeds { devices: &devices, seed: plan.seed, step: state.step };
        seeds.apply(Stream::Source);
        let Some(batches) = source.next_step(&state.policy)? else { break };

        let (grads, mut sums) = accumulate(&state.policy, objective, &batches, &seeds, started)?;
        let numbers = read(&state.policy, &grads, &mut sums, state.step + 1)?;
        let lr = plan.learning_rate_at(state.step);
        if numbers.is_finite() {
            let norm = numbers.grad_norm;
            let grads = clip_global_norm(&state.policy, grads, norm, plan.max_grad_norm);
            state.policy = state.optimizer.step(lr, state.policy, grads);
        }
        state.step += 1;
        state.units += sums.units();

        let step = state.step;
        let skipped = guard.count(step, &numbers, observer)?;
        observer.on_step(&sums.report(step, plan.total_steps(), lr, numbers, skipped));
        if is_due(plan.eval_every, step) {
            observer.evaluate(step, &state.policy)?;
            evaluated = Some(step);
        }
        if is_due(plan.save_every, step) {
            observer.on_checkpoint(step, &state.save(plan, source.cursor())?);
            saved = Some(step);
        }
    }

    if !stopped && plan.eval_every.is_some() && evaluated != Some(state.step) {
        observer.evaluate(state.step, &state.policy)?;
    }
    if (stopped || plan.save_every.is_some()) && saved != Some(state.step) {
        observer.on_checkpoint(state.step, &state.save(plan, source.cursor())?);
    }
    Ok(Outcome { state, ended: if stopped { Ended::Stopped } else { Ended::Finished } })
}

/// The gradient of the mean loss per unit of the whole step, summed over its micro-batches.
fn accumulate<M: Module, O: Objective<M>>(
    policy: &M,
    objective: &O,
    batches: &Step<O::Batch>,
    seeds: &Seeds<'_>,
    started: Instant,
) -> Result<(GradientsParams, StepSums), TrainError> {
    let number = seeds.step + 1;
    let units: usize = batches.micro.iter().map(|batch| objective.units(batch)).sum();
    if units == 0 {
        return Err(TrainError::EmptyStep { step: number });
    }
    let mut grads = GradientsAccumulator::new();
    let mut sums = StepSums::new(started, units as u64);
    for (index, batch) in batches.micro.iter().enumerate() {
        seeds.apply(Stream::Micro(index as u64));
        let loss = objective.loss(policy, batch);
        let mean = loss.total.div_scalar(units as f64);
        if !mean.is_tracked() {
            return Err(TrainError::NothingToTrain { step: number });
        }
        grads.accumulate(policy, GradientsParams::from_grads(mean.backward(), policy));
        sums.add(mean, loss.metrics);
    }
    Ok((grads.grads(), sums))
}

/// The step's numbers, read from the device in one go.
fn read<M: Module>(
    policy: &M,
    grads: &GradientsParams,
    sums: &mut StepSums,
    step: u64,
) -> Result<StepNumbers, TrainError> {
    let norm = global_norm(policy, grads).ok_or(TrainError::NothingToTrain { step })?;
    sums.read(norm).map_err(|error| TrainError::Device { step, cause: error.to_string() })
}

/// Where the randomness of one part of a step starts.
struct Seeds<'a> {
    devices: &'a [Device],
    seed: u64,
    step: u64,
}

/// The parts of a step that draw random numbers.
enum Stream {
    Source,
    Micro(u64),
}

impl Seeds<'_> {
    fn apply(&self, stream: Stream) {
        let (kind, index) = match stream {
            Stream::Source => (0, 0),
            Stream::Micro(index) => (1, index),
        };
        let mut hasher = blake3::Hasher::new();
        for part in [self.seed, self.step, kind, index] {
            hasher.update(&part.to_le_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        let first = hash.first_chunk::<8>().expect("a blake3 hash has 32 bytes");
        for device in self.devices {
            device.seed(u64::from_le_bytes(*first));
        }
    }
}

/// Counts steps in a row that were not finite.
struct NonFinite {
    in_a_row: u32,
    limit: u32,
}

impl NonFinite {
    /// Whether the step was skipped; an error once as many in a row as the limit were.
    fn count<M: Module>(
        &mut self,
        step: u64,
        numbers: &StepNumbers,
        observer: &mut dyn Observer<M>,
    ) -> Result<bool, TrainError> {
        if numbers.is_finite() {
            self.in_a_row = 0;
            return Ok(false);
        }
        self.in_a_row += 1;
        let (loss, grad_norm) = (numbers.loss, numbers.grad_norm);
        if self.in_a_row >= self.limit.max(1) {
            return Err(TrainError::Diverged { step, loss, grad_norm, in_a_row: self.in_a_row });
        }
        observer.on_warning(&format!(
            "step {step}: loss `{loss}`, gradient norm `{grad_norm}`; the update was skipped \
             ({} of at most {} in a row)",
            self.in_a_row,
            self.limit.max(1) - 1
        ));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
