//! How the next token is chosen from the scores of all.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How a token is chosen.
///
/// In this order, as in transformers: repetition penalty, temperature, `top_k`, `top_p`, `min_p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What scores are divided by; 0 takes the most probable token.
    pub temperature: f64,
    /// Only so many tokens of the highest scores; 0 for all.
    pub top_k: usize,
    /// Only the most probable tokens that together have this probability; 1 for all.
    /// Holtzman et al. 2019 (arXiv:1904.09751), §3.1.
    pub top_p: f64,
    /// Only tokens with at least this part of the best one's probability; 0 for all.
    /// Nguyen et al. 2024 (arXiv:2407.01082), §3.
    pub min_p: f64,
    /// What the score of a token is divided by, or multiplied if it is below zero, once the text
    /// has the token; 1 for nothing. Keskar et al. 2019 (arXiv:1909.05858), §4.1.
    pub repetition_penalty: f64,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The most probable token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }

    /// The model's own distribution.
    pub fn plain(seed: u64) -> Self {
        Self { temperature: 1.0, seed, ..Self::greedy() }
    }

    /// The first setting out of its range: its name, what it is, and what is wanted.
    pub fn out_of_range(&self) -> Option<(&'static str, f64, &'static str)> {
        let Self { temperature, top_p, min_p, repetition_penalty: penalty, .. } = *self;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Some(("temperature", temperature, "a finite number from 0 up"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Some(("top_p", top_p, "a number above 0 and up to 1"));
        }
        if !(0.0..=1.0).contains(&min_p) {
            return Some(("min_p", min_p, "a number from 0 to 1"));
        }
        if !(penalty > 0.0 && penalty.is_finite()) {
            return Some(("repetition_penalty", penalty, "a finite number above 0"));
        }
        None
    }

    /// Whether the token of the highest score is taken as it comes from the model.
    pub(crate) fn is_argmax(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }

    /// The next token of a text.
    pub(crate) fn choose(&self, scores: &[f32], text: &[u32], rng: &mut ChaCha8Rng) -> u32 {
        if self.temperature == 0.0 {
            let scores = self.penalised(scores, text);
            let best = (0..scores.len()).reduce(|best, at| match scores[at] > scores[best] {
                true => at,
                false => best,
            });
            return best.unwrap_or(0) as u32;
        }
        let candidates = self.distribution(scores, text);
        let mut left = rng.random::<f64>();
        for &(token, p) in &candidates {
            left -= p;
            if left < 0.0 {
                return token;
            }
        }
        // Rounding may leave a little.
        candidates.last().map_or(0, |&(token, _)| token)
    }

    /// The tokens that may come next after `text`, in the order of their ids, with their
    /// probabilities. A temperature of 0 counts as 1.
    pub fn distribution(&self, scores: &[f32], text: &[u32]) -> Vec<(u32, f64)> {
        let temperature = if self.temperature == 0.0 { 1.0 } else { self.temperature };
        let scores = self.penalised(scores, text).into_iter().enumerate();
        let mut kept: Vec<(u32, f64)> =
            scores.map(|(token, score)| (token as u32, score / temperature)).collect();
        if self.top_k > 0 && self.top_k < kept.len() {
            let at = self.top_k - 1;
            let mut order: Vec<f64> = kept.iter().map(|&(_, score)| score).collect();
            let (_, &mut least, _) = order.select_nth_unstable_by(at, |a, b| b.total_cmp(a));
            kept.retain(|&(_, score)| score >= least);
        }
        softmax(&mut kept);
        if self.top_p < 1.0 {
            self.cut_tail(&mut kept);
        }
        if self.min_p > 0.0 {
            let best = kept.iter().fold(0.0f64, |best, &(_, p)| best.max(p));
            kept.retain(|&(_, p)| p >= self.min_p * best);
            renormalise(&mut kept);
        }
        kept
    }

    /// Drops the least probable tokens whose probabilities sum up to no more than `1 − top_p`.
    fn cut_tail(&self, kept: &mut Vec<(u32, f64)>) {
        kept.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut sum = 0.0;
        let dropped = kept.iter().take_while(|(_, p)| {
            sum += p;
            sum <= 1.0 - self.top_p
        });
        let dropped = dropped.count().min(kept.len().saturating_sub(1));
        kept.drain(..dropped);
        kept.sort_by_key(|&(token, _)| token);
        renormalise(kept);
    }

    fn penalised(&self, scores: &[f32], text: &[u32]) -> Vec<f64> {
        let mut penalised: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
        if self.repetition_penalty == 1.0 {
            return penalised;
        }
        let mut tokens = text.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(score) = penalised.get_mut(token as usize) {
                let penalty = self.repetition_penalty;
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        penalised
    }
}

/// Scores to probabilities.
fn softmax(kept: &mut [(u32, f64)]) {
    let largest = kept.iter().fold(f64::NEG_INFINITY, |max, &(_, score)| max.max(score));
    kept.iter_mut().for_each(|(_, score)| *score = (*score - largest).exp());
    renormalise(kept);
}

fn renormalise(kept: &mut [(u32, f64)]) {
    let sum: f64 = kept.iter().map(|(_, p)| p).sum();
    kept.iter_mut().for_each(|(_, p)| *p /= sum);
}

/// `log softmax(scores)[token]`, in nats.
pub(crate) fn logp(scores: &[f32], token: u32) -> f32 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|&score| f64::from(score - largest).exp()).sum();
    let chosen = scores.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (f64::from(chosen - largest) - sum.ln()) as f32
}
