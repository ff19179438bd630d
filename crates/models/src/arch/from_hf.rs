//! An architecture from Hugging Face's `config.json`.
//!
//! [`Arch::from_hf`] reads what all families share; what one family has of its own is in the
//! function that `specialise` calls for it.

mod layers;
mod rope;

use serde_json::Value;

use super::keys::{Keys, unsupported};
use super::{Arch, Experts, Family, Layer, MOST_LAYERS, Scales, Wiring, out_of_range, within};
use crate::error::ModelError;
use rekindle_kernels::Activation;

impl Arch {
    /// Reads `config.json`.
    ///
    /// Absent keys take transformers' defaults where it has sensible ones; `auto_map` and other
    /// keys that name code are ignored.
    ///
    /// # Errors
    /// [`ModelError`] where the model type is unknown, a key without default is absent, a number is
    /// out of range, or the config asks for something that is not built.
    pub fn from_hf(config: &Value) -> Result<Self, ModelError> {
        let family = family(config)?;
        let keys = Keys::new(config, family.aliases());
        refuse_unbuilt(keys, family.wiring())?;
        let hidden = keys.required("hidden_size")?;
        let heads = keys.required("num_attention_heads")?;
        let head_dim = match keys.whole("head_dim")? {
            Some(head_dim) => head_dim,
            None => whole_heads(keys, hidden, heads)?,
        };
        let n_layers = keys.required("num_hidden_layers")?;
        within(keys.named("num_hidden_layers"), n_layers, MOST_LAYERS)?;
        let defaults = Defaults::of(family);
        let attention_bias = keys.flag("attention_bias")?.unwrap_or(false);
        let mut arch = Self {
            family,
            hidden,
            layers: vec![Layer::FULL; n_layers],
            heads,
            kv_heads: keys.whole("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            intermediate: match keys.whole("intermediate_size")? {
                Some(wide) => wide,
                None if family == Family::Gpt2 => 4 * hidden,
                None => return Err(keys.missing("intermediate_size")),
            },
            vocab: keys.required("vocab_size")?,
            norm_eps: keys.number("rms_norm_eps")?.unwrap_or(defaults.norm_eps),
            rope: None,
            local_rope: None,
            tied_head: keys.flag("tie_word_embeddings")?.unwrap_or(defaults.tied_head),
            max_positions: keys.whole("max_position_embeddings")?.unwrap_or(2048),
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            mlp_bias: keys.flag("mlp_bias")?.unwrap_or(false),
            experts: None,
            scales: Scales::default(),
            initializer_range: keys.number("initializer_range")?.unwrap_or(0.02),
            bos: keys.tokens("bos_token_id")?.first().copied(),
            eos: keys.tokens("eos_token_id")?,
            pad: keys.tokens("pad_token_id")?.first().copied(),
        };
        specialise(&mut arch, keys)?;
        arch.check()?;
        Ok(arch)
    }
}

/// What an absent key means, where families differ.
struct Defaults {
    norm_eps: f64,
    tied_head: bool,
    theta: f64,
}

impl Defaults {
    fn of(family: Family) -> Self {
        let (mut norm_eps, mut tied_head, mut theta) = (1e-6, false, 10_000.0);
        match family {
            Family::Gemma2 | Family::Gpt2 => tied_head = true,
            Family::Gemma3 => (tied_head, theta) = (true, 1_000_000.0),
            Family::SmolLm3 => (tied_head, theta) = (true, 2_000_000.0),
            Family::Mixtral => theta = 1_000_000.0,
            _ => {}
        }
        if matches!(family, Family::Mixtral | Family::Olmo2 | Family::Phi3 | Family::Gpt2) {
            norm_eps = 1e-5;
        }
        Self { norm_eps, tied_head, theta }
    }
}

/// Fills in what the family has of its own.
fn specialise(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    let family = arch.family;
    if family != Family::Gpt2 {
        arch.rope = Some(rope::full(arch, keys, Defaults::of(family).theta)?);
    }
    match family {
        Family::Llama | Family::Olmo2 => {}
        Family::Mistral => layers::window_everywhere(arch, keys)?,
        Family::Phi3 => {
            layers::window_everywhere(arch, keys)?;
            (arch.qkv_bias, arch.output_bias) = (false, false);
        }
        Family::Mixtral => {
            layers::window_everywhere(arch, keys)?;
            experts(arch, keys, true)?;
            arch.layers.iter_mut().for_each(|layer| layer.experts = true);
        }
        // Qwen2 has no key for its biases: its class always makes them.
        Family::Qwen2 => {
            layers::window_from(arch, keys)?;
            (arch.qkv_bias, arch.output_bias) = (true, false);
        }
        Family::Qwen3 => layers::window_from(arch, keys)?,
        Family::Qwen3Moe => {
            if keys.flag("use_sliding_window")?.unwrap_or(false) {
                layers::window_everywhere(arch, keys)?;
            }
            experts(arch, keys, keys.flag("norm_topk_prob")?.unwrap_or(false))?;
            layers::experts(arch, keys)?;
        }
        Family::Gemma2 => gemma(arch, keys, 2)?,
        Family::Gemma3 => {
            gemma(arch, keys, keys.whole("sliding_window_pattern")?.unwrap_or(6))?;
            arch.local_rope = Some(rope::local(arch, keys)?);
        }
        Family::Gpt2 => gpt2(arch, keys)?,
        Family::Granite => granite(arch, keys)?,
        Family::SmolLm3 => layers::smollm3(arch, keys)?,
    }
    Ok(())
}

fn experts(arch: &mut Arch, keys: Keys<'_>, normalised: bool) -> Result<(), ModelError> {
    arch.experts = Some(Experts {
        // Released Qwen3-MoE configs have one key, transformers 5 writes the other.
        count: match keys.whole("num_experts")? {
            Some(count) => count,
            None => keys.required("num_local_experts")?,
        },
        per_token: keys.required("num_experts_per_tok")?,
        intermediate: keys.required("moe_intermediate_size")?,
        normalised,
    });
    Ok(())
}

/// A full block after `period − 1` with windows, where the config lists no other order.
fn gemma(arch: &mut Arch, keys: Keys<'_>, period: usize) -> Result<(), ModelError> {
    if keys.flag("use_bidirectional_attention")?.unwrap_or(false) {
        let found = Value::Bool(true);
        return Err(unsupported("use_bidirectional_attention", &found, "`false`"));
    }
    layers::window_but_every(arch, keys, period)?;
    let scalar = keys.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    super::positive("query_pre_attn_scalar", scalar)?;
    let is_second = arch.family == Family::Gemma2;
    let cap = |key, default: f64| match keys.get(key) {
        None if is_second && !keys.is_null(key) => Ok(Some(default)),
        _ => keys.number(key),
    };
    arch.scales = Scales {
        embeddings: (arch.hidden as f64).sqrt(),
        attention: Some(scalar.sqrt().recip()),
        attention_cap: cap("attn_logit_softcapping", 50.0)?,
        logits_cap: cap("final_logit_softcapping", 30.0)?,
        ..Scales::default()
    };
    Ok(())
}

fn gpt2(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    (arch.qkv_bias, arch.output_bias, arch.mlp_bias) = (true, true, true);
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        if keys.flag(key)?.unwrap_or(false) {
            return Err(unsupported(key, &Value::Bool(true), "`false`"));
        }
    }
    if keys.flag("scale_attn_weights")? == Some(false) {
        arch.scales.attention = Some(1.0);
    }
    Ok(())
}

fn granite(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    let logits = keys.number("logits_scaling")?.unwrap_or(1.0);
    super::positive("logits_scaling", logits)?;
    arch.scales = Scales {
        embeddings: keys.number("embedding_multiplier")?.unwrap_or(1.0),
        residual: keys.number("residual_multiplier")?.unwrap_or(1.0),
        attention: Some(keys.number("attention_multiplier")?.unwrap_or(1.0)),
        logits: logits.recip(),
        ..Scales::default()
    };
    Ok(())
}

fn family(config: &Value) -> Result<Family, ModelError> {
    let keys = Keys::new(config, &[]);
    let Some(found) = keys.get("model_type") else {
        return Err(keys.missing("model_type"));
    };
    found.as_str().and_then(Family::of_model_type).ok_or_else(|| {
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        ModelError::UnknownArchitecture { found, supported: Family::supported() }
    })
}

fn whole_heads(keys: Keys<'_>, hidden: usize, heads: usize) -> Result<usize, ModelError> {
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let wanted = format!("a divisor of `{}`, which is {hidden}", keys.named("hidden_size"));
        return Err(out_of_range(keys.named("num_attention_heads"), heads, wanted));
    }
    Ok(hidden / heads)
}

fn refuse_unbuilt(keys: Keys<'_>, wiring: Wiring) -> Result<(), ModelError> {
    let (known, wanted): (&[&str], _) = match wiring.activation {
        Activation::Silu => (&["silu", "swish"], "`silu`"),
        Activation::GeluTanh => (&["gelu_pytorch_tanh", "gelu_new"], "the tanh form of GELU"),
    };
    if let Some(found) = keys.get("hidden_act")
        && !found.as_str().is_some_and(|name| known.contains(&name))
    {
        return Err(unsupported(keys.named("hidden_act"), found, wanted));
    }
    if let Some(found) = keys.get("quantization_config") {
        let method = found.get("quant_method").unwrap_or(found);
        return Err(unsupported("quantization_config", method, "plain f32, f16 or bf16"));
    }
    Ok(())
}
