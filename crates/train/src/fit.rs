//! The one training loop.

mod broken;
mod course;

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;

use crate::gradient::{Micro, Stretching, accumulate};
use crate::source::StepSource;
use crate::watchdog::Verdict;
use crate::{Objective, Observer, TrainError, TrainPlan, TrainState, checkpoint, clip_global_norm};

use broken::sample_ids;
use course::Course;

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
    checkpoint::recover_on(&*plan.saving.disk, &plan.checkpoints_dir())?;
    let devices = state.policy.devices();
    let mut stretching = Stretching::default();
    state.start(plan);
    let mut course = Course::new(plan, observer, state.step);

    let mut ended = course.owed(&mut state, source.cursor())?;
    let ended = loop {
        if let Some(ended) = ended.or_else(|| course.before_step(&state)) {
            break ended;
        }
        let started = Instant::now();
        let seeds = Seeds { devices: &devices, seed: plan.seed, step: state.step };
        seeds.apply(Stream::Source);
        let Some(batches) = source.next_step(&state.policy)? else { break Ended::Finished };
        let ids = sample_ids(source, &batches);

        let micro = Micro { policy: &state.policy, objective, scale: state.loss_scale() };
        let (grads, sums, numbers) =
            stretching.run(batches, source, course.observer, state.step + 1, |batches| {
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

        let verdict = course.judge(state.step, &numbers, ids, excused)?;
        let (loss, skipped) = (numbers.loss, matches!(verdict, Verdict::Skipped(_)));
        course.observer.on_step(&sums.report(state.step, plan.total_steps(), lr, numbers, skipped));
        if verdict == Verdict::Rollback {
            state = course.roll_back(state, loss)?;
            continue;
        }
        ended = course.after_step(&mut state, source.cursor())?;
    };
    let ended = course.finish(&mut state, ended, source.cursor())?;
    Ok(Outcome { state, ended })
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
