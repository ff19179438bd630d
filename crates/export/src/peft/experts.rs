//! What PEFT makes of adapters on experts.
//!
//! Transformers 5 holds the experts of a block in one tensor, and PEFT 0.21 rewrites an adapter of
//! single experts while it loads it: gate and up become one, with `r` and `lora_alpha` doubled.
//! Some adapters do not survive that.

use std::collections::BTreeSet;

use rekindle_models::Decoder;
use rekindle_peft_core::LoraConfig;

/// What stands in the names of expert projections.
const EXPERT: &str = ".experts.";
/// Gate, up and down. Of the first two PEFT makes one, and takes it only with the third; the third
/// it takes alone.
const TRIPLES: [[&str; 3]; 2] = [["w1", "w3", "w2"], ["gate_proj", "up_proj", "down_proj"]];
/// Names that dense feed-forward layers share with experts.
const DENSE: [&str; 3] = [".mlp.gate_proj", ".mlp.up_proj", ".mlp.down_proj"];

/// Names of projections, those that are adapted or those that are not.
fn names(model: &Decoder, adapted: bool) -> Vec<String> {
    let projections = model.projections().into_iter();
    let chosen = projections.filter(|(_, it)| it.adapter().is_some() == adapted);
    chosen.map(|(name, _)| name).collect()
}

/// `use_rslora` and `lora_alpha` as they are written.
///
/// PEFT computes rsLoRA's scale from the doubled rank, so that the scale of gate and up would be
/// √2 too large. For experts it is written out: plain LoRA of the same scale.
pub(super) fn scale(model: &Decoder, config: &LoraConfig) -> (bool, f64) {
    let of_experts = names(model, true).iter().any(|name| name.contains(EXPERT));
    match config.use_rslora && of_experts {
        true => (false, config.scale() * config.r as f64),
        false => (config.use_rslora, config.lora_alpha),
    }
}

/// What users of the adapter in PEFT have to know; nothing where no expert is adapted.
///
/// A merged model is free of all of it.
pub fn adapter_notes(model: &Decoder, config: &LoraConfig) -> Vec<String> {
    let (adapted, bare) = (names(model, true), names(model, false));
    if !adapted.iter().any(|name| name.contains(EXPERT)) {
        return Vec::new();
    }
    let mut notes = Vec::new();
    let mut note = |text: &str| {
        notes.push(format!("{text}; a merged model has no such limit"));
    };
    if config.lora_dropout > 0.0 {
        note(
            "PEFT 0.21 refuses adapters of experts with dropout: set `lora_dropout` to 0 in \
             adapter_config.json before it loads this one",
        );
    }
    if adapted.iter().any(|name| DENSE.iter().any(|dense| name.ends_with(dense))) {
        note(
            "PEFT 0.21 drops the adapters of dense feed-forward layers beside experts and says \
             nothing: leave those layers out of `target_modules` if it is to load this one",
        );
    }
    if blocks(&adapted).into_iter().any(|block| !is_whole(block, &adapted, &bare)) {
        note(
            "PEFT 0.21 loads adapters of experts only where all experts of a block are adapted, \
             gate and up together and with them down",
        );
    }
    notes
}

/// What stands before [`EXPERT`] in the names, each once.
fn blocks(names: &[String]) -> BTreeSet<&str> {
    names.iter().filter_map(|name| name.split_once(EXPERT)).map(|(block, _)| block).collect()
}

/// Whether PEFT can make one tensor of all that is adapted among the experts of `block`.
fn is_whole(block: &str, adapted: &[String], bare: &[String]) -> bool {
    let has = |names: &[String], part: &str| {
        let of_block = names.iter().filter_map(|name| name.split_once(EXPERT));
        of_block.filter(|(it, _)| *it == block).any(|(_, rest)| rest.ends_with(&format!(".{part}")))
    };
    TRIPLES.iter().all(|parts| {
        let [gate, up, down] = parts.map(|part| has(adapted, part));
        let all = parts.iter().all(|part| !(has(adapted, part) && has(bare, part)));
        all && gate == up && (down || !gate)
    })
}
