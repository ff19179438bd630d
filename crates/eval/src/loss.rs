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
    // Rows of like length share a batch, so that little is padding; the sum does not depend on it.
    let mut order: Vec<Vec<usize>> = (0..samples.len()).map(|index| vec![index]).collect();
    order.sort_by_key(|row| samples[row[0]].tokens.len());
    let (mut nll, mut tokens) = (0.0, 0);
    for chunk in order.chunks(rows.max(1)) {
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
        return None;
    }
    let loss = nll / tokens as f64;
    Some(Loss { loss, perplexity: loss.exp(), tokens })
}
