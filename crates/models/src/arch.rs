//! The numbers that make up an architecture, from whichever file states them.

mod family;
mod from_gguf;
mod from_hf;
mod keys;
mod layout;
mod names;
mod rope;
mod to_hf;

#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

use crate::error::ModelError;

pub use family::{Family, NormKind, NormPlace, QkNorm, Wiring};
pub use layout::{Entry, Shape};
pub use names::{Mlp, Part, Slot};
pub use rope::{RopeScaling, RopeSpec};

/// The numbers of a decoder.
///
/// Every [`Arch`] read from a file has passed [`Arch::check`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arch {
    /// How the blocks are wired.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// What differs between blocks, first to last.
    pub layers: Vec<Layer>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the embeddings.
    pub vocab: usize,
    /// Added to the mean square, or to the variance, in norms.
    pub norm_eps: f64,
    /// Rotary position embedding; without it positions are learned.
    pub rope: Option<RopeSpec>,
    /// Rotation in blocks with a window, where it is another.
    pub local_rope: Option<RopeSpec>,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
    /// Tokens of context the model was made for.
    pub max_positions: usize,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// The experts of the blocks that have them.
    pub experts: Option<Experts>,
    /// Factors and bounds of activations.
    pub scales: Scales,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Token that fills a row.
    pub pad: Option<u32>,
}

/// What differs between the blocks of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// How many tokens a query sees, itself among them; all where there is no window.
    pub window: Option<usize>,
    /// Whether queries and keys are rotated.
    pub rotated: bool,
    /// Whether experts stand in for the feed-forward layer.
    pub experts: bool,
}

impl Layer {
    /// A block that sees everything.
    pub const FULL: Self = Self { window: None, rotated: true, experts: false };
}

/// Experts, of which each token is sent to a few. Fedus et al. 2022 (arXiv:2101.03961), eq. 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Experts {
    /// How many there are in a block.
    pub count: usize,
    /// How many of them a token is sent to.
    pub per_token: usize,
    /// Width of each.
    pub intermediate: usize,
    /// Whether the weights of those chosen are divided by their sum.
    pub normalised: bool,
}

/// Factors and bounds of activations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scales {
    /// What embeddings are multiplied by.
    pub embeddings: f64,
    /// What a block adds to the residual stream is multiplied by.
    pub residual: f64,
    /// What products of queries and keys are multiplied by; one over the root of a head's width
    /// where nothing else is stated.
    pub attention: Option<f64>,
    /// What logits are multiplied by.
    pub logits: f64,
    /// Bound of attention scores.
    pub attention_cap: Option<f64>,
    /// Bound of logits.
    pub logits_cap: Option<f64>,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            embeddings: 1.0,
            residual: 1.0,
            attention: None,
            logits: 1.0,
            attention_cap: None,
            logits_cap: None,
        }
    }
}

impl Arch {
    /// Blocks.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Tokens of context that can be asked of it: more than `max_positions` only where the
    /// rotation is stretched by the text's length.
    pub fn context_length(&self) -> usize {
        match self.rope.as_ref().map(|rope| &rope.scaling) {
            Some(RopeScaling::Dynamic { factor, .. }) => {
                (self.max_positions as f64 * factor) as usize
            }
            _ => self.max_positions,
        }
    }

    /// What products of queries and keys are multiplied by.
    pub fn attention_scale(&self) -> f64 {
        self.scales.attention.unwrap_or_else(|| (self.head_dim as f64).sqrt().recip())
    }

    /// The experts of block `index`, where it has any.
    pub fn experts_of(&self, index: usize) -> Option<Experts> {
        self.experts.filter(|_| self.layers[index].experts)
    }

    /// Checks every number's range, so that no later product overflows and no head is cut in two.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for the first number out of range, under its Hugging Face key.
    pub fn check(&self) -> Result<(), ModelError> {
        within("hidden_size", self.hidden, 1 << 20)?;
        within("num_hidden_layers", self.n_layers(), MOST_LAYERS)?;
        within("num_attention_heads", self.heads, 4096)?;
        within("num_key_value_heads", self.kv_heads, 4096)?;
        within("head_dim", self.head_dim, 4096)?;
        within("intermediate_size", self.intermediate, 1 << 22)?;
        within("vocab_size", self.vocab, 1 << 22)?;
        within("max_position_embeddings", self.max_positions, 1 << 26)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            let wanted = format!("a divisor of `num_attention_heads`, which is {}", self.heads);
            return Err(out_of_range("num_key_value_heads", self.kv_heads, wanted));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let wanted = "a number between 0 and 1";
            return Err(out_of_range("rms_norm_eps", self.norm_eps, wanted));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            let wanted = "a finite number from 0 up";
            return Err(out_of_range("initializer_range", self.initializer_range, wanted));
        }
        for layer in &self.layers {
            within("sliding_window", layer.window.unwrap_or(1), 1 << 26)?;
        }
        for rope in self.rope.iter().chain(&self.local_rope) {
            rope.check(self.head_dim)?;
        }
        self.scales.check()?;
        self.check_experts()?;
        self.check_tokens()
    }

    fn check_experts(&self) -> Result<(), ModelError> {
        let Some(experts) = self.experts else { return Ok(()) };
        let keys = keys::Keys::new(&Value::Null, self.family.aliases());
        within(keys.named("num_experts"), experts.count, 4096)?;
        within("num_experts_per_tok", experts.per_token, experts.count)?;
        within(keys.named("moe_intermediate_size"), experts.intermediate, 1 << 22)
    }

    fn check_tokens(&self) -> Result<(), ModelError> {
        let eos = self.eos.iter().map(|&id| ("eos_token_id", id));
        let bos = self.bos.iter().map(|&id| ("bos_token_id", id));
        let pad = self.pad.iter().map(|&id| ("pad_token_id", id));
        for (key, id) in bos.chain(eos).chain(pad) {
            if id as usize >= self.vocab {
                let wanted = format!("a token below `vocab_size`, which is {}", self.vocab);
                return Err(out_of_range(key, id, wanted));
            }
        }
        Ok(())
    }
}

impl Scales {
    fn check(&self) -> Result<(), ModelError> {
        let scales = [
            ("embedding_multiplier", Some(self.embeddings)),
            ("residual_multiplier", Some(self.residual)),
            ("attention_multiplier", self.attention),
            ("logits_scaling", Some(self.logits)),
            ("attn_logit_softcapping", self.attention_cap),
            ("final_logit_softcapping", self.logits_cap),
        ];
        scales
            .into_iter()
            .filter_map(|(key, scale)| Some((key, scale?)))
            .try_for_each(|(key, scale)| positive(key, scale))
    }
}

/// Blocks that a model has at most.
const MOST_LAYERS: usize = 1024;

fn positive(key: &str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(out_of_range(key, value, "a finite number above 0"))
}

/// An error about a number of the config.
fn out_of_range(key: &str, found: impl ToString, wanted: impl Into<String>) -> ModelError {
    ModelError::OutOfRange {
        key: key.to_owned(),
        found: format!("`{}`", found.to_string()),
        wanted: wanted.into(),
    }
}

fn within(key: &str, found: usize, most: usize) -> Result<(), ModelError> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    Err(out_of_range(key, found, format!("a whole number from 1 to {most}")))
}
