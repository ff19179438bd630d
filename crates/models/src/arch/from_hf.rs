//! An architecture from Hugging Face's `config.json`.

use serde_json::Value;

use super::rope::{RopeScaling, RopeSpec};
use super::{Arch, Family, SUPPORTED, out_of_range};
use crate::error::ModelError;

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
        let keys = Keys(config);
        let family = keys.family()?;
        keys.refuse_unbuilt()?;
        let hidden = keys.required("hidden_size")?;
        let heads = keys.required("num_attention_heads")?;
        let head_dim = match keys.whole("head_dim")? {
            Some(head_dim) => head_dim,
            None => whole_heads(hidden, heads)?,
        };
        // Qwen2 has no key for its biases: its class always makes them.
        let attention_bias = keys.flag("attention_bias")?;
        let arch = Self {
            family,
            hidden,
            n_layers: keys.required("num_hidden_layers")?,
            heads,
            kv_heads: keys.whole("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            intermediate: keys.required("intermediate_size")?,
            vocab: keys.required("vocab_size")?,
            norm_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope: keys.rope()?,
            tied_head: keys.flag("tie_word_embeddings")?,
            max_positions: keys.whole("max_position_embeddings")?.unwrap_or(2048),
            qkv_bias: attention_bias || family == Family::Qwen2,
            output_bias: attention_bias && family != Family::Qwen2,
            qk_norm: family == Family::Qwen3,
            mlp_bias: keys.flag("mlp_bias")?,
            initializer_range: keys.number("initializer_range")?.unwrap_or(0.02),
            bos: keys.tokens("bos_token_id")?.first().copied(),
            eos: keys.tokens("eos_token_id")?,
            pad: keys.tokens("pad_token_id")?.first().copied(),
        };
        arch.check()?;
        Ok(arch)
    }
}

fn whole_heads(hidden: usize, heads: usize) -> Result<usize, ModelError> {
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let wanted = format!("a divisor of `hidden_size`, which is {hidden}");
        return Err(out_of_range("num_attention_heads", heads, wanted));
    }
    Ok(hidden / heads)
}

/// A JSON object with typed getters; `null` counts as absent.
struct Keys<'a>(&'a Value);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn family(&self) -> Result<Family, ModelError> {
        let found = match self.get("model_type") {
            Some(found) => found,
            None => return Err(ModelError::MissingKey { key: "model_type".to_owned() }),
        };
        found.as_str().and_then(Family::of_model_type).ok_or_else(|| {
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            ModelError::UnknownArchitecture { found, supported: SUPPORTED }
        })
    }

    fn refuse_unbuilt(&self) -> Result<(), ModelError> {
        if self.flag("use_sliding_window")? {
            return Err(unsupported("use_sliding_window", &Value::Bool(true), "`false`"));
        }
        if let Some(found) = self.get("hidden_act")
            && found.as_str() != Some("silu")
        {
            return Err(unsupported("hidden_act", found, "`silu`"));
        }
        if let Some(found) = self.get("quantization_config") {
            let method = found.get("quant_method").unwrap_or(found);
            return Err(unsupported("quantization_config", method, "plain f32, f16 or bf16"));
        }
        Ok(())
    }

    fn whole(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(found) = self.get(key) else { return Ok(None) };
        let whole = found.as_u64().and_then(|whole| usize::try_from(whole).ok());
        whole.map(Some).ok_or_else(|| out_of_range(key, found, "a whole number from 1 up"))
    }

    fn required(&self, key: &str) -> Result<usize, ModelError> {
        self.whole(key)?.ok_or_else(|| ModelError::MissingKey { key: key.to_owned() })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(found) = self.get(key) else { return Ok(None) };
        found.as_f64().map(Some).ok_or_else(|| out_of_range(key, found, "a number"))
    }

    fn required_number(&self, key: &str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| ModelError::MissingKey { key: key.to_owned() })
    }

    fn flag(&self, key: &str) -> Result<bool, ModelError> {
        let Some(found) = self.get(key) else { return Ok(false) };
        found.as_bool().ok_or_else(|| out_of_range(key, found, "`true` or `false`"))
    }

    /// One token or a list of them; −1 means none.
    fn tokens(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        let listed = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(several)) => several.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let wanted = listed.iter().filter(|found| found.as_i64() != Some(-1));
        wanted
            .map(|found| {
                let id = found.as_u64().and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| out_of_range(key, found, "a token id"))
            })
            .collect()
    }

    /// The rotary settings: `rope_parameters` as transformers 5 writes them, or `rope_theta` and
    /// `rope_scaling` as before.
    fn rope(&self) -> Result<RopeSpec, ModelError> {
        let settings = self.get("rope_parameters").or_else(|| self.get("rope_scaling"));
        if let Some(found) = settings.filter(|settings| !settings.is_object()) {
            return Err(out_of_range("rope_parameters", found, "an object"));
        }
        let nested = settings.map(Keys);
        let partial = nested.as_ref().and_then(|nested| nested.get("partial_rotary_factor"));
        if let Some(found) = partial.or_else(|| self.get("partial_rotary_factor"))
            && found.as_f64() != Some(1.0)
        {
            return Err(unsupported("partial_rotary_factor", found, "1: all of a head is rotated"));
        }
        let theta = match &nested {
            Some(nested) => nested.number("rope_theta")?,
            None => None,
        };
        let theta = match theta {
            Some(theta) => theta,
            None => self.number("rope_theta")?.unwrap_or(10_000.0),
        };
        let scaling = nested.map_or(Ok(RopeScaling::None), |nested| nested.rope_scaling())?;
        Ok(RopeSpec { theta, scaling })
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        let Some(kind) = self.get("rope_type").or_else(|| self.get("type")) else {
            return Ok(RopeScaling::None);
        };
        match kind.as_str() {
            Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: self.required_number("factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: self.required_number("factor")?,
                low_freq_factor: self.required_number("low_freq_factor")?,
                high_freq_factor: self.required_number("high_freq_factor")?,
                original_max_positions: self.required("original_max_position_embeddings")?,
            }),
            _ => Err(unsupported("rope_type", kind, "`default`, `linear` or `llama3`")),
        }
    }
}

fn unsupported(key: &str, found: &Value, wanted: &str) -> ModelError {
    ModelError::Unsupported {
        key: key.to_owned(),
        found: found.as_str().map_or_else(|| found.to_string(), str::to_owned),
        wanted: wanted.to_owned(),
    }
}
