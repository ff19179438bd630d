//! `[train]`: length, batch, optimizer and learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engine::{BestMetric, OnSaveError, OnSpike, Precision, Recompute, RecomputeBlocks};
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
    /// What follows a disk that takes no checkpoint: `"stop"`, or `"pause"` to wait for it and try
    /// again every 30 seconds.
    pub on_save_error: OnSaveError,
    /// Number format of products and frozen weights; what is trained stays in f32.
    pub precision: Precision,
    /// Blocks that are run again in the backward pass so that only their inputs are kept: `"none"`,
    /// `"all"`, or a number n for every n-th block.
    pub recompute: Recompute,
    /// Whether the inputs of recomputed blocks wait in the host's memory.
    pub recompute_offload: bool,
    /// Part of the target's probability that is spread over the vocabulary. Szegedy et al. 2015
    /// (arXiv:1512.00567), section 7.
    pub label_smoothing: f64,
    /// Weight of the square of the log-normaliser. Chowdhery et al. 2022 (arXiv:2204.02311),
    /// section 5.
    pub z_loss: f64,
    /// Size of uniform noise on the embeddings while training. Jain et al. 2023 (arXiv:2310.05914).
    pub neftune_noise_alpha: Option<f64>,
    /// Decay of a moving average of the trained weights, which is evaluated and exported in their
    /// place.
    pub ema_decay: Option<f64>,
    /// Evaluations in a row without a better value after which the run ends.
    pub early_stopping_patience: Option<u32>,
    /// By how much a value must be better to count.
    pub early_stopping_threshold: f64,
    /// What evaluations are compared by.
    pub metric_for_best_model: BestMetric,
    /// Whether the checkpoint of the best evaluation is kept, and exported at the end.
    pub load_best_model_at_end: bool,
    /// Mean loss, in nats, above which a step is a spike.
    pub loss_watchdog_threshold: Option<f64>,
    /// Spikes in a row that are borne.
    pub loss_watchdog_patience: u32,
    /// What follows one spike more: `"stop"`, or `"rollback"` to the last checkpoint and on with
    /// the next rows.
    pub on_spike: OnSpike,
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
            on_save_error: OnSaveError::Stop,
            precision: Precision::F32,
            recompute: Recompute::Named(RecomputeBlocks::None),
            recompute_offload: false,
            label_smoothing: 0.0, // transformers TrainingArguments, as is the next but three
            z_loss: 0.0,
            neftune_noise_alpha: None,
            ema_decay: None,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0, // transformers EarlyStoppingCallback
            metric_for_best_model: BestMetric::Loss,
            load_best_model_at_end: false,
            loss_watchdog_threshold: None,
            loss_watchdog_patience: 3, // Axolotl
            on_spike: OnSpike::Stop,
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
