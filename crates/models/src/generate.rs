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
    /// `arch.max_positions`.
    pub fn generate_greedy(
        &self,
        prompt: &[u32],
        stop: &Stop,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Vec<u32> {
        let device = self.model.norm.weight().device();
        let mut cache = Cache::new(self.arch().n_layers, kernels::length_multiple(&device));
        let mut generated = Vec::new();
        let mut next = prompt.to_vec();
        let room = self.arch().max_positions.saturating_sub(prompt.len());
        while !next.is_empty() && generated.len() < stop.max_new_tokens.min(room) {
            let hidden = self.hidden_cached(&[next.as_slice()], &mut cache);
            let token = most_probable(self.last_logits(hidden));
            generated.push(token);
            if stop.eos.contains(&token) || !on_token(token) {
                break;
            }
            next = vec![token];
        }
        generated
    }
}

/// The index of the largest of `[1, vocab]`; the first of equals.
fn most_probable(logits: Tensor<2>) -> u32 {
    let best = logits.argmax(1).into_data();
    best.iter::<i64>().next().map_or(0, |index| index as u32)
}
