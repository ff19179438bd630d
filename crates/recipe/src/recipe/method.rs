//! `[method.*]`: which weights are trained.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// Which weights are trained.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A low-rank adapter beside frozen weights.
    Lora(LoraMethod),
    /// Every weight of the model.
    Full(FullMethod),
}

impl Method {
    /// The method's name as it stands in the recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lora(_) => "lora",
            Self::Full(_) => "full",
        }
    }
}

/// Low-rank adaptation: y = W x + s · B A x. Hu et al. 2021 (arXiv:2106.09685), eq. 3.
///
/// Keys and defaults are those of PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraMethod {
    /// Rank of the adapter matrices.
    pub r: usize,
    /// Numerator of the scale: s = lora_alpha / r.
    pub lora_alpha: f64,
    /// Probability with which an input of the adapter is zeroed while training.
    pub lora_dropout: f64,
    /// The linear layers that get an adapter: "all-linear", a regular expression that matches the
    /// whole layer name, or a list of name endings.
    pub target_modules: TargetModules,
    /// Scale by lora_alpha / √r instead. Kalajdzievski 2023 (arXiv:2312.03732).
    pub use_rslora: bool,
    /// Distribution of the first A; the first B is zero.
    pub init_lora_weights: LoraInit,
}

impl Default for LoraMethod {
    // All numbers: PEFT LoraConfig.
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear, // QLoRA; PEFT chooses by architecture
            use_rslora: false,
            init_lora_weights: LoraInit::Kaiming,
        }
    }
}

/// Distribution of the first A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoraInit {
    /// Uniform in ±√(1 / d_in), as PEFT's `init_lora_weights=True`.
    #[default]
    Kaiming,
    /// Normal with deviation 1 / r, as PEFT's `"gaussian"`.
    Gaussian,
}

/// Full fine-tuning: every weight is trained but those that are frozen here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FullMethod {
    /// Whether the embeddings of tokens and positions are left as they are, and with them a head
    /// that is tied to them.
    pub freeze_embeddings: bool,
    /// Number of blocks, from the first on, that are left as they are.
    pub freeze_layers: usize,
}

/// The linear layers that get an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear layer but the output head.
    #[default]
    AllLinear,
    /// Layers whose whole name matches the regular expression.
    Regex(String),
    /// Layers whose name ends in one of these, at a dot.
    Suffixes(Vec<String>),
}

const ALL_LINEAR: &str = "all-linear";

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AllLinear => serializer.serialize_str(ALL_LINEAR),
            Self::Regex(pattern) => serializer.serialize_str(pattern),
            Self::Suffixes(suffixes) => suffixes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TargetModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetModulesVisitor)
    }
}

struct TargetModulesVisitor;

impl<'de> Visitor<'de> for TargetModulesVisitor {
    type Value = TargetModules;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"all-linear\", a regular expression or a list of name endings")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(match text {
            ALL_LINEAR => TargetModules::AllLinear,
            pattern => TargetModules::Regex(pattern.to_owned()),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut suffixes = Vec::new();
        while let Some(suffix) = items.next_element()? {
            suffixes.push(suffix);
        }
        Ok(TargetModules::Suffixes(suffixes))
    }
}

impl JsonSchema for TargetModules {
    fn schema_name() -> Cow<'static, str> {
        "TargetModules".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "examples": [ALL_LINEAR, ".*\\.self_attn\\.[qv]_proj"] },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 }
            ]
        })
    }
}
