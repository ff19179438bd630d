//! The flags that say how an answer's tokens are chosen.

use anyhow::{Result, bail};
use clap::Args;
use rekindle_models::{Generation, Sampling};

/// How an answer is generated.
#[derive(Clone, Debug, Args)]
pub struct SamplingArgs {
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 256)]
    pub max_new_tokens: usize,
    /// What scores are divided by before a token is drawn; 0 takes the most probable one.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw from so many of the most probable tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Draw from the most probable tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Draw from tokens with at least this part of the best one's probability.
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f64,
    /// What the score of a token that the text has already is divided by.
    #[arg(long, default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A text that ends the answer and is not part of it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// The most probable token each time.
    pub fn greedy(max_new_tokens: usize) -> Self {
        let greedy = Sampling::greedy();
        Self {
            max_new_tokens,
            temperature: greedy.temperature,
            top_k: greedy.top_k,
            top_p: greedy.top_p,
            min_p: greedy.min_p,
            repetition_penalty: greedy.repetition_penalty,
            seed: greedy.seed,
            stop: Vec::new(),
        }
    }

    /// One text a prompt, ended by `eos`.
    pub fn generation(&self, eos: Vec<u32>) -> Result<Generation> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        };
        if let Some((name, found, wanted)) = sampling.out_of_range() {
            bail!("`--{}` is {found}; wanted {wanted}", name.replace('_', "-"));
        }
        Ok(Generation { sampling, ..Generation::greedy(eos, self.max_new_tokens) })
    }
}
