//! The one training loop.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;

use crate::gradient::{Micro, Stretching, accumulate};
use crate::plan::is_due;
use crate::source::StepSource;
use crate::watchdog::{Best, Guard, Verdict};
use crate::{Objective, Observer, TrainError, TrainPlan, TrainState, checkpoint, clip_global_norm};

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
    /// Evaluations brought nothing any more.
    EarlyStopped,
    /// The observer asked to stop; a checkpoint was saved.
    Stopped,
}

/// Trains `state` until the plan's last step, the end of the data, or a request to stop.
///
/// Each micro-batch's sum is divided by the units of the whole step before its backward pass, so
/// any split of a step gives the same gradient. The device is reseeded from (seed, step) before
/// the source is asked and from (seed, step, micro-batch) before each forward pass: a resumed run
/// repeats the uninterrupted one bit for bit. A step whose loss or gradient is not finite changes
/// neither weights nor optimizer. A step that the device has no memory for is done again in
/// halves of its micro-batches, as are those after it.
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
    let mut guard = Guard::new(plan.max_nonfinite, plan.watchdog);
    let mut stretching = Stretching::default();
    let mut done = Done::default();
    state.start(plan);

    let ended = loop {
        if state.step >= plan.total_steps() {
            break Ended::Finished;
        }
        if observer.stop_requested() {
            break Ended::Stopped;
        }
        let started = Instant::now();
        let seeds = Seeds { devices: &devices, seed: plan.seed, step: state.step };
        seeds.apply(Stream::Source);
        let Some(batches) = source.next_step(&state.policy)? else { break Ended::Finished };

        let micro = Micro { policy: &state.policy, objective, scale: state.loss_scale() };
        let (grads, sums, numbers) =
            stretching.run(batches, source, observer, state.step + 1, |batches| {
                accumulate(&micro, batches, &seeds, started)
            })?;
        let lr = plan.learning_rate_at(state.step);
        let excused = state.take_finite(numbers.is_finite());
        if numbers.is_finite() {
            let norm = numbers.grad_norm;
            let grads = clip_global_norm(&state.policy, grads, norm, plan.max_grad_norm);
            state = state.updated(lr, grads);
        }
        state.step += 1;
        state.units += sums.units();

        let step = state.step;
        let verdict = guard.judge(step, &numbers, excused)?;
        if let Verdict::Skipped(why) = &verdict {
            observer.on_warning(why);
        }
        let skipped = matches!(verdict, Verdict::Skipped(_));
        let loss = numbers.loss;
        observer.on_step(&sums.report(step, plan.total_steps(), lr, numbers, skipped));
        if verdict == Verdict::Rollback {
            state = roll_back(state, plan, loss, observer)?;
            continue;
        }
        let stop = is_due(plan.eval_every, step)
            && evaluate(&mut state, plan, source.cursor(), observer, &mut done)?;
        if is_due(plan.save_every, step) {
            save(&state, plan, source.cursor(), observer, &mut done)?;
        }
        if stop {
            break Ended::EarlyStopped;
        }
    };

    let stopped = ended == Ended::Stopped;
    if !stopped && plan.eval_every.is_some() && done.evaluated != Some(state.step) {
        evaluate(&mut state, plan, source.cursor(), observer, &mut done)?;
    }
    if stopped || plan.save_every.is_some() {
        save(&state, plan, source.cursor(), observer, &mut done)?;
    }
    Ok(Outcome { state, ended })
}

/// Steps after which something was done last.
#[derive(Default)]
struct Done {
    evaluated: Option<u64>,
    saved: Option<u64>,
}

/// Has the observer measure the policy; whether the run is to end for want of progress.
fn evaluate<M: Module>(
    state: &mut TrainState<M>,
    plan: &TrainPlan,
    cursor: crate::Cursor,
    observer: &mut dyn Observer<M>,
    done: &mut Done,
) -> Result<bool, TrainError> {
    let step = state.step;
    let value = observer.evaluate(step, &state.averaged())?;
    done.evaluated = Some(step);
    let (Some(metric), Some(value)) = (plan.metric, value) else { return Ok(false) };
    let progress = metric.take(&mut state.best, step, value);
    if progress.is_best && metric.keep_best {
        save(state, plan, cursor, observer, done)?;
    }
    if progress.stop
        && let Some(Best { step: best, value, stale }) = state.best
    {
        observer.on_warning(&format!(
            "step {step}: {stale} evaluations in a row were not better than {value} at step \
             {best}; the run ends here"
        ));
    }
    Ok(progress.stop)
}

/// Saves a checkpoint unless the one of this step is there already.
fn save<M: Module>(
    state: &TrainState<M>,
    plan: &TrainPlan,
    cursor: crate::Cursor,
    observer: &mut dyn Observer<M>,
    done: &mut Done,
) -> Result<(), TrainError> {
    if done.saved == Some(state.step) {
        return Ok(());
    }
    observer.on_checkpoint(state.step, &state.save(plan, cursor)?);
    done.saved = Some(state.step);
    Ok(())
}

/// The last checkpoint's weights and optimizer; the source stays where it is.
fn roll_back<M: Module>(
    state: TrainState<M>,
    plan: &TrainPlan,
    loss: f64,
    observer: &mut dyn Observer<M>,
) -> Result<TrainState<M>, TrainError> {
    let from = state.step;
    let Some(found) = checkpoint::latest(&plan.checkpoints_dir())? else {
        return Err(TrainError::NoWayBack { step: from, loss });
    };
    let (state, _) = state.restore(&found.path)?;
    observer.on_warning(&format!(
        "step {from}: loss `{loss}` stayed above the watchdog's threshold; weights and optimizer \
         are those of step {} again, and the rows seen since are passed over",
        state.step
    ));
    Ok(state)
}

/// Where the randomness of one part of a step starts.
pub(crate) struct Seeds<'a> {
    pub devices: &'a [Device],
    pub seed: u64,
    pub step: u64,
}

/// The parts of a step that draw random numbers.
pub(crate) enum Stream {
    Source,
    Micro(u64),
}

impl Seeds<'_> {
    pub fn apply(&self, stream: Stream) {
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

#[cfg(test)]
mod course_tests;
#[cfg(test)]
mod tests;
