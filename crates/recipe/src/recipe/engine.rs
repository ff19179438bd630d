//! Values of `[train]` that say how the engine computes, what it keeps and when it gives up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of products and frozen weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits for all.
    #[default]
    F32,
    /// bfloat16: 16 bits with the range of f32. Wants a device that computes in it.
    Bf16,
    /// 16 bits with a small range: losses are scaled so that gradients survive it.
    F16,
}

/// Blocks that are run again in the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "wanted `\"none\"`, `\"all\"` or a whole number of 1 or more")]
pub enum Recompute {
    /// None or all of them.
    Named(RecomputeBlocks),
    /// One in so many, the first one among them; at least 1.
    Every(usize),
}

/// None or all blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecomputeBlocks {
    /// Everything that the backward pass reads is kept.
    None,
    /// Only the inputs of blocks are kept.
    All,
}

impl Recompute {
    /// Every how many blocks one is recomputed; 0 for none.
    pub fn every(self) -> usize {
        match self {
            Self::Named(RecomputeBlocks::None) => 0,
            Self::Named(RecomputeBlocks::All) => 1,
            Self::Every(every) => every,
        }
    }
}

/// What evaluations are compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// The loss on the validation rows; lower is better.
    #[default]
    Loss,
    /// The share of greedy answers that are exactly as wanted; higher is better.
    ExactMatch,
}

/// What follows losses that stay too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSpike {
    /// The run ends with exit code 7.
    #[default]
    Stop,
    /// Weights and optimizer go back to the last checkpoint; training goes on with the next rows.
    Rollback,
}

/// What follows a checkpoint that the file system refuses to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSaveError {
    /// The run ends with an error.
    #[default]
    Stop,
    /// The run waits and tries again.
    Pause,
}

#[cfg(test)]
mod tests {
    use crate::Recipe;

    #[test]
    fn recomputation_is_a_word_or_a_number_and_nothing_else() {
        let parse = |value: &str| {
            let text = format!("model = \"m\"\n[train]\nrecompute = {value}\n");
            Recipe::parse(&text, "r.toml").map(|recipe| recipe.train.recompute.every())
        };
        for (value, every) in [("\"none\"", 0), ("\"all\"", 1), ("3", 3)] {
            assert_eq!(parse(value).unwrap(), every);
        }
        for value in ["\"some\"", "-1", "true"] {
            let error = parse(value).unwrap_err().to_string();
            assert!(error.contains("wanted `\"none\"`, `\"all\"`"), "{error}");
        }
    }
}
