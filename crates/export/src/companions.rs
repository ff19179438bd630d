//! What stands beside the weights: tokenizer, template, generation settings.

use serde_json::{Value, json};

use crate::ExportError;
use crate::folder::Pending;

/// The files that make a folder of weights usable by itself.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    /// `tokenizer.json`, whole.
    pub tokenizer: Option<String>,
    /// `tokenizer_config.json`; the template is kept out of it.
    pub tokenizer_config: Option<Value>,
    /// The chat template's source.
    pub chat_template: Option<String>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The padding token.
    pub pad: Option<u32>,
}

impl Companions {
    /// Writes the files that are known.
    pub(crate) fn write(&self, folder: &Pending) -> Result<(), ExportError> {
        if let Some(tokenizer) = &self.tokenizer {
            folder.write("tokenizer.json", tokenizer.as_bytes())?;
        }
        if let Some(config) = &self.tokenizer_config {
            folder.write("tokenizer_config.json", pretty(config).as_bytes())?;
        }
        if let Some(template) = &self.chat_template {
            folder.write("chat_template.jinja", template.as_bytes())?;
        }
        Ok(())
    }

    /// `generation_config.json`: greedy by default, ending where the template ends a turn.
    pub(crate) fn generation_config(&self) -> Value {
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        json!({ "bos_token_id": self.bos, "eos_token_id": eos, "pad_token_id": self.pad })
    }
}

/// JSON with two spaces of indent, as Python writes it.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}
