//! Adapters as Hugging Face PEFT folders, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use rekindle_models::Decoder;
use rekindle_peft_core::{Lora, LoraConfig, PeftError, Targets};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

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
/// what loaders show or fetch as the base model's name.
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
    let card = format!(
        "---\nbase_model: {base}\nlibrary_name: peft\n---\n\nA LoRA adapter (r = {}, \
         lora_alpha = {}) made by Rekindle.\n",
        config.r, config.lora_alpha
    );
    folder.write("README.md", card.as_bytes())?;
    folder.finish()
}

fn peft_config(model: &Decoder, config: &LoraConfig, base: &str) -> Value {
    json!({
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": config.lora_alpha,
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
        "use_rslora": config.use_rslora,
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

/// Puts the adapter of a PEFT folder on `model` and returns both it and its configuration.
///
/// Every tensor of the file must have its place and every place its tensor.
///
/// # Errors
/// [`ExportError`] where a file is missing or damaged, the method is not LoRA, a feature is asked
/// for that is not supported, or the adapter does not fit the model.
pub fn read_adapter(folder: &Path, model: Decoder) -> Result<(Decoder, LoraConfig), ExportError> {
    let config = read_config(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    let io = |source| ExportError::Io { path: path.clone(), source };
    let invalid = |reason: String| ExportError::Invalid { path: path.clone(), reason };
    let bytes = fs::read(&path).map_err(io)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let short = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
        let [rows, cols] = *view.shape() else {
            return Err(invalid(format!("`{name}` is not a matrix")));
        };
        let values = floats(view.dtype(), view.data())
            .ok_or_else(|| invalid(format!("`{name}` is {:?}, not a float", view.dtype())))?;
        tensors.insert(short, ([rows, cols], values));
    }
    let device = model.projections().first().map(|(_, it)| it.base().dense().device());
    let Some(device) = device else { return Err(ExportError::NoAdapter) };
    let mut missing = Vec::new();
    let adapted = model.with_adapters(&config, |module, [d_out, d_in]| {
        let mut take = |part: &str, wanted: [usize; 2]| {
            let name = format!("{module}.{part}.weight");
            let Some((shape, values)) = tensors.remove(&name) else {
                missing.push(name);
                return Ok(Tensor::zeros(wanted, &device));
            };
            if shape != wanted {
                let (found, wanted) = (shape.to_vec(), wanted.to_vec());
                return Err(PeftError::Shape { name, found, wanted });
            }
            Ok(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        let a = take("lora_A", [config.r, d_in])?;
        let b = take("lora_B", [d_out, config.r])?;
        Ok(Lora::new(a, b, config.scale(), config.lora_dropout))
    })?;
    if !missing.is_empty() || !tensors.is_empty() {
        missing.truncate(8);
        let unexpected = tensors.into_keys().take(8).collect();
        return Err(ExportError::Mismatch { path, missing, unexpected });
    }
    Ok((adapted, config))
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let (quads, _) = bytes.as_chunks::<4>();
    Some(match dtype {
        Dtype::F32 => quads.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => pairs.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

/// Keys that change what the adapter computes and that this reader does not implement.
const UNSUPPORTED: [&str; 8] = [
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "layers_to_transform",
    "trainable_token_indices",
    "target_parameters",
];

fn read_config(path: &Path) -> Result<LoraConfig, ExportError> {
    let invalid = |reason: String| ExportError::Invalid { path: path.to_owned(), reason };
    let text = fs::read_to_string(path)
        .map_err(|source| ExportError::Io { path: path.to_owned(), source })?;
    let config: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let kind = config["peft_type"].as_str().unwrap_or("missing");
    if kind != "LORA" {
        return Err(invalid(format!("`peft_type` is `{kind}`, but only `LORA` can be read")));
    }
    for key in UNSUPPORTED {
        let value = &config[key];
        let empty = value.is_null()
            || value == &json!(false)
            || value.as_object().is_some_and(|it| it.is_empty())
            || value.as_array().is_some_and(|it| it.is_empty());
        if !empty {
            return Err(invalid(format!("`{key}` is {value}, which cannot be read yet")));
        }
    }
    let targets = serde_json::from_value::<Targets>(config["target_modules"].clone())
        .map_err(|error| invalid(format!("`target_modules`: {error}")))?;
    let r = config["r"].as_u64().ok_or_else(|| invalid("`r` is missing".to_owned()))?;
    let config = LoraConfig {
        r: r as usize,
        lora_alpha: config["lora_alpha"].as_f64().unwrap_or(8.0),
        lora_dropout: config["lora_dropout"].as_f64().unwrap_or(0.0),
        target_modules: targets,
        use_rslora: config["use_rslora"].as_bool().unwrap_or(false),
        ..LoraConfig::default()
    };
    config.validate()?;
    Ok(config)
}
