//! Adapters as Hugging Face PEFT folders, both ways.

mod config;
mod experts;
mod read;

use std::collections::BTreeSet;
use std::path::Path;

use rekindle_models::Decoder;
use rekindle_peft_core::LoraConfig;
use serde_json::{Value, json};

pub use experts::adapter_notes;
pub use read::read_adapter;

use crate::ExportError;
use crate::companions::pretty;
use crate::folder::Pending;
use crate::weights::{self, HostTensor, MergedDtype};

/// Before every module's name in a PEFT file.
const PREFIX: &str = "base_model.model.";
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// Writes the adapters of `model` to `target`, which must be absent or empty.
///
/// Files: `adapter_config.json`, `adapter_model.safetensors` (f32) and a `README.md`. `base` is
/// what loaders show or fetch as the base model's name. [`adapter_notes`] says what PEFT does not
/// make of it.
///
/// # Errors
/// [`ExportError`]; nothing is left under `target` then.
pub fn write_adapter(
    target: &Path,
    model: &Decoder,
    config: &LoraConfig,
    base: &str,
) -> Result<(), ExportError> {
    let tensors: Vec<HostTensor> = model
        .adapter_tensors()
        .into_iter()
        .map(|(name, tensor)| HostTensor::new(format!("{PREFIX}{name}"), tensor, MergedDtype::F32))
        .collect();
    if tensors.is_empty() {
        return Err(ExportError::NoAdapter);
    }
    let folder = Pending::new(target)?;
    weights::write(&folder.path(WEIGHTS), &tensors)?;
    // PEFT writes this file without a line end.
    folder.write(CONFIG, pretty(&peft_config(model, config, base)).as_bytes())?;
    let (_, lora_alpha) = experts::scale(model, config);
    let card = format!(
        "---\nbase_model: {base}\nlibrary_name: peft\n---\n\nA LoRA adapter (r = {}, \
         lora_alpha = {}) made by Rekindle.\n",
        config.r, lora_alpha
    );
    folder.write("README.md", card.as_bytes())?;
    folder.finish()
}

fn peft_config(model: &Decoder, config: &LoraConfig, base: &str) -> Value {
    let (use_rslora, lora_alpha) = experts::scale(model, config);
    json!({
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": model.arch().family.wiring().transposed,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": lora_alpha,
        "lora_bias": false,
        "lora_dropout": config.lora_dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": target_modules(model),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": use_rslora,
    })
}

/// The shortest list that means exactly the adapted modules: last name parts, or whole names.
fn target_modules(model: &Decoder) -> Vec<String> {
    let projections = model.projections();
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let adapted = |has: bool| {
        let chosen = projections.iter().filter(move |(_, it)| it.adapter().is_some() == has);
        chosen.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let parts: BTreeSet<String> = adapted(true).iter().map(|name| last(name)).collect();
    if adapted(false).iter().any(|name| parts.contains(&last(name))) {
        return adapted(true);
    }
    parts.into_iter().collect()
}
