//! One text in the making.

use rand_chacha::ChaCha8Rng;
use rekindle_peft_core::init;

use super::{Generation, Sampling};

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of the tokens that end a text came.
    Eos,
    /// It has as many tokens as it may have, or the context is full.
    Length,
    /// The caller ended it.
    Caller,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Its tokens, without the prompt.
    pub tokens: Vec<u32>,
    /// The log-probability of each under the model, in nats, where it was asked for.
    pub logps: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A text that is being generated.
pub(super) struct Row<'a> {
    prompt: &'a [u32],
    text: Vec<u32>, // prompt and answer
    logps: Vec<f32>,
    room: usize,
    finish: Option<Finish>,
    rng: ChaCha8Rng,
}

impl<'a> Row<'a> {
    pub(super) fn new(index: usize, prompt: &'a [u32], context: usize, how: &Generation) -> Self {
        let left = context.saturating_sub(prompt.len());
        let room = if prompt.is_empty() { 0 } else { how.max_new_tokens.min(left) };
        Self {
            prompt,
            text: prompt.to_vec(),
            logps: Vec::new(),
            room,
            finish: (room == 0).then_some(Finish::Length),
            rng: init::generator(how.sampling.seed, "sample", &index.to_string()),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.finish.is_none()
    }

    /// Prompt and answer so far.
    pub(super) fn text(&self) -> &[u32] {
        &self.text
    }

    /// Tokens of prompt and answer at most.
    pub(super) fn longest(&self) -> usize {
        self.prompt.len() + self.room
    }

    /// The next token, drawn with this text's own random numbers.
    pub(super) fn choose(&mut self, scores: &[f32], sampling: &Sampling) -> u32 {
        sampling.choose(scores, &self.text, &mut self.rng)
    }

    pub(super) fn push(&mut self, token: u32, logp: Option<f32>, goes_on: bool, how: &Generation) {
        self.text.push(token);
        self.logps.extend(logp);
        if how.eos.contains(&token) {
            self.finish = Some(Finish::Eos);
        } else if !goes_on {
            self.finish = Some(Finish::Caller);
        } else if self.text.len() == self.longest() {
            self.finish = Some(Finish::Length);
        }
    }

    pub(super) fn finish(self) -> Generated {
        let tokens = self.text[self.prompt.len()..].to_vec();
        let finish = self.finish.unwrap_or(Finish::Length);
        Generated { tokens, logps: self.logps, finish }
    }
}
