//! What is done between steps: evaluations, checkpoints, the way back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::module::Module;

use super::Ended;
use super::broken::{Broken, SampleIds};
use crate::plan::{OnSaveError, is_due};
use crate::report::StepNumbers;
use crate::watchdog::{Best, Guard, Verdict};
use crate::{CheckpointError, Cursor, Observer, TrainError, TrainPlan, TrainState, checkpoint};

/// How often a run that waits for its disk looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The way of a run between its steps.
pub(super) struct Course<'a, M: Module> {
    plan: &'a TrainPlan,
    pub(super) observer: &'a mut dyn Observer<M>,
    guard: Guard,
    broken: Broken,
    /// The step that this part of the run began at.
    began: u64,
    /// The step that was saved last.
    saved: Option<u64>,
}

impl<'a, M: Module> Course<'a, M> {
    pub(super) fn new(plan: &'a TrainPlan, observer: &'a mut dyn Observer<M>, began: u64) -> Self {
        let guard = Guard::new(plan.max_nonfinite, plan.watchdog);
        let broken = Broken::default();
        Self { plan, observer, guard, broken, began, saved: None }
    }

    /// Does what the part of the run before this one was kept from; whether the run ends here.
    pub(super) fn owed(
        &mut self,
        state: &mut TrainState<M>,
        cursor: Cursor,
    ) -> Result<Option<Ended>, TrainError> {
        if state.evaluation_due && !self.observer.stop_requested() {
            let ended = self.evaluate(state, cursor)?;
            if ended != Some(Ended::Stopped) && is_due(self.plan.save_every, state.step) {
                self.save(state, cursor)?;
            }
            return Ok(ended);
        }
        // It had ended already, and was cut off before its results were written.
        let stale = state.best.map_or(0, |best| best.stale);
        let over = self.plan.metric.is_some_and(|metric| metric.ends_at(stale));
        Ok(over.then_some(Ended::EarlyStopped))
    }

    /// Whether the run ends before its next step.
    pub(super) fn before_step(&self, state: &TrainState<M>) -> Option<Ended> {
        if state.step >= self.plan.total_steps() {
            return Some(Ended::Finished);
        }
        self.observer.stop_requested().then_some(Ended::Stopped)
    }

    /// Judges the numbers of `step` and tells of an update that was left out for them.
    pub(super) fn judge(
        &mut self,
        step: u64,
        numbers: &StepNumbers,
        ids: SampleIds,
        excused: Option<String>,
    ) -> Result<Verdict, TrainError> {
        self.broken.take(step, numbers, ids);
        let verdict = self.guard.judge(step, numbers, excused);
        let verdict = verdict.map_err(|error| self.broken.dumped(error, &self.plan.run_dir))?;
        if let Verdict::Skipped(why) = &verdict {
            self.observer.on_warning(why);
        }
        if numbers.loss == 0.0 && numbers.grad_norm == 0.0 {
            self.observer.on_warning(&format!(
                "step {step}: loss and gradient are exactly zero; if that is not what the \
                 objective means, look at the rows and at the device"
            ));
        }
        Ok(verdict)
    }

    /// Evaluates and saves where that is due or asked for; whether the run ends here.
    pub(super) fn after_step(
        &mut self,
        state: &mut TrainState<M>,
        cursor: Cursor,
    ) -> Result<Option<Ended>, TrainError> {
        let ended = match is_due(self.plan.eval_every, state.step) {
            true => self.evaluate(state, cursor)?,
            false => None,
        };
        let asked = self.observer.save_requested();
        if asked || is_due(self.plan.save_every, state.step) {
            self.save(state, cursor)?;
        }
        Ok(ended)
    }

    /// The last evaluation and the last checkpoint; how the run has ended.
    pub(super) fn finish(
        &mut self,
        state: &mut TrainState<M>,
        mut ended: Ended,
        cursor: Cursor,
    ) -> Result<Ended, TrainError> {
        let evaluates = ended == Ended::Finished && self.plan.eval_every.is_some();
        if evaluates && state.evaluated != Some(state.step) {
            if self.evaluate(state, cursor)? == Some(Ended::Stopped) {
                ended = Ended::Stopped;
            }
            // A checkpoint of this step that is there does not know of it.
            self.saved = None;
        }
        if ended == Ended::Stopped || self.plan.save_every.is_some() {
            self.save(state, cursor)?;
        }
        Ok(ended)
    }

    /// Has the observer measure the policy; how the run ends if it ends for that.
    fn evaluate(
        &mut self,
        state: &mut TrainState<M>,
        cursor: Cursor,
    ) -> Result<Option<Ended>, TrainError> {
        let step = state.step;
        let value = match self.observer.evaluate(step, &state.averaged()) {
            Err(TrainError::EvaluationStopped) => {
                state.evaluation_due = true;
                return Ok(Some(Ended::Stopped));
            }
            value => value?,
        };
        state.evaluation_due = false;
        state.evaluated = Some(step);
        let (Some(metric), Some(value)) = (self.plan.metric, value) else { return Ok(None) };
        let progress = metric.take(&mut state.best, step, value);
        if progress.is_best && metric.keep_best {
            self.save(state, cursor)?;
        }
        if progress.stop
            && let Some(Best { step: best, value, stale }) = state.best
        {
            self.observer.on_warning(&format!(
                "step {step}: {stale} evaluations in a row were not better than {value} at step \
                 {best}; the run ends here"
            ));
        }
        Ok(progress.stop.then_some(Ended::EarlyStopped))
    }

    /// Saves a checkpoint unless the one of this state is there already.
    fn save(&mut self, state: &TrainState<M>, cursor: Cursor) -> Result<(), TrainError> {
        if self.saved == Some(state.step) {
            return Ok(());
        }
        if self.is_unchanged(state, cursor) {
            self.saved = Some(state.step);
            return Ok(state.retain(self.plan)?);
        }
        let path = match state.save(self.plan, cursor) {
            Err(error @ CheckpointError::Io { .. })
                if self.plan.saving.on_error == OnSaveError::Pause =>
            {
                self.wait_for_disk(state, cursor, error)?
            }
            path => path?,
        };
        self.observer.on_checkpoint(state.step, &path);
        self.saved = Some(state.step);
        Ok(())
    }

    /// Whether no step was done since the checkpoint that this part of the run began with, which
    /// is still there.
    fn is_unchanged(&self, state: &TrainState<M>, cursor: Cursor) -> bool {
        state.step == self.began
            && checkpoint::verify(&self.plan.checkpoint_dir(state.step))
                .is_ok_and(|saved| saved == state.saved(self.plan, cursor))
    }

    /// Tries until the checkpoint is saved or the run is asked to stop.
    fn wait_for_disk(
        &mut self,
        state: &TrainState<M>,
        cursor: Cursor,
        mut error: CheckpointError,
    ) -> Result<std::path::PathBuf, TrainError> {
        let every = self.plan.saving.retry_every;
        let (step, began) = (state.step, Instant::now());
        self.observer.on_warning(&format!(
            "step {step}: {error}; the run waits and tries again every {} s",
            every.as_secs_f64()
        ));
        loop {
            let asleep = Instant::now();
            while asleep.elapsed() < every {
                if self.observer.stop_requested() {
                    return Err(error.into());
                }
                sleep(GLANCE.min(every.saturating_sub(asleep.elapsed())));
            }
            // What the last try could not remove is in the way of none, but it takes room.
            let saving = &*self.plan.saving.disk;
            let tried = checkpoint::recover_on(saving, &self.plan.checkpoints_dir())
                .and_then(|()| state.save(self.plan, cursor));
            match tried {
                Ok(path) => {
                    let seconds = began.elapsed().as_secs_f64();
                    self.observer.on_warning(&format!(
                        "step {step}: the checkpoint is saved after {seconds:.1} s; the run goes on"
                    ));
                    return Ok(path);
                }
                Err(again @ CheckpointError::Io { .. }) => error = again,
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// The last checkpoint's weights and optimizer; the source stays where it is.
    pub(super) fn roll_back(
        &mut self,
        state: TrainState<M>,
        loss: f64,
    ) -> Result<TrainState<M>, TrainError> {
        let from = state.step;
        let Some(found) = checkpoint::latest(&self.plan.checkpoints_dir())? else {
            return Err(TrainError::NoWayBack { step: from, loss });
        };
        let (mut state, _) = state.restore(&found.path)?;
        state.evaluation_due = false;
        // The next save of a step seen before is another one.
        self.saved = None;
        self.observer.on_warning(&format!(
            "step {from}: loss `{loss}` stayed above the watchdog's threshold; weights and \
             optimizer are those of step {} again, and the rows seen since are passed over",
            state.step
        ));
        Ok(state)
    }
}
