//! What a plan tells the engine beside the loop's own numbers.

use burn::tensor::{Device, FloatDType};
use rekindle_models::{Decoder, Recompute, Smoothing};
use rekindle_train::{EarlyStopping, Metric, OnSaveError, OnSpike, Saving, Watchdog};

use super::Plan;
use crate::error::RunError;
use crate::recipe::{self, BestMetric, Method, Precision, Problem};

impl Plan {
    /// What is added to the plain cross-entropy.
    pub fn smoothing(&self) -> Smoothing {
        let train = &self.recipe.train;
        Smoothing { label_smoothing: train.label_smoothing, z_loss: train.z_loss }
    }

    /// Which blocks are run again in the backward pass.
    pub fn recompute(&self) -> Recompute {
        let train = &self.recipe.train;
        Recompute { every: train.recompute.every(), offload: train.recompute_offload }
    }

    /// The number format of products.
    pub fn dtype(&self) -> FloatDType {
        match self.recipe.train.precision {
            Precision::F32 => FloatDType::F32,
            Precision::Bf16 => FloatDType::BF16,
            Precision::F16 => FloatDType::F16,
        }
    }

    /// The number format that weights are read in: that of products where they stay frozen, f32
    /// where they are trained.
    pub fn weights_dtype(&self) -> FloatDType {
        match self.recipe.method {
            Some(Method::Full(_)) => FloatDType::F32,
            _ => self.dtype(),
        }
    }

    /// `decoder` as the engine trains it: method, number format, recomputation, noise.
    ///
    /// # Errors
    /// [`RunError`] where the method does not fit the model.
    pub fn prepare(&self, decoder: Decoder) -> Result<Decoder, RunError> {
        let decoder = match (self.lora(), &self.recipe.method) {
            (Some(config), _) => decoder.with_lora(&config, self.recipe.seed)?,
            (None, Some(Method::Full(full))) => {
                self.check_frozen(full.freeze_layers, decoder.arch().layers.len())?;
                decoder.freezing(full.freeze_embeddings, full.freeze_layers)
            }
            (None, _) => decoder,
        };
        let decoder = match self.dtype() {
            FloatDType::F32 => decoder,
            dtype => decoder.computing_in(dtype),
        };
        let decoder = decoder.recomputing(self.recompute());
        Ok(match self.recipe.train.neftune_noise_alpha {
            Some(alpha) => decoder.with_neftune(alpha),
            None => decoder,
        })
    }

    fn check_frozen(&self, freeze_layers: usize, n_layers: usize) -> Result<(), RunError> {
        if freeze_layers < n_layers {
            return Ok(());
        }
        Err(RunError::Problems(vec![Problem {
            key: "method.full.freeze_layers".to_owned(),
            found: format!("`{freeze_layers}`"),
            wanted: format!("fewer than the `{n_layers}` blocks that the model has"),
        }]))
    }

    /// Checks that `device` can do what the recipe asks of it.
    ///
    /// # Errors
    /// [`RunError::Problems`] for a number format that the device does not compute in, and for
    /// block inputs moved to the host where the device is the host.
    pub fn check_device(&self, device: &Device) -> Result<(), RunError> {
        let mut problems = Vec::new();
        let mut add = |key: &str, found: &str, wanted: String| {
            let (key, found) = (key.to_owned(), found.to_owned());
            problems.push(Problem { key, found, wanted });
        };
        let dtype = self.dtype();
        if !device.supports_dtype(dtype) {
            let others = [(FloatDType::BF16, "bf16"), (FloatDType::F16, "f16")];
            let others = others.iter().filter(|(other, _)| device.supports_dtype(*other));
            let names: Vec<_> = others.map(|(_, name)| format!(", `{name}`")).collect();
            let found = format!("`{}`, which `{device:?}` does not compute in", self.precision());
            add("train.precision", &found, format!("`f32`{}", names.concat()));
        }
        let on_host = rekindle_kernels::length_multiple(device) == 1;
        if self.recompute().offload && on_host {
            let wanted = "`false`: the device is the host, nothing would be moved".to_owned();
            add("train.recompute_offload", "`true`", wanted);
        }
        if problems.is_empty() { Ok(()) } else { Err(RunError::Problems(problems)) }
    }

    fn precision(&self) -> &'static str {
        match self.recipe.train.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    pub(super) fn watchdog(&self) -> Option<Watchdog> {
        let train = &self.recipe.train;
        Some(Watchdog {
            threshold: train.loss_watchdog_threshold?,
            patience: train.loss_watchdog_patience,
            on_spike: match train.on_spike {
                recipe::OnSpike::Stop => OnSpike::Stop,
                recipe::OnSpike::Rollback => OnSpike::Rollback,
            },
        })
    }

    pub(crate) fn saving(&self) -> Saving {
        let on_error = match self.recipe.train.on_save_error {
            recipe::OnSaveError::Stop => OnSaveError::Stop,
            recipe::OnSaveError::Pause => OnSaveError::Pause,
        };
        Saving { on_error, ..Saving::default() }
    }

    /// What a choice among checkpoints hangs on, where one is made.
    pub(crate) fn best_metric(&self) -> Option<BestMetric> {
        self.metric().map(|_| self.recipe.train.metric_for_best_model)
    }

    pub(super) fn metric(&self) -> Option<Metric> {
        let train = &self.recipe.train;
        let early_stopping = train
            .early_stopping_patience
            .map(|patience| EarlyStopping { patience, threshold: train.early_stopping_threshold });
        let keep_best = train.load_best_model_at_end;
        (keep_best || early_stopping.is_some()).then(|| Metric {
            greater_is_better: train.metric_for_best_model == BestMetric::ExactMatch,
            keep_best,
            early_stopping,
        })
    }
}
