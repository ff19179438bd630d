//! An architecture as Hugging Face's `config.json`.

use serde_json::{Value, json};

use super::rope::RopeScaling;
use super::{Arch, Family};

impl Arch {
    /// The `config.json` that transformers reads, for weights stored in f32.
    ///
    /// The rotary settings are written under both the old and the new keys.
    pub fn to_hf_config(&self) -> Value {
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let mut config = json!({
            "architectures": [self.family.class()],
            "attention_dropout": 0.0,
            "bos_token_id": self.bos,
            "dtype": "float32",
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.max_positions,
            "model_type": self.family.model_type(),
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.n_layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": self.pad,
            "rms_norm_eps": self.norm_eps,
        });
        if self.family != Family::Qwen2 {
            config["attention_bias"] = json!(self.qkv_bias);
        }
        if self.family == Family::Llama {
            config["mlp_bias"] = json!(self.mlp_bias);
            config["pretraining_tp"] = json!(1);
        }
        let mut rope = rope_settings(self.rope.scaling);
        if self.rope.scaling != RopeScaling::None {
            config["rope_scaling"] = rope.clone();
        }
        rope["rope_theta"] = json!(self.rope.theta);
        config["rope_parameters"] = rope;
        config["rope_theta"] = json!(self.rope.theta);
        config["tie_word_embeddings"] = json!(self.tied_head);
        config["transformers_version"] = json!("5.24.0");
        config["use_cache"] = json!(true);
        config["vocab_size"] = json!(self.vocab);
        config
    }
}

fn rope_settings(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Linear { factor } => json!({ "factor": factor, "rope_type": "linear" }),
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
    }
}
