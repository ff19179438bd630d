//! Which blocks have windows, rotation and experts.

use serde_json::Value;

use super::super::keys::{Keys, unsupported, whole};
use super::super::{Arch, out_of_range};
use crate::error::ModelError;

/// The same window in every block, where the config has one.
pub(super) fn window_everywhere(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    let window = keys.whole("sliding_window")?;
    arch.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(())
}

/// Windows in the blocks from `max_window_layers` on, where they are switched on.
pub(super) fn window_from(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    if !keys.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(());
    }
    let first = keys.whole("max_window_layers")?.unwrap_or(28);
    windows(arch, keys, |index| index >= first)
}

/// Windows in all blocks but every `period`-th.
pub(super) fn window_but_every(
    arch: &mut Arch,
    keys: Keys<'_>,
    period: usize,
) -> Result<(), ModelError> {
    if period == 0 {
        return Err(out_of_range("sliding_window_pattern", 0, "a whole number from 1 up"));
    }
    windows(arch, keys, |index| !(index + 1).is_multiple_of(period))
}

/// SmolLM3: `no_rope_layers` has a 0 for each block without rotation, which may have a window.
pub(super) fn smollm3(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    let n_layers = arch.n_layers();
    match keys.list("no_rope_layers")? {
        Some(list) => {
            one_a_block("no_rope_layers", list, n_layers)?;
            for (layer, found) in arch.layers.iter_mut().zip(list) {
                layer.rotated = whole("no_rope_layers", found)? != 0;
            }
        }
        None => {
            let interval = keys.whole("no_rope_layer_interval")?.unwrap_or(4).max(1);
            for (index, layer) in arch.layers.iter_mut().enumerate() {
                layer.rotated = !(index + 1).is_multiple_of(interval);
            }
        }
    }
    if !keys.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(());
    }
    let rotated: Vec<bool> = arch.layers.iter().map(|layer| layer.rotated).collect();
    windows(arch, keys, |index| !rotated[index])
}

/// Qwen3-MoE: experts in every `decoder_sparse_step`-th block that `mlp_only_layers` does not name.
pub(super) fn experts(arch: &mut Arch, keys: Keys<'_>) -> Result<(), ModelError> {
    let step = keys.whole("decoder_sparse_step")?.unwrap_or(1);
    if step == 0 {
        return Err(out_of_range("decoder_sparse_step", 0, "a whole number from 1 up"));
    }
    let dense = keys.list("mlp_only_layers")?.unwrap_or(&[]);
    let dense = dense.iter().map(|found| whole("mlp_only_layers", found));
    let dense = dense.collect::<Result<Vec<usize>, _>>()?;
    for (index, layer) in arch.layers.iter_mut().enumerate() {
        layer.experts = (index + 1).is_multiple_of(step) && !dense.contains(&index);
    }
    Ok(())
}

/// Windows where `layer_types` says so, or where `by_default` does and there is no such list.
fn windows(
    arch: &mut Arch,
    keys: Keys<'_>,
    by_default: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let Some(window) = keys.whole("sliding_window")? else { return Ok(()) };
    let listed = keys.list("layer_types")?;
    if let Some(list) = listed {
        one_a_block("layer_types", list, arch.n_layers())?;
    }
    for (index, layer) in arch.layers.iter_mut().enumerate() {
        let slides = match listed.map(|list| &list[index]) {
            None => by_default(index),
            Some(found) => match found.as_str() {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                _ => {
                    let wanted = "`sliding_attention` or `full_attention`";
                    return Err(unsupported("layer_types", found, wanted));
                }
            },
        };
        layer.window = slides.then_some(window);
    }
    Ok(())
}

fn one_a_block(key: &str, list: &[Value], n_layers: usize) -> Result<(), ModelError> {
    if list.len() == n_layers {
        return Ok(());
    }
    let wanted = format!("{n_layers}, one a block");
    Err(out_of_range(key, format!("{} entries", list.len()), wanted))
}
