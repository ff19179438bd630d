//! Generation with a key-value cache.

pub mod sampling;

mod row;

use burn::tensor::Tensor;
use rekindle_kernels as kernels;

pub use row::{Finish, Generated};
pub use sampling::Sampling;

use crate::cache::Cache;
use crate::causal_lm::CausalLm;
use crate::decoder::Decoder;
use row::Row;

/// How texts are continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens that end a text; the one generated is part of the result.
    pub eos: Vec<u32>,
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Texts for each prompt, which is run once for all of them.
    pub samples: usize,
    /// Whether the results tell how probable each token was.
    pub logps: bool,
}

impl Generation {
    /// The most probable token, again and again.
    pub fn greedy(eos: Vec<u32>, max_new_tokens: usize) -> Self {
        Self { eos, max_new_tokens, sampling: Sampling::greedy(), samples: 1, logps: false }
    }
}

/// A token as it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The text it belongs to: `prompt · samples + sample`.
    pub row: usize,
    /// The token.
    pub token: u32,
    /// Its log-probability under the model, before penalty, temperature and filters, in nats;
    /// where it was asked for.
    pub logp: Option<f32>,
}

impl Decoder {
    /// Continues every prompt, all of them in one batch.
    ///
    /// A text is the same in any batch: shorter prompts are padded on the left, and a text's random
    /// numbers depend on the seed and on its place among the texts alone. `on_token` sees each
    /// token as it comes and ends a text by returning `false`. A text also ends at
    /// `arch.context_length()`; an empty prompt gives an empty text.
    ///
    /// The model should be off the autodiff device ([`burn::module::Module::valid`]), so that no
    /// graph grows.
    pub fn generate(
        &self,
        prompts: &[&[u32]],
        how: &Generation,
        mut on_token: impl FnMut(Step) -> bool,
    ) -> Vec<Generated> {
        let context = self.arch().context_length();
        let mut rows: Vec<Row<'_>> = (0..prompts.len() * how.samples)
            .map(|row| Row::new(row, prompts[row / how.samples.max(1)], context, how))
            .collect();
        let mut active: Vec<usize> =
            (0..rows.len()).filter(|&row| rows[row].is_running()).collect();
        if active.is_empty() {
            return rows.into_iter().map(Row::finish).collect();
        }
        let (mut cache, mut logits) = self.prefill(&rows, &active, how.samples);
        loop {
            let chosen = choose(logits, &mut rows, &active, how);
            for (&row, (token, logp)) in active.iter().zip(chosen) {
                if rows[row].is_running() {
                    let goes_on = on_token(Step { row, token, logp });
                    rows[row].push(token, logp, goes_on, how);
                }
            }
            let running = active.iter().filter(|&&row| rows[row].is_running()).count();
            if running == 0 {
                return rows.into_iter().map(Row::finish).collect();
            }
            // Texts that have ended are carried along until they are half of the batch.
            if running * 2 <= active.len() {
                let (places, left) = running_places(&active, &rows);
                cache = cache.select(&places, &self.device());
                active = left;
            }
            logits = self.advance(&rows, &active, &mut cache);
        }
    }

    /// The cache and the scores after the prompts of the active rows, `samples` rows a prompt.
    fn prefill(&self, rows: &[Row<'_>], active: &[usize], samples: usize) -> (Cache, Tensor<2>) {
        // One of the active rows of each prompt; all samples of a prompt are active or none.
        let first: Vec<usize> = active.iter().copied().step_by(samples).collect();
        let prompts: Vec<&[u32]> = first.iter().map(|&row| rows[row].text()).collect();
        let capacity = active.iter().map(|&row| rows[row].longest()).max().unwrap_or(0);
        let mut cache = self.new_cache(prompts.len(), capacity);
        let logits = self.last_logits(self.hidden_cached(&prompts, &mut cache));
        if samples == 1 {
            return (cache, logits);
        }
        let places: Vec<usize> = (0..active.len()).map(|row| row / samples).collect();
        let n_prompts = first.len();
        let vocab = logits.dims()[1];
        let logits = logits.reshape([n_prompts, 1, vocab]).repeat_dim(1, samples);
        (cache.select(&places, &self.device()), logits.reshape([active.len(), vocab]))
    }

    /// The scores after the newest token of the active rows.
    fn advance(&self, rows: &[Row<'_>], active: &[usize], cache: &mut Cache) -> Tensor<2> {
        let switch = self.arch().rope.as_ref().and_then(|rope| rope.length_of_switch());
        let crosses =
            |row: &Row<'_>| row.is_running() && Some(row.text().len()) == switch.map(|it| it + 1);
        if active.iter().any(|&row| crosses(&rows[row])) {
            // From here on the frequencies are others: what the cache holds was rotated by the
            // old ones and is made anew, as transformers does.
            let texts: Vec<&[u32]> = active.iter().map(|&row| rows[row].text()).collect();
            let capacity = active.iter().map(|&row| rows[row].longest()).max().unwrap_or(0);
            *cache = self.new_cache(active.len(), capacity);
            return self.last_logits(self.hidden_cached(&texts, cache));
        }
        let newest = active.iter().map(|&row| rows[row].text());
        let newest: Vec<&[u32]> = newest.map(|text| &text[text.len() - 1..]).collect();
        self.last_logits(self.hidden_cached(&newest, cache))
    }

    fn new_cache(&self, batch: usize, capacity: usize) -> Cache {
        let multiple = kernels::length_multiple(&self.device());
        Cache::new(self.arch().n_layers(), batch, capacity, multiple)
    }

    /// Scores of the next token after the last position: `[batch, vocab]`.
    fn last_logits(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch, seq, width] = hidden.dims();
        let last = hidden.slice([0..batch, seq - 1..seq, 0..width]).reshape([batch, width]);
        self.read_out(last)
    }
}

/// The next token of each active row, with its log-probability if asked for.
fn choose(
    logits: Tensor<2>,
    rows: &mut [Row<'_>],
    active: &[usize],
    how: &Generation,
) -> Vec<(u32, Option<f32>)> {
    if how.sampling.is_argmax() && !how.logps {
        // The device finds it, so that the scores need not come to the host.
        let best = logits.argmax(1).into_data();
        return best.iter::<i64>().map(|index| (index as u32, None)).collect();
    }
    let [_, vocab] = logits.dims();
    let scores: Vec<f32> = logits.into_data().iter::<f32>().collect();
    let chosen = active.iter().zip(scores.chunks_exact(vocab)).map(|(&row, scores)| {
        let token = rows[row].choose(scores, &how.sampling);
        (token, how.logps.then(|| sampling::logp(scores, token)))
    });
    chosen.collect()
}

/// Places in the batch, and numbers, of the rows that go on.
fn running_places(active: &[usize], rows: &[Row<'_>]) -> (Vec<usize>, Vec<usize>) {
    let running = active.iter().enumerate().filter(|(_, row)| rows[**row].is_running());
    running.map(|(place, &row)| (place, row)).unzip()
}
