//! An architecture as Hugging Face's `config.json`.

use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::rope::{RopeScaling, RopeSpec, Yarn};
use super::{Arch, Family};

impl Arch {
    /// The `config.json` that transformers reads, for weights stored in f32.
    ///
    /// The rotary settings are written under both the old and the new keys, except where blocks
    /// differ in them: only the new keys can say so.
    pub fn to_hf_config(&self) -> Value {
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let mut config = Map::new();
        let keys = Keys::new(&Value::Null, self.family.aliases());
        let mut set = |key: &'static str, value: Value| {
            config.insert(keys.named(key).to_owned(), value);
        };
        set("architectures", json!([self.family.class()]));
        set("bos_token_id", json!(self.bos));
        set("dtype", json!("float32"));
        set("eos_token_id", eos);
        set("hidden_act", json!(self.family.activation_name()));
        set("hidden_size", json!(self.hidden));
        set("initializer_range", json!(self.initializer_range));
        let wide = Some(self.intermediate);
        // GPT-2 leaves the usual width out.
        let usual = self.family == Family::Gpt2 && self.intermediate == 4 * self.hidden;
        set("intermediate_size", json!(wide.filter(|_| !usual)));
        set("max_position_embeddings", json!(self.max_positions));
        set("model_type", json!(self.family.model_type()));
        set("num_attention_heads", json!(self.heads));
        set("num_hidden_layers", json!(self.n_layers()));
        set("pad_token_id", json!(self.pad));
        set("rms_norm_eps", json!(self.norm_eps));
        set("tie_word_embeddings", json!(self.tied_head));
        set("transformers_version", json!("5.24.0"));
        set("use_cache", json!(true));
        set("vocab_size", json!(self.vocab));
        if self.family != Family::Gpt2 {
            set("attention_dropout", json!(0.0));
            set("head_dim", json!(self.head_dim));
            set("num_key_value_heads", json!(self.kv_heads));
        }
        self.add_rope(&mut config);
        self.add_layers(&mut config);
        self.add_own(&mut config);
        config.sort_keys();
        Value::Object(config)
    }

    fn add_rope(&self, config: &mut Map<String, Value>) {
        let Some(rope) = &self.rope else { return };
        if let Some(local) = &self.local_rope {
            config.insert(
                "rope_parameters".to_owned(),
                json!({
                    "full_attention": settings(rope, self.head_dim),
                    "sliding_attention": settings(local, self.head_dim),
                }),
            );
            return;
        }
        let new = settings(rope, self.head_dim);
        if rope.scaling != RopeScaling::None {
            let mut old = new.clone();
            old.as_object_mut().map(|it| it.remove("rope_theta"));
            config.insert("rope_scaling".to_owned(), old);
        }
        config.insert("rope_theta".to_owned(), json!(rope.theta));
        if let RopeScaling::LongRope { original_max_positions, .. } = rope.scaling {
            let key = "original_max_position_embeddings".to_owned();
            config.insert(key, json!(original_max_positions));
        }
        if rope.dims != self.head_dim {
            let partial = rope.dims as f64 / self.head_dim as f64;
            config.insert("partial_rotary_factor".to_owned(), json!(partial));
        }
        config.insert("rope_parameters".to_owned(), new);
    }

    /// Windows, rotation and experts of the blocks.
    fn add_layers(&self, config: &mut Map<String, Value>) {
        let window = self.layers.iter().find_map(|layer| layer.window);
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        let kind = |slides| if slides { "sliding_attention" } else { "full_attention" };
        let types: Vec<&str> =
            self.layers.iter().map(|layer| kind(layer.window.is_some())).collect();
        match self.family {
            Family::Mistral | Family::Mixtral | Family::Phi3 => {
                set("sliding_window", json!(window))
            }
            Family::Gemma2 | Family::Gemma3 => {
                // Without a window the listed kinds would have none to refer to.
                set("sliding_window", json!(window));
                set("layer_types", json!(types));
            }
            Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => {
                set("sliding_window", json!(window));
                set("use_sliding_window", json!(window.is_some()));
                set("layer_types", json!(types));
            }
            Family::Qwen3Moe => {
                set("sliding_window", json!(window));
                set("use_sliding_window", json!(window.is_some()));
                let indices = 0..self.layers.len();
                let dense: Vec<usize> =
                    indices.filter(|&index| !self.layers[index].experts).collect();
                set("mlp_only_layers", json!(dense));
                set("decoder_sparse_step", json!(1));
            }
            Family::Llama | Family::Gpt2 | Family::Olmo2 | Family::Granite => {}
        }
        if self.family == Family::SmolLm3 {
            let rotated: Vec<u8> =
                self.layers.iter().map(|layer| u8::from(layer.rotated)).collect();
            set("no_rope_layers", json!(rotated));
        }
    }

    /// Keys of single families.
    fn add_own(&self, config: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        let scales = self.scales;
        match self.family {
            Family::Mistral | Family::Mixtral | Family::Qwen2 | Family::Phi3 | Family::Gpt2 => {}
            _ => set("attention_bias", json!(self.qkv_bias)),
        }
        match self.family {
            Family::Llama => {
                set("mlp_bias", json!(self.mlp_bias));
                set("pretraining_tp", json!(1));
            }
            Family::SmolLm3 => set("mlp_bias", json!(self.mlp_bias)),
            Family::Gemma2 | Family::Gemma3 => {
                let scalar = self.attention_scale().powi(-2);
                // The root was taken of a number with few digits.
                set("query_pre_attn_scalar", whole_or_not(scalar));
                set("attn_logit_softcapping", json!(scales.attention_cap));
                set("final_logit_softcapping", json!(scales.logits_cap));
            }
            Family::Granite => {
                set("mlp_bias", json!(self.mlp_bias));
                set("embedding_multiplier", json!(scales.embeddings));
                set("residual_multiplier", json!(scales.residual));
                set("attention_multiplier", json!(self.attention_scale()));
                set("logits_scaling", json!(scales.logits.recip()));
            }
            Family::Gpt2 => {
                set("scale_attn_weights", json!(scales.attention.is_none()));
                for dropout in ["attn_pdrop", "embd_pdrop", "resid_pdrop"] {
                    set(dropout, json!(0.0));
                }
            }
            _ => {}
        }
        let Some(experts) = self.experts else { return };
        let mixtral = self.family == Family::Mixtral;
        set(if mixtral { "num_local_experts" } else { "num_experts" }, json!(experts.count));
        set("num_experts_per_tok", json!(experts.per_token));
        set("output_router_logits", json!(false));
        if !mixtral {
            set("moe_intermediate_size", json!(experts.intermediate));
            set("norm_topk_prob", json!(experts.normalised));
        }
    }
}

/// A number that rounding has kept from being whole, made whole again.
fn whole_or_not(number: f64) -> Value {
    let whole = number.round();
    if (number - whole).abs() < 1e-9 * whole { json!(whole as u64) } else { json!(number) }
}

/// One `rope_parameters` object.
fn settings(rope: &RopeSpec, head_dim: usize) -> Value {
    let mut settings = scaling(&rope.scaling);
    settings["rope_theta"] = json!(rope.theta);
    if rope.dims != head_dim {
        settings["partial_rotary_factor"] = json!(rope.dims as f64 / head_dim as f64);
    }
    settings
}

fn scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Linear { factor } => json!({ "factor": factor, "rope_type": "linear" }),
        RopeScaling::Dynamic { factor, .. } => json!({ "factor": factor, "rope_type": "dynamic" }),
        RopeScaling::Yarn(Yarn {
            factor,
            original_max_positions,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
        }) => json!({
            "attention_factor": attention_factor,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "factor": factor,
            "original_max_position_embeddings": original_max_positions,
            "rope_type": "yarn",
            "truncate": truncate,
        }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => json!({
            "factor": factor,
            "high_freq_factor": high_freq_factor,
            "low_freq_factor": low_freq_factor,
            "original_max_position_embeddings": original_max_positions,
            "rope_type": "llama3",
        }),
        RopeScaling::LongRope {
            short_factor,
            long_factor,
            original_max_positions,
            attention_factor,
        } => json!({
            "attention_factor": attention_factor,
            "long_factor": long_factor,
            "original_max_position_embeddings": original_max_positions,
            "rope_type": "longrope",
            "short_factor": short_factor,
        }),
    }
}
