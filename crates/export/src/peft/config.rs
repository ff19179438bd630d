//! `adapter_config.json`, its values checked by type.

use std::path::Path;

use rekindle_models::load::hf;
use rekindle_peft_core::{LoraConfig, Targets};
use serde_json::{Value, json};

use crate::ExportError;

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

/// Reads the configuration of a LoRA adapter; absent keys take PEFT's defaults.
pub(super) fn read(path: &Path) -> Result<LoraConfig, ExportError> {
    let json = hf::read_json(path)?;
    let settings = Settings { path, json: &json };
    let kind = &json["peft_type"];
    if kind != "LORA" {
        return Err(settings.wrong("peft_type", "`LORA`, the one method that can be read"));
    }
    for key in UNSUPPORTED {
        let value = &json[key];
        let empty = value.is_null()
            || value == &json!(false)
            || value.as_object().is_some_and(|it| it.is_empty())
            || value.as_array().is_some_and(|it| it.is_empty());
        if !empty {
            return Err(settings.wrong(key, "none: adapters that need it cannot be read yet"));
        }
    }
    let config = LoraConfig {
        r: settings.rank()?,
        lora_alpha: settings.number("lora_alpha", 8.0)?,
        lora_dropout: settings.number("lora_dropout", 0.0)?,
        target_modules: settings.targets()?,
        use_rslora: settings.flag("use_rslora", false)?,
        ..LoraConfig::default()
    };
    let unfit = |source| ExportError::Peft { path: path.to_owned(), source };
    config.validate().map_err(unfit)?;
    Ok(config)
}

/// A configuration with typed getters; `null` is a value of another type, not an absent one.
struct Settings<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Settings<'_> {
    fn wrong(&self, key: &str, wanted: &str) -> ExportError {
        let reason = match self.json.get(key) {
            Some(found) => format!("`{key}` is `{found}`; wanted {wanted}"),
            None => format!("it has no `{key}`; wanted {wanted}"),
        };
        ExportError::Invalid { path: self.path.to_owned(), reason }
    }

    fn rank(&self) -> Result<usize, ExportError> {
        let rank = self.json["r"].as_u64().and_then(|rank| usize::try_from(rank).ok());
        rank.ok_or_else(|| self.wrong("r", "a whole number from 1 up"))
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ExportError> {
        match self.json.get(key) {
            None => Ok(default),
            Some(found) => found.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ExportError> {
        match self.json.get(key) {
            None => Ok(default),
            Some(found) => found.as_bool().ok_or_else(|| self.wrong(key, "`true` or `false`")),
        }
    }

    fn targets(&self) -> Result<Targets, ExportError> {
        let key = "target_modules";
        serde_json::from_value(self.json[key].clone())
            .map_err(|_| self.wrong(key, "a list of names, a regular expression or `all-linear`"))
    }
}
