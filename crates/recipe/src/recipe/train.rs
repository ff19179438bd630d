//! `[train]`: length, batch, optimizer and learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GroupSection, Optimizer, Schedule};

/// Length, batch, optimizer and learning rate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Number of updates; excludes `num_epochs`.
    pub max_steps: Option<u64>,
    /// Number of passes over the training rows, 3 if neither this nor `max_steps` is given.
    pub num_epochs: Option<f64>,
    /// Rows per update.
    pub batch_size: usize,
    /// Rows per forward pass, all of the batch if not given; smaller needs less memory and gives
    /// the same gradient.
    pub micro_batch_size: Option<usize>,
    /// Peak learning rate; 2e-4 for LoRA and 2e-5 for full fine-tuning if not given.
    pub learning_rate: Option<f64>,
    /// Norm over all gradients above which they are scaled down; 0 clips nothing.
    pub max_grad_norm: f64,
    /// Steps between evaluations; one at the end is always made if there are validation rows.
    pub eval_steps: Option<u64>,
    /// Steps between checkpoints, with one more at the end; if not given, a checkpoint is written
    /// only when the run is stopped.
    pub save_steps: Option<u64>,
    /// Number of checkpoints kept; older ones are deleted once a newer one is safe.
    pub save_total_limit: usize,
    /// Learning rate of an adapter's B matrices over that of its A matrices (LoRA+). Hayou et al.
    /// 2024 (arXiv:2402.12354), eq. 8.
    pub loraplus_lr_ratio: Option<f64>,
    /// Parameters with a learning rate or a weight decay of their own; the first that matches
    /// counts.
    pub groups: Vec<GroupSection>,
    /// How gradients change the weights: `[train.optimizer.adamw]`, `.adamw_8bit`, `.sgd`,
    /// `.lion`, `.adafactor` or `.muon`.
    pub optimizer: Optimizer,
    /// Course of the learning rate: `[train.schedule.linear]`, `.cosine`,
    /// `.cosine_with_restarts`, `.polynomial`, `.inverse_sqrt`, `.wsd` or `.constant`.
    pub schedule: Schedule,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            max_steps: None,
            num_epochs: None,
            batch_size: 8, // transformers TrainingArguments.per_device_train_batch_size
            micro_batch_size: None,
            learning_rate: None,
            max_grad_norm: 1.0, // transformers TrainingArguments
            eval_steps: None,
            save_steps: None,
            save_total_limit: 2, // the newest, and the one to fall back to
            loraplus_lr_ratio: None,
            groups: Vec::new(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
        }
    }
}

/// How long training goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// This many updates.
    Steps(u64),
    /// This many passes over the training rows.
    Epochs(f64),
}

impl TrainSection {
    /// How long training goes on; 3 epochs if nothing is given (transformers).
    pub fn length(&self) -> Length {
        match (self.max_steps, self.num_epochs) {
            (Some(steps), _) => Length::Steps(steps),
            (None, epochs) => Length::Epochs(epochs.unwrap_or(3.0)),
        }
    }

    /// Rows per forward pass: as given, or the whole batch.
    pub fn micro_batch_size(&self) -> usize {
        self.micro_batch_size.unwrap_or(self.batch_size)
    }
}
