//! The gradient of one step: its micro-batches, their sums, and what to do when memory runs out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use crate::clip::rescaled;
use crate::fit::{Seeds, Stream};
use crate::report::{StepNumbers, StepSums};
use crate::source::{Step, StepSource};
use crate::{Objective, Observer, TrainError, TrainState, global_norm};

/// What every micro-batch of a step is computed with.
pub(crate) struct Micro<'a, M, O> {
    pub policy: &'a M,
    pub objective: &'a O,
    /// What losses are multiplied by before the backward pass.
    pub scale: f64,
}

/// A step's gradient, its sums and its numbers.
pub(crate) type Gradient = (GradientsParams, StepSums, StepNumbers);

/// The gradient of the mean loss per unit of the whole step, summed over its micro-batches.
pub(crate) fn accumulate<M: Module, O: Objective<M>>(
    micro: &Micro<'_, M, O>,
    batches: &Step<O::Batch>,
    seeds: &Seeds<'_>,
    started: Instant,
) -> Result<Gradient, TrainError> {
    let Micro { policy, objective, scale } = *micro;
    let step = seeds.step + 1;
    let units: usize = batches.micro.iter().map(|batch| objective.units(batch)).sum();
    if units == 0 {
        return Err(TrainError::EmptyStep { step });
    }
    let mut grads = GradientsAccumulator::new();
    let mut sums = StepSums::new(started, units as u64);
    for (index, batch) in batches.micro.iter().enumerate() {
        seeds.apply(Stream::Micro(index as u64));
        let loss = objective.loss(policy, batch);
        let mean = loss.total.div_scalar(units as f64);
        if !mean.is_tracked() {
            return Err(TrainError::NothingToTrain { step });
        }
        let scaled = if scale == 1.0 { mean.clone() } else { mean.clone().mul_scalar(scale) };
        grads.accumulate(policy, GradientsParams::from_grads(scaled.backward(), policy));
        sums.add(mean, loss.metrics);
    }
    let grads = grads.grads();
    let grads = if scale == 1.0 { grads } else { rescaled(policy, grads, scale.recip()) };
    // The step's numbers are read from the device in one go.
    let norm = global_norm(policy, &grads).ok_or(TrainError::NothingToTrain { step })?;
    let numbers = sums.read(norm);
    let failed = |cause: String| TrainError::Device { step, cause };
    let numbers = numbers.map_err(|error| failed(error.to_string()))?;
    // A device that is out of memory may hand over zeros; its failure shows where a tensor that it
    // did not write is read.
    if numbers.loss == 0.0 || numbers.grad_norm == 0.0 {
        readable(policy, &grads).map_err(failed)?;
    }
    Ok((grads, sums, numbers))
}

/// The gradient of one step, and what was measured on the way.
pub struct StepGradient {
    /// Gradients of the mean loss per unit, by parameter.
    pub grads: GradientsParams,
    /// Mean loss per unit.
    pub loss: f64,
    /// Global L2 norm of the gradient.
    pub norm: f64,
    /// Units of the step.
    pub units: u64,
    /// The objective's metrics, mean per unit.
    pub metrics: Vec<(&'static str, f64)>,
}

impl StepGradient {
    /// Whether loss and gradient are numbers; [`fit`](crate::fit) makes no update where they are
    /// not.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.norm.is_finite()
    }
}

/// The gradient of the mean loss per unit over all micro-batches of a step, as
/// [`fit`](crate::fit) computes it, for a loop of your own.
///
/// The devices are reseeded from (`seed`, `state.step`, micro-batch) before each forward pass, so
/// that such a loop is as repeatable as `fit`. Numbers are read from the device once.
///
/// # Errors
/// [`TrainError`] for a step without units, a policy without trainable parameters and a device
/// that cannot hand over its results. Memory that runs out is the backend's panic.
pub fn gradient<M: Module, O: Objective<M>>(
    state: &TrainState<M>,
    objective: &O,
    batches: &Step<O::Batch>,
    seed: u64,
) -> Result<StepGradient, TrainError> {
    let devices = state.policy.devices();
    let seeds = Seeds { devices: &devices, seed, step: state.step };
    let micro = Micro { policy: &state.policy, objective, scale: state.loss_scale() };
    let (grads, sums, numbers) = accumulate(&micro, batches, &seeds, Instant::now())?;
    let units = sums.units();
    let StepNumbers { loss, grad_norm: norm, metrics, .. } = numbers;
    Ok(StepGradient { grads, loss, norm, units, metrics })
}

/// Reads every gradient from the device; what it says of one that it cannot hand over.
fn readable<M: Module>(policy: &M, grads: &GradientsParams) -> Result<(), String> {
    let mut visitor = Read { grads, failure: None };
    policy.visit(&mut visitor);
    visitor.failure.map_or(Ok(()), Err)
}

struct Read<'a> {
    grads: &'a GradientsParams,
    failure: Option<String>,
}

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.failure.is_none()
            && let Some(grad) = self.grads.get::<D>(param.id)
        {
            self.failure = grad.try_into_data().err().map(|error| error.to_string());
        }
    }
}

/// How often micro-batches are halved because the device has too little memory for them.
#[derive(Debug, Default)]
pub(crate) struct Stretching {
    halvings: u32,
}

impl Stretching {
    /// Runs `gradient` on the step's micro-batches, halved as often as memory asks for.
    pub(crate) fn run<M, B, S>(
        &mut self,
        mut batches: Step<B>,
        source: &S,
        observer: &mut dyn Observer<M>,
        step: u64,
        gradient: impl Fn(&Step<B>) -> Result<Gradient, TrainError>,
    ) -> Result<Gradient, TrainError>
    where
        M: Module,
        S: StepSource<M, B>,
    {
        for _ in 0..self.halvings {
            // Some may be single rows already; the others are halved still.
            batches = halved(batches, source).0;
        }
        loop {
            let cause = match catch_unwind(AssertUnwindSafe(|| gradient(&batches))) {
                Ok(Err(TrainError::Device { cause, .. })) if speaks_of_memory(&cause) => cause,
                Ok(result) => return result,
                Err(panic) => match message(panic.as_ref()) {
                    Some(text) if speaks_of_memory(text) => text.to_owned(),
                    _ => resume_unwind(panic),
                },
            };
            let (smaller, any) = halved(batches, source);
            if !any {
                return Err(TrainError::OutOfMemory { step, cause });
            }
            batches = smaller;
            self.halvings += 1;
            observer.on_warning(&format!(
                "step {step}: the device ran out of memory; micro-batches are halved from here \
                 on, and a step has the same rows in {} of them",
                batches.micro.len()
            ));
        }
    }
}

/// The step with each micro-batch that can be halved in two, and whether any could.
fn halved<M: Module, B, S: StepSource<M, B>>(step: Step<B>, source: &S) -> (Step<B>, bool) {
    let before = step.micro.len();
    let mut micro = Vec::with_capacity(2 * before);
    for batch in step.micro {
        match source.halve(&batch) {
            Some(halves) => micro.extend(halves),
            None => micro.push(batch),
        }
    }
    let any = micro.len() > before;
    (Step { micro }, any)
}

/// The words of the allocators below Burn, and of our own tests.
fn speaks_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    const WORDS: [&str; 6] = [
        "out of memory",
        "out of device memory",
        "outofmemory",
        "out_of_memory",
        "buffertoobig",
        "not enough memory",
    ];
    WORDS.iter().any(|words| text.contains(words))
}

fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip_global_norm;
    use crate::toy::{Mlp, Recorder, Rows, SquaredError, plan, run, state, turn};

    #[test]
    fn a_loop_of_the_parts_does_what_fit_does_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 6);
        let mut recorder = Recorder::default();
        let fitted = run(state(0.2), &[], &plan, &mut recorder).unwrap();

        let _turn = turn();
        let mut own = state(0.2);
        let mut source = Rows { next: 0, broken: Vec::new() };
        for report in &recorder.reports {
            let batches = source.next_step(&own.policy).unwrap().unwrap();
            let found = gradient(&own, &SquaredError, &batches, plan.seed).unwrap();
            assert!(found.is_finite());
            assert_eq!((found.loss, found.norm), (report.loss, report.grad_norm));
            assert_eq!((found.units, &found.metrics), (report.units, &report.metrics));
            let lr = plan.learning_rate_at(own.step);
            let StepGradient { grads, norm, units, .. } = found;
            let grads = clip_global_norm(&own.policy, grads, norm, plan.max_grad_norm);
            own = own.updated(lr, grads);
            own.step += 1;
            own.units += units;
        }
        assert_eq!(own.policy.bits(), fitted.state.policy.bits());

        let cursor = StepSource::<Mlp, _>::cursor(&source);
        let path = own.save(&plan, cursor).unwrap();
        let (restored, saved) = state(0.2).restore(&path).unwrap();
        assert_eq!(restored.policy.bits(), own.policy.bits());
        assert_eq!((restored.step, restored.units), (6, fitted.state.units));
        assert_eq!(saved.cursor, cursor);
    }
}
