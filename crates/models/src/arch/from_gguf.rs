//! An architecture from a GGUF file's metadata.

use rekindle_quant::gguf::GgufFile;

use super::rope::{RopeScaling, RopeSpec};
use super::{Arch, Family, SUPPORTED, out_of_range};
use crate::error::ModelError;

impl Arch {
    /// Reads the metadata of a GGUF file.
    ///
    /// The vocabulary's size is the length of its token list; the head is tied where the file has
    /// no `output.weight`.
    ///
    /// # Errors
    /// As [`Arch::from_hf`].
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let family = family(file)?;
        let meta = Meta { file, prefix: family.model_type() };
        meta.refuse_experts()?;
        let hidden = meta.required("embedding_length")?;
        let heads = meta.required("attention.head_count")?;
        let head_dim = match meta.whole("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let wanted = format!("a divisor of the width, which is {hidden}");
                return Err(out_of_range(&meta.key("attention.head_count"), heads, wanted));
            }
        };
        let has = |name: &str| file.tensors().iter().any(|tensor| tensor.name == name);
        let mut arch = Self {
            family,
            hidden,
            n_layers: meta.required("block_count")?,
            heads,
            kv_heads: meta.whole("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            intermediate: meta.required("feed_forward_length")?,
            vocab: meta.vocab()?,
            norm_eps: meta.number("attention.layer_norm_rms_epsilon")?.map_or(1e-6, shortest),
            rope: RopeSpec {
                theta: meta.number("rope.freq_base")?.map_or(10_000.0, f64::from),
                scaling: meta.rope_scaling()?,
            },
            tied_head: !has("output.weight"),
            max_positions: meta.whole("context_length")?.unwrap_or(2048),
            qkv_bias: has("blk.0.attn_q.bias"),
            output_bias: has("blk.0.attn_output.bias"),
            qk_norm: family == Family::Qwen3,
            mlp_bias: has("blk.0.ffn_gate.bias"),
            initializer_range: 0.02,
            bos: file.u32("tokenizer.ggml.bos_token_id")?,
            eos: file.u32("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
            pad: file.u32("tokenizer.ggml.padding_token_id")?,
        };
        arch.check()?;
        for name in ["rope.dimension_count", "attention.value_length"] {
            let other = meta.whole(name)?.filter(|&length| length != head_dim);
            if let Some(other) = other {
                let wanted = format!("{head_dim}, the width of a head");
                return Err(unsupported(&meta.key(name), other.to_string(), &wanted));
            }
        }
        if let Some(tensor) = file.tensors().iter().find(|it| it.name == "rope_freqs.weight") {
            arch.rope.scaling = llama3_from(&file.dequantize(tensor)?, &arch)?;
        }
        Ok(arch)
    }
}

fn family(file: &GgufFile) -> Result<Family, ModelError> {
    let key = "general.architecture";
    let Some(found) = file.string(key)?.map(|name| name.to_string()) else {
        return Err(ModelError::MissingKey { key: key.to_owned() });
    };
    // llama.cpp and transformers call these families by the same names.
    let family = Family::of_model_type(&found);
    family.ok_or(ModelError::UnknownArchitecture { found, supported: SUPPORTED })
}

/// Metadata whose keys begin with the architecture's name.
struct Meta<'a> {
    file: &'a GgufFile,
    prefix: &'static str,
}

impl Meta<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn whole(&self, name: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.file.u32(&self.key(name))?.map(|value| value as usize))
    }

    fn required(&self, name: &str) -> Result<usize, ModelError> {
        self.whole(name)?.ok_or_else(|| ModelError::MissingKey { key: self.key(name) })
    }

    fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.file.f32(&self.key(name))?)
    }

    fn refuse_experts(&self) -> Result<(), ModelError> {
        match self.whole("expert_count")? {
            None | Some(0) => Ok(()),
            Some(experts) => {
                let wanted = "a model without experts";
                Err(unsupported(&self.key("expert_count"), experts.to_string(), wanted))
            }
        }
    }

    fn vocab(&self) -> Result<usize, ModelError> {
        match self.file.strings("tokenizer.ggml.tokens")? {
            Some(tokens) => Ok(tokens.len()),
            None => self.required("vocab_size"),
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        let key = self.key("rope.scaling.type");
        let kind = self.file.string(&key)?.map(|kind| kind.to_string());
        match kind.as_deref() {
            // Files older than the key state a linear factor alone.
            None => Ok(match self.number("rope.scale_linear")? {
                Some(factor) if factor != 1.0 => RopeScaling::Linear { factor: f64::from(factor) },
                _ => RopeScaling::None,
            }),
            Some("none") => Ok(RopeScaling::None),
            Some("linear") => match self.number("rope.scaling.factor")? {
                Some(factor) => Ok(RopeScaling::Linear { factor: f64::from(factor) }),
                None => Err(ModelError::MissingKey { key: self.key("rope.scaling.factor") }),
            },
            Some(other) => Err(unsupported(&key, other.to_owned(), "`none` or `linear`")),
        }
    }
}

/// The f64 with the same shortest decimal form, so that `1e-5` stays `1e-5` in a written config.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The Llama 3 settings behind `rope_freqs.weight`, which holds what each frequency is divided by.
///
/// GGUF keeps only the outcome; all released Llama 3 models share every setting but the factor,
/// which the lowest frequency shows. Anything else is refused.
fn llama3_from(divisors: &[f32], arch: &Arch) -> Result<RopeScaling, ModelError> {
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    let frequencies =
        |scaling| RopeSpec { theta: arch.rope.theta, scaling }.inverse_frequencies(arch.head_dim);
    let plain = frequencies(RopeScaling::None);
    let stretched = frequencies(scaling);
    let fits = divisors.len() == plain.len()
        && plain.iter().zip(&stretched).zip(divisors).all(|((plain, stretched), &divisor)| {
            (plain / stretched / f64::from(divisor) - 1.0).abs() < 1e-4
        });
    if fits && factor == 1.0 {
        return Ok(arch.rope.scaling);
    }
    if fits && factor.is_finite() {
        return Ok(scaling);
    }
    Err(unsupported("rope_freqs.weight", "not Llama 3's".to_owned(), "Llama 3's frequencies"))
}

fn unsupported(key: &str, found: String, wanted: &str) -> ModelError {
    ModelError::Unsupported { key: key.to_owned(), found, wanted: wanted.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arch() -> Arch {
        let config = json!({
            "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 32,
            "rope_theta": 500000.0,
        });
        Arch::from_hf(&config).unwrap()
    }

    /// What llama.cpp's converter stores for a Llama 3 of that factor.
    fn divisors(factor: f64, high_freq_factor: f64) -> Vec<f32> {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor,
            original_max_positions: 8192,
        };
        let frequencies = |scaling| RopeSpec { theta: 500_000.0, scaling }.inverse_frequencies(128);
        let pairs = frequencies(RopeScaling::None).into_iter().zip(frequencies(scaling));
        pairs.map(|(plain, stretched)| (plain / stretched) as f32).collect()
    }

    #[test]
    fn stored_divisors_give_back_llama3s_settings() {
        for factor in [8.0, 32.0] {
            let found = llama3_from(&divisors(factor, 4.0), &arch()).unwrap();
            let RopeScaling::Llama3 { factor: read, high_freq_factor, .. } = found else {
                panic!("{found:?}");
            };
            assert_eq!((read, high_freq_factor), (factor, 4.0));
        }
        assert_eq!(llama3_from(&[1.0; 64], &arch()).unwrap(), RopeScaling::None);
    }

    #[test]
    fn divisors_of_another_scheme_are_refused() {
        let strange =
            [divisors(8.0, 5.0), vec![8.0; 64], vec![1.0; 63], vec![f32::NAN; 64], vec![-1.0; 64]];
        for divisors in strange {
            let error = llama3_from(&divisors, &arch()).unwrap_err();
            assert!(error.to_string().contains("`rope_freqs.weight`"), "{error}");
        }
    }

    #[test]
    fn a_float_keeps_its_shortest_decimal_form() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(0.1), 0.1);
    }
}
