//! What follows the last step: the model is chosen, measured and exported.

use burn::module::Module;
use rekindle_models::Decoder;
use rekindle_train::{Cursor, TrainError, TrainPlan, TrainState};

use super::measure::measure;
use super::observer::Log;
use super::{Loaded, RunOptions, RunSummary, report};
use crate::error::RunError;
use crate::events::Event;
use crate::plan::Plan;

/// A run that has done its last step.
pub(super) struct Finished<'a> {
    pub plan: &'a Plan,
    pub train_plan: &'a TrainPlan,
    pub loaded: &'a Loaded,
    pub options: &'a RunOptions,
}

impl Finished<'_> {
    /// Measures and exports what the run has made.
    ///
    /// Asked to stop while it measures, it sees to it that there is a checkpoint from which the
    /// run can be resumed to this place.
    pub(super) fn conclude(
        &self,
        state: TrainState<Decoder>,
        cursor: Cursor,
        summary: &mut RunSummary,
        log: &mut Log<'_>,
    ) -> Result<(), RunError> {
        let tuned = chosen(state.clone(), self.train_plan, log)?.valid();
        match measure(&tuned, self.loaded, self.options) {
            Err(RunError::Stopped { .. }) => {
                // Otherwise the loop has saved one at its end.
                if self.train_plan.save_every.is_none() {
                    let path = state.save(self.train_plan, cursor)?;
                    log.event(&Event::Checkpoint { step: state.step, path })?;
                }
                summary.status = self.options.stopped_status();
                Ok(())
            }
            measured => {
                summary.tuned = measured?;
                log.measured(summary.steps, &summary.tuned)?;
                report::export(self.plan, &tuned, &self.loaded.text, summary, log)
            }
        }
    }
}

/// The model that is measured and exported: the best checkpoint's, where that is kept, or the last
/// one's; with averaged weights where they are averaged.
fn chosen(
    state: TrainState<Decoder>,
    plan: &TrainPlan,
    log: &mut Log<'_>,
) -> Result<Decoder, RunError> {
    let best = state.best.filter(|_| plan.metric.is_some_and(|it| it.keep_best));
    let Some(best) = best.filter(|best| best.step != state.step) else {
        return Ok(state.averaged());
    };
    let path = plan.checkpoint_dir(best.step);
    let (state, _) = state.restore(&path).map_err(TrainError::from)?;
    log.warn(&format!("the model is that of step {}, the best evaluation", best.step))?;
    Ok(state.averaged())
}
