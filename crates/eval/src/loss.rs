//! Loss and perplexity over target tokens.

use burn::tensor::Device;
use rekindle_data::{Padding, Sample, collate};
use rekindle_models::{CausalLm, Tokens};
use serde::{Deserialize, Serialize};

/// A loss over a set of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Mean negative log-likelihood of a target token, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Target tokens counted.
    pub tokens: u64,
}

/// A measurement was given up because it was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The mean negative log-likelihood of `samples`' target tokens under `model`, `rows` at a time.
///
/// `model` should be off the autodiff device, so that no graph is built. Sums are kept in f64.
/// `None` if there is no target token.
pub fn loss<M: CausalLm>(
    model: &M,
    samples: &[Sample],
    rows: usize,
    padding: Padding,
    device: &Device,
) -> Option<Loss> {
    loss_while(model, samples, rows, padding, device, &|| true).unwrap_or_default()
}

/// As [`loss()`], as long as `go_on` says so; it is asked before every batch.
///
/// # Errors
/// [`Interrupted`] once it says no.
pub fn loss_while<M: CausalLm>(
    model: &M,
    samples: &[Sample],
    rows: usize,
    padding: Padding,
    device: &Device,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Loss>, Interrupted> {
    // Rows of like length share a batch, so that little is padding; the sum does not depend on it.
    let mut order: Vec<Vec<usize>> = (0..samples.len()).map(|index| vec![index]).collect();
    order.sort_by_key(|row| samples[row[0]].tokens.len());
    let (mut nll, mut tokens) = (0.0, 0);
    for chunk in order.chunks(rows.max(1)) {
        if !go_on() {
            return Err(Interrupted);
        }
        let batch = collate(samples, chunk, padding, device);
        if batch.n_targets == 0 {
            continue;
        }
        let rows = Tokens::new(batch.input_ids, batch.segment).at(batch.positions);
        let sum = model.nll_sum(rows, batch.loss_mask);
        nll += f64::from(sum.into_scalar::<f32>());
        tokens += batch.n_targets as u64;
    }
    if tokens == 0 {
        return Ok(None);
    }
    let loss = nll / tokens as f64;
    Ok(Some(Loss { loss, perplexity: loss.exp(), tokens }))
}
