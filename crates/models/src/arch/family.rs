//! The families of models: how the blocks of each are wired.

use rekindle_kernels::Activation;
use serde::Serialize;

/// How the blocks of a model are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// RMSNorm before attention and before a SwiGLU layer, rotary positions, grouped queries.
    /// Touvron et al. 2023 (arXiv:2302.13971).
    Llama,
    /// As Llama, with a sliding window. Jiang et al. 2023 (arXiv:2310.06825).
    Mistral,
    /// As Mistral, with experts. Jiang et al. 2024 (arXiv:2401.04088).
    Mixtral,
    /// As Llama, with biases at queries, keys and values.
    /// Yang et al. 2024 (arXiv:2407.10671), §2.2.
    Qwen2,
    /// As Llama, with RMSNorm over each head of queries and keys before they are rotated.
    /// Yang et al. 2025 (arXiv:2505.09388), §2.
    Qwen3,
    /// As Qwen3, with experts.
    Qwen3Moe,
    /// RMSNorm of `1 + gain` before and after attention and feed-forward layer, GeGLU, capped
    /// scores and logits, windows in every other block.
    /// Riviere et al. 2024 (arXiv:2408.00118), §2.
    Gemma2,
    /// As Gemma 2, with norms of queries and keys for the caps, and a full block after five with
    /// windows, which rotate by another base. Kamath et al. 2025 (arXiv:2503.19786), §2.
    Gemma3,
    /// As Llama, with one projection to queries, keys and values, one to gate and gated, and heads
    /// of which a part is rotated. Abdin et al. 2024 (arXiv:2404.14219), §2.
    Phi3,
    /// LayerNorm, learned positions, GELU without a gate, biases everywhere.
    /// Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.3.
    Gpt2,
    /// RMSNorm after attention and after the feed-forward layer, and over all of queries and keys.
    /// Walsh et al. 2024 (arXiv:2501.00656), §3.
    Olmo2,
    /// As Llama, with embeddings, residuals, scores and logits scaled by given numbers.
    /// Granite Team 2024, "Granite 3.0 Language Models", §3.
    Granite,
    /// As Llama, with every fourth block free of rotation. Bakouch et al. 2025, "SmolLM3".
    #[serde(rename = "smollm3")]
    SmolLm3,
}

/// What a norm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm with the gain as stored.
    Rms,
    /// RMSNorm with one more than the gain that is stored.
    RmsPlusOne,
    /// LayerNorm with a bias.
    Layer,
}

/// Where a block normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// What goes into attention and feed-forward layer.
    Before,
    /// What comes out of them.
    After,
    /// Both.
    Around,
}

/// What of queries and keys is normalised together before it is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Nothing.
    None,
    /// Each head.
    Heads,
    /// All heads together.
    Whole,
}

/// What all models of a family have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The kind of all norms.
    pub norm: NormKind,
    /// Where a block normalises.
    pub place: NormPlace,
    /// How queries and keys are normalised.
    pub qk_norm: QkNorm,
    /// What bends the feed-forward layer.
    pub activation: Activation,
    /// Whether the feed-forward layer is gated.
    pub gated: bool,
    /// Whether queries, keys and values come from one projection, and gate and gated from one.
    pub fused: bool,
    /// Whether files hold the weights of projections as `[d_in, d_out]`.
    pub transposed: bool,
}

const LLAMA: Wiring = Wiring {
    norm: NormKind::Rms,
    place: NormPlace::Before,
    qk_norm: QkNorm::None,
    activation: Activation::Silu,
    gated: true,
    fused: false,
    transposed: false,
};

const GEMMA: Wiring = Wiring {
    norm: NormKind::RmsPlusOne,
    place: NormPlace::Around,
    activation: Activation::GeluTanh,
    ..LLAMA
};

const GPT2: Wiring = Wiring {
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    fused: true,
    transposed: true,
    ..LLAMA
};

/// `model_type` and the class of each family, as transformers calls them.
const NAMES: [(Family, &str, &str); 13] = [
    (Family::Llama, "llama", "LlamaForCausalLM"),
    (Family::Mistral, "mistral", "MistralForCausalLM"),
    (Family::Mixtral, "mixtral", "MixtralForCausalLM"),
    (Family::Qwen2, "qwen2", "Qwen2ForCausalLM"),
    (Family::Qwen3, "qwen3", "Qwen3ForCausalLM"),
    (Family::Qwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"),
    (Family::Gemma2, "gemma2", "Gemma2ForCausalLM"),
    (Family::Gemma3, "gemma3_text", "Gemma3ForCausalLM"),
    (Family::Phi3, "phi3", "Phi3ForCausalLM"),
    (Family::Gpt2, "gpt2", "GPT2LMHeadModel"),
    (Family::Olmo2, "olmo2", "Olmo2ForCausalLM"),
    (Family::Granite, "granite", "GraniteForCausalLM"),
    (Family::SmolLm3, "smollm3", "SmolLM3ForCausalLM"),
];

/// GPT-2's names for keys that all families have.
const GPT2_KEYS: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("intermediate_size", "n_inner"),
    ("max_position_embeddings", "n_positions"),
    ("rms_norm_eps", "layer_norm_epsilon"),
    ("hidden_act", "activation_function"),
];
const GEMMA_KEYS: &[(&str, &str)] = &[("hidden_act", "hidden_activation")];
const MIXTRAL_KEYS: &[(&str, &str)] =
    &[("num_experts", "num_local_experts"), ("moe_intermediate_size", "intermediate_size")];

/// What llama.cpp calls the families that are read from GGUF.
const GGUF: [(Family, &str); 6] = [
    (Family::Llama, "llama"),
    (Family::Qwen2, "qwen2"),
    (Family::Qwen3, "qwen3"),
    (Family::Gemma2, "gemma2"),
    (Family::Gemma3, "gemma3"),
    (Family::Phi3, "phi3"),
];

impl Family {
    /// Hugging Face's `model_type`.
    pub fn model_type(self) -> &'static str {
        self.names().1
    }

    /// The family that transformers calls `name`.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known, _)| *known == name).map(|(family, ..)| *family)
    }

    /// The family that llama.cpp calls `name`.
    pub(crate) fn of_gguf(name: &str) -> Option<(Self, &'static str)> {
        GGUF.into_iter().find(|(_, known)| *known == name)
    }

    /// The model types that are read from folders, for messages.
    pub fn supported() -> String {
        listed(NAMES.iter().map(|(_, name, _)| *name))
    }

    /// The architectures that are read from GGUF, for messages.
    pub fn supported_gguf() -> String {
        listed(GGUF.iter().map(|(_, name)| *name))
    }

    /// How the blocks are wired.
    pub fn wiring(self) -> Wiring {
        match self {
            Self::Llama | Self::Mistral | Self::Mixtral | Self::Qwen2 | Self::Granite => LLAMA,
            Self::SmolLm3 => LLAMA,
            Self::Qwen3 | Self::Qwen3Moe => Wiring { qk_norm: QkNorm::Heads, ..LLAMA },
            Self::Gemma2 => GEMMA,
            Self::Gemma3 => Wiring { qk_norm: QkNorm::Heads, ..GEMMA },
            Self::Phi3 => Wiring { fused: true, ..LLAMA },
            Self::Gpt2 => GPT2,
            Self::Olmo2 => Wiring { place: NormPlace::After, qk_norm: QkNorm::Whole, ..LLAMA },
        }
    }

    /// Other names for the keys of its config, as `(ours, theirs)`.
    pub(super) fn aliases(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gpt2 => GPT2_KEYS,
            Self::Gemma2 | Self::Gemma3 => GEMMA_KEYS,
            Self::Mixtral => MIXTRAL_KEYS,
            _ => &[],
        }
    }

    /// What its config calls the activation.
    pub(super) fn activation_name(self) -> &'static str {
        match self.wiring().activation {
            Activation::Silu => "silu",
            Activation::GeluTanh if self == Self::Gpt2 => "gelu_new",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        }
    }

    /// Transformers' class for it.
    pub(super) fn class(self) -> &'static str {
        self.names().2
    }

    /// Transformers' class for it under a head of its own.
    pub(crate) fn classifier_class(self) -> String {
        let class = self.class();
        let stem = class.strip_suffix("ForCausalLM").or(class.strip_suffix("LMHeadModel"));
        let stem = match self {
            // The class of text alone.
            Self::Gemma3 => "Gemma3Text",
            _ => stem.unwrap_or(class),
        };
        format!("{stem}ForSequenceClassification")
    }

    fn names(self) -> (Self, &'static str, &'static str) {
        NAMES[NAMES.iter().position(|(family, ..)| *family == self).unwrap_or(0)]
    }
}

/// "`a`, `b` or `c`".
fn listed(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
