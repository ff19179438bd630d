//! What one step did, and the single host read that tells.

use std::time::Instant;

use burn::tensor::{Tensor, TensorReadError};

use crate::clip::in_f32;

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The step, counted from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Mean loss per unit.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Units of the step.
    pub units: u64,
    /// Micro-batches of the step.
    pub micro_batches: usize,
    /// Wall time of the step, in seconds, with the fetching of its data.
    pub seconds: f64,
    /// The objective's metrics, mean per unit.
    pub metrics: Vec<(&'static str, f64)>,
    /// Whether the update was left out because the loss or the gradient was not finite.
    pub skipped: bool,
}

/// Sums of a step that are still on the device.
pub(crate) struct StepSums {
    started: Instant,
    units: u64,
    micro_batches: usize,
    means: Vec<Tensor<1>>,
    metrics: Vec<(&'static str, Tensor<1>)>,
}

/// The numbers of one step, on the host.
pub(crate) struct StepNumbers {
    pub loss: f64,
    /// Each micro-batch's share of the loss.
    pub shares: Vec<f64>,
    pub grad_norm: f64,
    pub metrics: Vec<(&'static str, f64)>,
}

impl StepSums {
    pub(crate) fn new(started: Instant, units: u64) -> Self {
        Self { started, units, micro_batches: 0, means: Vec::new(), metrics: Vec::new() }
    }

    /// Adds one micro-batch: its share of the mean loss, and its metrics as sums.
    pub(crate) fn add(&mut self, mean: Tensor<1>, metrics: Vec<(&'static str, Tensor<1>)>) {
        self.micro_batches += 1;
        self.means.push(in_f32(mean.inner()));
        self.metrics.extend(metrics.into_iter().map(|(name, sum)| (name, in_f32(sum.inner()))));
    }

    /// Reads loss, gradient norm and metrics from the device: the one host read of a step.
    pub(crate) fn read(&mut self, norm: Tensor<1>) -> Result<StepNumbers, TensorReadError> {
        let (n_means, n_metrics) = (self.means.len(), self.metrics.len());
        let mut parts = std::mem::take(&mut self.means);
        let (names, sums): (Vec<_>, Vec<_>) = std::mem::take(&mut self.metrics).into_iter().unzip();
        parts.extend(sums);
        parts.push(norm);
        let values = Tensor::cat(parts, 0).try_into_data()?.try_to_vec::<f32>()?;

        let mut metrics: Vec<(&'static str, f64)> = Vec::new();
        for (name, value) in names.into_iter().zip(&values[n_means..]) {
            let value = f64::from(*value) / self.units as f64;
            match metrics.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => metrics.push((name, value)),
            }
        }
        let shares: Vec<f64> = values[..n_means].iter().map(|&value| f64::from(value)).collect();
        Ok(StepNumbers {
            loss: shares.iter().sum(),
            shares,
            grad_norm: f64::from(values[n_means + n_metrics]),
            metrics,
        })
    }

    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    /// The report of step `step`, counted from 1.
    pub(crate) fn report(
        self,
        step: u64,
        total_steps: u64,
        learning_rate: f64,
        numbers: StepNumbers,
        skipped: bool,
    ) -> StepReport {
        StepReport {
            step,
            total_steps,
            loss: numbers.loss,
            grad_norm: numbers.grad_norm,
            learning_rate,
            units: self.units,
            micro_batches: self.micro_batches,
            seconds: self.started.elapsed().as_secs_f64(),
            metrics: numbers.metrics,
            skipped,
        }
    }
}

impl StepNumbers {
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}
