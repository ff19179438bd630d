//! Generation with a key-value cache.

pub mod sampling;

mod row;
mod steps;

use rekindle_kernels as kernels;

pub use row::{Finish, Generated};
pub use sampling::Sampling;

use crate::cache::Cache;
use crate::decoder::Decoder;
use row::Row;
use steps::{Scores, Steps};

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

    /// Whether of all scores the place of the highest is enough.
    fn wants_only_best(&self) -> bool {
        self.sampling.is_argmax() && !self.logps
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
        let (mut steps, mut scores) = self.prefill(&rows, &active, how);
        loop {
            let chosen = choose(scores, &mut rows, &active, how);
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
                steps = steps.select(&places);
                active = left;
            }
            scores = self.advance(&rows, &active, &mut steps, how);
        }
    }

    /// The cache and the scores after the prompts of the active rows, `samples` rows a prompt.
    fn prefill(&self, rows: &[Row<'_>], active: &[usize], how: &Generation) -> (Steps<'_>, Scores) {
        // One of the active rows of each prompt; all samples of a prompt are active or none.
        let first: Vec<usize> = active.iter().copied().step_by(how.samples).collect();
        let prompts: Vec<&[u32]> = first.iter().map(|&row| rows[row].text()).collect();
        let mut steps = self.begin(rows, active, prompts.len(), how);
        let scores = steps.advance(&prompts, 0);
        if how.samples == 1 {
            return (steps, scores);
        }
        let places: Vec<usize> = (0..active.len()).map(|row| row / how.samples).collect();
        (steps.select(&places), scores.repeated(how.samples))
    }

    /// The scores after the newest token of the active rows.
    fn advance<'a>(
        &'a self,
        rows: &[Row<'_>],
        active: &[usize],
        steps: &mut Steps<'a>,
        how: &Generation,
    ) -> Scores {
        let switch = self.arch().rope.as_ref().and_then(|rope| rope.length_of_switch());
        let crosses =
            |row: &Row<'_>| row.is_running() && Some(row.text().len()) == switch.map(|it| it + 1);
        let texts = active.iter().map(|&row| rows[row].text());
        let crosses = active.iter().any(|&row| crosses(&rows[row]));
        if crosses || steps.is_lost() {
            // From the switch on the frequencies are others: what the cache holds was rotated by
            // the old ones and is made anew, as transformers does.
            let anew = self.begin(rows, active, active.len(), how);
            *steps = if steps.is_lost() { anew.step_by_step() } else { anew };
            return steps.advance(&texts.collect::<Vec<_>>(), 0);
        }
        let newest: Vec<&[u32]> = texts.map(|text| &text[text.len() - 1..]).collect();
        let running = active.iter().map(|&row| &rows[row]).filter(|row| row.is_running());
        let left = running.map(|row| row.longest() - row.text().len());
        steps.advance(&newest, left.max().unwrap_or(0))
    }

    /// An empty cache of `batch` rows, long enough for the active texts.
    fn begin(
        &self,
        rows: &[Row<'_>],
        active: &[usize],
        batch: usize,
        how: &Generation,
    ) -> Steps<'_> {
        let multiple = kernels::length_multiple(&self.device());
        let most = |of: fn(&Row<'_>) -> usize| active.iter().map(|&row| of(&rows[row])).max();
        let texts = most(|row| row.text().len()).unwrap_or(0).next_multiple_of(multiple);
        let new = most(|row| row.longest() - row.text().len()).unwrap_or(0);
        let cache = Cache::new(self.arch().n_layers(), batch, texts + new, multiple);
        Steps::new(self, cache, how.wants_only_best())
    }
}

/// The next token of each active row, with its log-probability if asked for.
fn choose(
    scores: Scores,
    rows: &mut [Row<'_>],
    active: &[usize],
    how: &Generation,
) -> Vec<(u32, Option<f32>)> {
    if let Some(best) = scores.best {
        // The device finds it, so that the scores need not come to the host.
        return best.into_data().iter::<i64>().map(|index| (index as u32, None)).collect();
    }
    let [_, vocab] = scores.logits.dims();
    let scores: Vec<f32> = scores.logits.into_data().iter::<f32>().collect();
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
