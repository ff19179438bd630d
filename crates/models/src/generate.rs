//! Greedy generation with a key-value cache.

use burn::tensor::Tensor;
use rekindle_kernels as kernels;

use crate::cache::Cache;
use crate::decoder::Decoder;

/// When a generation ends.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Tokens that end it; the one generated is part of the result.
    pub eos: Vec<u32>,
    /// Tokens at most.
    pub max_new_tokens: usize,
}

impl Decoder {
    /// Continues `prompt` with the most probable token, again and again.
    ///
    /// `on_token` sees each token as it comes and ends the generation by returning `false`. The
    /// model should be off the autodiff device ([`burn::module::Module::valid`]), so that no graph
    /// grows. An empty prompt gives an empty result. Generation also ends at
    /// `arch.context_length()`.
    pub fn generate_greedy(
        &self,
        prompt: &[u32],
        stop: &Stop,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Vec<u32> {
        let mut answers = self.generate_rows(&[prompt], stop, |_, token| on_token(token));
        answers.pop().unwrap_or_default()
    }

    /// Continues every prompt greedily, all of them in one batch.
    ///
    /// The result is what [`Decoder::generate_greedy`] gives for each: shorter prompts are padded
    /// on the left, and a row that has ended is carried along unseen until all have.
    pub fn generate_greedy_batch(&self, prompts: &[&[u32]], stop: &Stop) -> Vec<Vec<u32>> {
        self.generate_rows(prompts, stop, |_, _| true)
    }

    fn generate_rows(
        &self,
        prompts: &[&[u32]],
        stop: &Stop,
        mut on_token: impl FnMut(usize, u32) -> bool,
    ) -> Vec<Vec<u32>> {
        let mut answers = vec![Vec::new(); prompts.len()];
        let room = |row: usize| {
            let left = self.arch().context_length().saturating_sub(prompts[row].len());
            if prompts[row].is_empty() { 0 } else { stop.max_new_tokens.min(left) }
        };
        // Rows that take part; an empty prompt or one without room has no place in the batch.
        let rows: Vec<usize> = (0..prompts.len()).filter(|&row| room(row) > 0).collect();
        let mut running = vec![true; rows.len()];
        let device = self.model.norm.weight().device();
        let multiple = kernels::length_multiple(&device);
        let mut cache = Cache::new(self.arch().n_layers(), rows.len(), multiple);
        let mut next: Vec<Vec<u32>> = rows.iter().map(|&row| prompts[row].to_vec()).collect();
        while running.contains(&true) {
            let new: Vec<&[u32]> = next.iter().map(Vec::as_slice).collect();
            let tokens = most_probable(self.last_logits(self.hidden_cached(&new, &mut cache)));
            for (place, (&row, &token)) in rows.iter().zip(&tokens).enumerate() {
                if running[place] {
                    answers[row].push(token);
                    let ended = stop.eos.contains(&token) || answers[row].len() == room(row);
                    running[place] = on_token(row, token) && !ended;
                }
            }
            next = tokens.into_iter().map(|token| vec![token]).collect();
        }
        answers
    }
}

/// The index of the largest of each row of `[batch, vocab]`; the first of equals.
fn most_probable(logits: Tensor<2>) -> Vec<u32> {
    logits.argmax(1).into_data().iter::<i64>().map(|index| index as u32).collect()
}
