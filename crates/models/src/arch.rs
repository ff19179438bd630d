//! The numbers that make up an architecture, from whichever file states them.

mod from_gguf;
mod from_hf;
mod rope;
mod to_hf;

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::error::ModelError;

pub use rope::{RopeScaling, RopeSpec};

/// The model types that are supported, for messages.
pub const SUPPORTED: &str = "`llama`, `qwen2` or `qwen3`";

/// How the blocks of a model are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// RMSNorm before attention and before a SwiGLU layer, rotary positions, grouped queries.
    /// Touvron et al. 2023 (arXiv:2302.13971).
    Llama,
    /// As Llama, with biases at queries, keys and values.
    /// Yang et al. 2024 (arXiv:2407.10671), §2.2.
    Qwen2,
    /// As Llama, with RMSNorm over each head of queries and keys before they are rotated.
    /// Yang et al. 2025 (arXiv:2505.09388), §2.
    Qwen3,
}

impl Family {
    const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// Hugging Face's `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family that transformers calls `name`.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.model_type() == name)
    }

    /// Whether GGUF files hold the rows of queries and keys in an order of their own.
    pub(crate) fn has_permuted_gguf_rows(self) -> bool {
        self == Self::Llama
    }

    /// Transformers' class for it.
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The numbers of a decoder.
///
/// Every [`Arch`] read from a file has passed [`Arch::check`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arch {
    /// How the blocks are wired.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the embeddings.
    pub vocab: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f64,
    /// Rotary position embedding.
    pub rope: RopeSpec,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
    /// Tokens of context the model was made for.
    pub max_positions: usize,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether each head of queries and keys is normalised before it is rotated.
    pub qk_norm: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Token that fills a row.
    pub pad: Option<u32>,
}

impl Arch {
    /// Checks every number's range, so that no later product overflows and no head is cut in two.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for the first number out of range, under its Hugging Face key.
    pub fn check(&self) -> Result<(), ModelError> {
        within("hidden_size", self.hidden, 1 << 20)?;
        within("num_hidden_layers", self.n_layers, 1024)?;
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
        if !self.head_dim.is_multiple_of(2) {
            return Err(out_of_range("head_dim", self.head_dim, "an even number"));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let wanted = "a number between 0 and 1";
            return Err(out_of_range("rms_norm_eps", self.norm_eps, wanted));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            let wanted = "a finite number from 0 up";
            return Err(out_of_range("initializer_range", self.initializer_range, wanted));
        }
        self.rope.check()?;
        self.check_tokens()
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

    /// Names and shapes of every weight, in Hugging Face's naming; a tied head is left out.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (hidden, wide) = (self.hidden, self.intermediate);
        let projections = [
            ("self_attn.q_proj", [q, hidden], self.qkv_bias),
            ("self_attn.k_proj", [kv, hidden], self.qkv_bias),
            ("self_attn.v_proj", [kv, hidden], self.qkv_bias),
            ("self_attn.o_proj", [hidden, q], self.output_bias),
            ("mlp.gate_proj", [wide, hidden], self.mlp_bias),
            ("mlp.up_proj", [wide, hidden], self.mlp_bias),
            ("mlp.down_proj", [hidden, wide], self.mlp_bias),
        ];
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab, hidden])];
        for layer_idx in 0..self.n_layers {
            let block = format!("model.layers.{layer_idx}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("{block}.{norm}.weight"), vec![hidden]));
            }
            for norm in ["q_norm", "k_norm"].into_iter().filter(|_| self.qk_norm) {
                let name = format!("{block}.self_attn.{norm}.weight");
                tensors.push((name, vec![self.head_dim]));
            }
            for (name, shape, bias) in projections {
                tensors.push((format!("{block}.{name}.weight"), shape.to_vec()));
                if bias {
                    tensors.push((format!("{block}.{name}.bias"), vec![shape[0]]));
                }
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tied_head {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab, hidden]));
        }
        tensors
    }

    /// Numbers in all weights; a tied head counts once.
    pub fn n_parameters(&self) -> usize {
        self.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
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
