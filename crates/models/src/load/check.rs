//! Whether a model's tensors are those of its architecture.

use std::collections::{HashMap, HashSet};

use super::WeightSource;
use crate::error::{ModelError, Problems};

/// Checks that `source` has every tensor of `expected`, of that shape, and no other.
///
/// Rotary frequencies and causal masks that old checkpoints carry are passed over, and so is a copy
/// of the embeddings under `lm_head.weight` where the head is tied.
///
/// # Errors
/// [`ModelError::WrongTensors`] with all that is missing, unexpected or misshapen.
pub fn strict_check(
    expected: &[(String, Vec<usize>)],
    source: &dyn WeightSource,
    tied_head: bool,
) -> Result<(), ModelError> {
    let names = source.names();
    let there: HashSet<&str> = names.iter().map(String::as_str).collect();
    let wanted: HashMap<&str, &[usize]> =
        expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let missing = expected
        .iter()
        .filter(|(name, _)| !there.contains(name.as_str()))
        .map(|(name, shape)| format!("missing: `{name}` {shape:?}"));
    let ignored = |name: &str| {
        // Frequencies of old checkpoints, GPT-2's causal masks, a tied head written out.
        name.ends_with("rotary_emb.inv_freq")
            || name.ends_with(".attn.masked_bias")
            || name.ends_with(".attn.bias")
            || (tied_head && name == "lm_head.weight")
    };
    let unexpected = names
        .iter()
        .filter(|name| !wanted.contains_key(name.as_str()) && !ignored(name))
        .map(|name| format!("unexpected: `{name}`"));
    let misshapen = expected.iter().filter_map(|(name, shape)| {
        let found = source.shape(name).filter(|found| found != shape)?;
        Some(format!("wrong shape: `{name}` is {found:?}, wanted {shape:?}"))
    });
    let problems: Vec<String> = missing.chain(unexpected).chain(misshapen).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(ModelError::WrongTensors { problems: Problems(problems) })
}
