//! What a run has made so far.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;

use crate::checkpoint::{self, Saved};
use crate::{Best, CheckpointError, Cursor, Ema, LossScale, Optimizer, TrainPlan};

/// Everything that changes from step to step, beside the place in the data.
#[derive(Debug, Clone)]
pub struct TrainState<M: Module> {
    /// The model being trained, its parameters on an autodiff device.
    pub policy: M,
    /// The optimizer and its state.
    pub optimizer: Optimizer,
    /// Steps done.
    pub step: u64,
    /// Units trained on so far.
    pub units: u64,
    /// The moving average of the trained weights, where there is one.
    pub ema: Option<Ema>,
    /// The scale of losses, where there is one.
    pub scale: Option<LossScale>,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// The step that was evaluated last.
    pub evaluated: Option<u64>,
    /// Whether the evaluation after the last step was given up, so that it comes first.
    pub evaluation_due: bool,
}

impl<M: Module> TrainState<M> {
    /// A state before the first step.
    pub fn new(policy: M, optimizer: impl Into<Optimizer>) -> Self {
        let optimizer = optimizer.into();
        Self {
            policy,
            optimizer,
            step: 0,
            units: 0,
            ema: None,
            scale: None,
            best: None,
            evaluated: None,
            evaluation_due: false,
        }
    }

    /// Makes what the plan asks for and an earlier part of the run has not left.
    pub(crate) fn start(&mut self, plan: &TrainPlan) {
        self.ema = match (plan.ema_decay, self.ema.take()) {
            (Some(decay), None) => Some(Ema::new(decay, &self.policy)),
            (Some(decay), Some(ema)) => Some(ema.decaying(decay)),
            (None, _) => None,
        };
        self.scale = plan.scale_losses.then(|| self.scale.unwrap_or_default());
    }

    /// What losses are multiplied by.
    pub(crate) fn loss_scale(&self) -> f64 {
        self.scale.map_or(1.0, |it| it.scale)
    }

    /// Takes in whether a step was finite; a reason if one that was not is to be expected.
    pub(crate) fn take_finite(&mut self, finite: bool) -> Option<String> {
        self.scale.as_mut()?.take(finite)
    }

    /// One update of the trained weights, and of their average where there is one.
    ///
    /// Steps and units are the loop's to count: [`fit`](crate::fit) counts those that are left out
    /// too.
    pub fn updated(mut self, lr: f64, grads: GradientsParams) -> Self {
        // The policy is handed over whole: each weight is freed as its successor is made.
        let policy = self.optimizer.step(lr, self.policy, grads);
        if let Some(ema) = &mut self.ema {
            ema.update(&policy);
        }
        Self { policy, ..self }
    }

    /// The policy as it is measured and exported: with the average of its weights, if there is one.
    pub fn averaged(&self) -> M {
        match &self.ema {
            Some(ema) => ema.applied(self.policy.clone()),
            None => self.policy.clone(),
        }
    }

    /// Saves a checkpoint below the plan's run folder, then drops the oldest ones.
    ///
    /// Returns its folder. When this returns, the checkpoint survives a power cut.
    pub fn save(&self, plan: &TrainPlan, cursor: Cursor) -> Result<PathBuf, CheckpointError> {
        let disk = &*plan.saving.disk;
        let dir = plan.checkpoints_dir();
        let path = checkpoint::write(disk, &dir, self, &self.saved(plan, cursor))?;
        self.retain(plan)?;
        Ok(path)
    }

    /// Drops the oldest checkpoints, down to what the plan keeps.
    pub(crate) fn retain(&self, plan: &TrainPlan) -> Result<(), CheckpointError> {
        let best = self.best.filter(|_| plan.metric.is_some_and(|it| it.keep_best));
        let (disk, dir) = (&*plan.saving.disk, plan.checkpoints_dir());
        checkpoint::retain(disk, &dir, self.step, plan.keep_checkpoints, best.map(|it| it.step))
    }

    /// What a checkpoint of this state says beside its tensors.
    pub(crate) fn saved(&self, plan: &TrainPlan, cursor: Cursor) -> Saved {
        Saved {
            layout: checkpoint::LAYOUT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            units: self.units,
            cursor,
            seed: plan.seed,
            learning_rate: plan.learning_rate,
            schedule: plan.schedule,
            loss_scale: self.scale,
            best: self.best,
            evaluated: self.evaluated,
            evaluation_due: self.evaluation_due,
            extra: plan.extra.clone(),
        }
    }

    /// Takes weights, optimizer state and counts from the checkpoint at `path`.
    ///
    /// The optimizer keeps its own settings. Returns what else the checkpoint holds; the caller
    /// seeks the source to its cursor. Fails on any damage, on any difference in the trainable
    /// parameters and on the state of another method.
    pub fn restore(self, path: &Path) -> Result<(Self, Saved), CheckpointError> {
        let saved = checkpoint::verify(path)?;
        let policy = checkpoint::load_weights(self.policy, path)?;
        let mut optimizer = self.optimizer;
        optimizer.states = checkpoint::load_state(&policy, &optimizer, path)?;
        let (step, units) = (saved.step, saved.units);
        let Saved { loss_scale: scale, best, evaluated, evaluation_due, .. } = saved;
        let ema = checkpoint::load_average(&policy, path)?;
        Ok((
            Self { policy, optimizer, step, units, ema, scale, best, evaluated, evaluation_due },
            saved,
        ))
    }
}
