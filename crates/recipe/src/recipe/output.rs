//! `[eval]` and `[export]`: what is measured and what is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured beside the loss.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// Number of validation prompts that are answered greedily and compared with the row's answer.
    pub generate: usize,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self {
            generate: 0,        // generation is slow, so it is asked for
            max_new_tokens: 64, // enough for the short answers that an exact match can judge
        }
    }
}

/// What is written when training has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSection {
    /// The adapter as a PEFT folder; written for LoRA if not given, impossible for other methods.
    pub adapter: Option<bool>,
    /// The whole model as a Hugging Face folder, the adapter added to its weights.
    pub merged: bool,
}
