//! An architecture from a GGUF file's metadata.

use rekindle_quant::gguf::{GgufFile, TensorInfo};

use super::rope::{RopeScaling, RopeSpec, Yarn};
use super::{Arch, Family, Layer, MOST_LAYERS, Scales, out_of_range, within};
use crate::error::ModelError;

impl Arch {
    /// Reads the metadata of a GGUF file.
    ///
    /// The vocabulary's size is the length of its token list; the head is tied where the file has
    /// no `output.weight`. A Mistral file calls itself `llama` and says nothing of a window.
    ///
    /// # Errors
    /// As [`Arch::from_hf`].
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let (family, prefix) = family(file)?;
        let meta = Meta { file, prefix };
        meta.refuse_experts()?;
        let hidden = meta.required("embedding_length")?;
        let heads = meta.required("attention.head_count")?;
        let head_dim = meta.head_dim(hidden, heads)?;
        let n_layers = meta.required("block_count")?;
        within("num_hidden_layers", n_layers, MOST_LAYERS)?;
        let has = |name: &str| meta.tensor(name).is_some();
        let mut arch = Self {
            family,
            hidden,
            layers: vec![Layer::FULL; n_layers],
            heads,
            kv_heads: meta.whole("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            intermediate: meta.required("feed_forward_length")?,
            vocab: meta.vocab()?,
            norm_eps: meta.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            rope: Some(RopeSpec {
                theta: meta.number("rope.freq_base")?.unwrap_or(10_000.0),
                dims: meta.whole("rope.dimension_count")?.unwrap_or(head_dim),
                scaling: meta.rope_scaling()?,
            }),
            local_rope: None,
            tied_head: !has("output.weight"),
            max_positions: meta.whole("context_length")?.unwrap_or(2048),
            qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
            output_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_up.bias"),
            experts: None,
            scales: Scales::default(),
            initializer_range: 0.02,
            bos: file.u32("tokenizer.ggml.bos_token_id")?,
            eos: file.u32("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
            pad: file.u32("tokenizer.ggml.padding_token_id")?,
        };
        arch.check()?;
        meta.specialise(&mut arch)?;
        arch.check()?;
        let other = meta.whole("attention.value_length")?.filter(|&length| length != head_dim);
        if let Some(other) = other {
            let wanted = format!("{head_dim}, the width of a head");
            return Err(unsupported(
                &meta.key("attention.value_length"),
                other.to_string(),
                &wanted,
            ));
        }
        Ok(arch)
    }
}

fn family(file: &GgufFile) -> Result<(Family, &'static str), ModelError> {
    let key = "general.architecture";
    let Some(found) = file.string(key)?.map(|name| name.to_string()) else {
        return Err(ModelError::MissingKey { key: key.to_owned() });
    };
    Family::of_gguf(&found).ok_or_else(|| ModelError::UnknownArchitecture {
        found,
        supported: Family::supported_gguf(),
    })
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

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.file.tensors().iter().find(|tensor| tensor.name == name)
    }

    fn whole(&self, name: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.file.u32(&self.key(name))?.map(|value| value as usize))
    }

    fn required(&self, name: &str) -> Result<usize, ModelError> {
        self.whole(name)?.ok_or_else(|| ModelError::MissingKey { key: self.key(name) })
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        Ok(self.file.f32(&self.key(name))?.map(shortest))
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, ModelError> {
        match self.whole("attention.key_length")? {
            Some(head_dim) => Ok(head_dim),
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => {
                let wanted = format!("a divisor of the width, which is {hidden}");
                Err(out_of_range(&self.key("attention.head_count"), heads, wanted))
            }
        }
    }

    fn refuse_experts(&self) -> Result<(), ModelError> {
        match self.whole("expert_count")? {
            None | Some(0) => Ok(()),
            Some(experts) => {
                let wanted = "a model without experts; read it from a Hugging Face folder";
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
        let factor = || {
            let absent = || ModelError::MissingKey { key: self.key("rope.scaling.factor") };
            self.number("rope.scaling.factor")?.ok_or_else(absent)
        };
        match kind.as_deref() {
            // Files older than the key state a linear factor alone.
            None => Ok(match self.number("rope.scale_linear")? {
                Some(factor) if factor != 1.0 => RopeScaling::Linear { factor },
                _ => RopeScaling::None,
            }),
            // LongRoPE's numbers are in tensors.
            Some("none" | "longrope") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
            Some("yarn") => {
                let factor = factor()?;
                let longer = self.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
                Ok(RopeScaling::Yarn(Yarn {
                    factor,
                    original_max_positions: self.original_context()?,
                    beta_fast: self.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: self.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    attention_factor: Yarn::magnitude(factor, 1.0) * longer,
                    truncate: true,
                }))
            }
            Some(other) => {
                let wanted = "`none`, `linear`, `yarn` or `longrope`";
                Err(unsupported(&key, other.to_owned(), wanted))
            }
        }
    }

    fn original_context(&self) -> Result<usize, ModelError> {
        self.required("rope.scaling.original_context_length")
    }

    /// Fills in what the family has of its own.
    fn specialise(&self, arch: &mut Arch) -> Result<(), ModelError> {
        match arch.family {
            Family::Gemma2 => self.gemma(arch, 2, 46),
            Family::Gemma3 => {
                let theta = self.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
                let dims = arch.head_dim;
                arch.local_rope = Some(RopeSpec { theta, dims, scaling: RopeScaling::None });
                self.gemma(arch, 6, 62)
            }
            Family::Phi3 => self.phi3(arch),
            _ => self.llama3(arch),
        }
    }

    /// A full block after `period − 1` with windows. The file keeps no factor of the scores: it is
    /// a head's width, or in the largest model, of `largest` blocks, the stream's part of a head.
    fn gemma(&self, arch: &mut Arch, period: usize, largest: usize) -> Result<(), ModelError> {
        let window = self.whole("attention.sliding_window")?;
        for (index, layer) in arch.layers.iter_mut().enumerate() {
            layer.window = window.filter(|_| !(index + 1).is_multiple_of(period));
        }
        let is_largest = arch.n_layers() == largest;
        let width = if is_largest { arch.hidden / arch.heads } else { arch.head_dim };
        arch.scales = Scales {
            embeddings: (arch.hidden as f64).sqrt(),
            attention: Some((width as f64).sqrt().recip()),
            attention_cap: self.number("attn_logit_softcapping")?,
            logits_cap: self.number("final_logit_softcapping")?,
            ..Scales::default()
        };
        Ok(())
    }

    fn phi3(&self, arch: &mut Arch) -> Result<(), ModelError> {
        let window = self.whole("attention.sliding_window")?.filter(|&window| window > 0);
        arch.layers.iter_mut().for_each(|layer| layer.window = window);
        let lists = ["rope_factors_short.weight", "rope_factors_long.weight"];
        let [Some(short), Some(long)] = lists.map(|name| self.tensor(name)) else {
            return Ok(());
        };
        let divisors = |tensor| -> Result<Vec<f64>, ModelError> {
            Ok(self.file.dequantize(tensor)?.into_iter().map(shortest).collect())
        };
        let scaling = RopeScaling::LongRope {
            short_factor: divisors(short)?,
            long_factor: divisors(long)?,
            original_max_positions: self.original_context()?,
            attention_factor: self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
        };
        arch.rope.iter_mut().for_each(|rope| rope.scaling = scaling.clone());
        Ok(())
    }

    fn llama3(&self, arch: &mut Arch) -> Result<(), ModelError> {
        if let Some(tensor) = self.tensor("rope_freqs.weight")
            && let Some(rope) = arch.rope.as_mut()
        {
            rope.scaling = llama3_from(&self.file.dequantize(tensor)?, rope, arch.max_positions);
        }
        Ok(())
    }
}

/// The f64 with the same shortest decimal form, so that `1e-5` stays `1e-5` in a written config.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The settings behind `rope_freqs.weight`, which holds what each frequency is divided by.
///
/// GGUF keeps only the outcome; all released Llama 3 models share every setting but the factor,
/// which the lowest frequency shows. Other divisors are kept as they are, as LongRoPE's that do
/// not depend on the text's length.
fn llama3_from(divisors: &[f32], rope: &RopeSpec, max_positions: usize) -> RopeScaling {
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    let frequencies = |scaling| RopeSpec { scaling, ..rope.clone() }.inverse_frequencies(0);
    let plain = frequencies(RopeScaling::None);
    let stretched = frequencies(scaling.clone());
    let fits = divisors.len() == plain.len()
        && plain.iter().zip(&stretched).zip(divisors).all(|((plain, stretched), &divisor)| {
            (plain / stretched / f64::from(divisor) - 1.0).abs() < 1e-4
        });
    if fits && factor == 1.0 {
        return rope.scaling.clone();
    }
    if fits && factor.is_finite() {
        return scaling;
    }
    let divisors: Vec<f64> = divisors.iter().map(|&divisor| shortest(divisor)).collect();
    RopeScaling::LongRope {
        short_factor: divisors.clone(),
        long_factor: divisors,
        original_max_positions: max_positions,
        attention_factor: 1.0,
    }
}

fn unsupported(key: &str, found: String, wanted: &str) -> ModelError {
    ModelError::Unsupported { key: key.to_owned(), found, wanted: wanted.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> RopeSpec {
        RopeSpec { theta: 500_000.0, dims: 128, scaling }
    }

    /// What llama.cpp's converter stores for a Llama 3 of that factor.
    fn divisors(factor: f64, high_freq_factor: f64) -> Vec<f32> {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor,
            original_max_positions: 8192,
        };
        let frequencies = |scaling| rope(scaling).inverse_frequencies(0);
        let pairs = frequencies(RopeScaling::None).into_iter().zip(frequencies(scaling));
        pairs.map(|(plain, stretched)| (plain / stretched) as f32).collect()
    }

    #[test]
    fn stored_divisors_give_back_llama3s_settings() {
        for factor in [8.0, 32.0] {
            let found = llama3_from(&divisors(factor, 4.0), &rope(RopeScaling::None), 8192);
            let RopeScaling::Llama3 { factor: read, high_freq_factor, .. } = found else {
                panic!("{found:?}");
            };
            assert_eq!((read, high_freq_factor), (factor, 4.0));
        }
        let none = llama3_from(&[1.0; 64], &rope(RopeScaling::None), 8192);
        assert_eq!(none, RopeScaling::None);
    }

    #[test]
    fn divisors_of_another_scheme_are_taken_as_they_are() {
        for divisors in [divisors(8.0, 5.0), vec![8.0; 64]] {
            let scaling = llama3_from(&divisors, &rope(RopeScaling::None), 4096);
            let [plain, divided] =
                [RopeScaling::None, scaling].map(|it| rope(it).inverse_frequencies(5000));
            for ((plain, divided), divisor) in plain.iter().zip(divided).zip(divisors) {
                assert!((plain / divided / f64::from(divisor) - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn divisors_that_are_none_are_refused() {
        for divisors in [vec![1.0; 63], vec![f32::NAN; 64], vec![-1.0; 64]] {
            let scaling = llama3_from(&divisors, &rope(RopeScaling::None), 4096);
            let said = rope(scaling).check(128).unwrap_err().to_string();
            assert!(said.contains("`rope_scaling.short_factor`"), "{said}");
        }
    }

    #[test]
    fn a_float_keeps_its_shortest_decimal_form() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(0.1), 0.1);
    }
}
