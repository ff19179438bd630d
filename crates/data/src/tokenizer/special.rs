//! The special tokens that a model's configuration names.

use serde_json::Value;

/// Special tokens by their meaning, from `tokenizer_config.json` and `generation_config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begin of text.
    pub bos_token: Option<String>,
    /// End of text or of a turn.
    pub eos_token: Option<String>,
    /// Padding.
    pub pad_token: Option<String>,
    /// Unknown text.
    pub unk_token: Option<String>,
    /// Whether documents start with `bos_token`, where the configuration says so.
    pub add_bos_token: Option<bool>,
    /// Whether documents end with `eos_token`, where the configuration says so.
    pub add_eos_token: Option<bool>,
    /// Every id at which generation stops, where the generation configuration lists them.
    pub stop_ids: Vec<u32>,
}

/// A special token's name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no special token is called `{0}`; wanted bos_token, eos_token, pad_token or unk_token")]
pub struct UnknownSpecialName(pub String);

impl SpecialTokens {
    /// Sets a token by its name: `bos_token`, `eos_token`, `pad_token` or `unk_token`.
    ///
    /// # Errors
    /// [`UnknownSpecialName`] for any other name.
    pub fn set(&mut self, name: &str, token: &str) -> Result<(), UnknownSpecialName> {
        let place = match name {
            "bos_token" => &mut self.bos_token,
            "eos_token" => &mut self.eos_token,
            "pad_token" => &mut self.pad_token,
            "unk_token" => &mut self.unk_token,
            _ => return Err(UnknownSpecialName(name.into())),
        };
        *place = Some(token.into());
        Ok(())
    }

    /// Those of a `tokenizer_config.json`: each a string, or an object with `content`.
    #[must_use]
    pub fn from_tokenizer_config(config: &Value) -> Self {
        let token = |key: &str| {
            let value = config.get(key)?;
            value.as_str().or_else(|| value.get("content")?.as_str()).map(String::from)
        };
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        Self {
            bos_token: token("bos_token"),
            eos_token: token("eos_token"),
            pad_token: token("pad_token"),
            unk_token: token("unk_token"),
            add_bos_token: flag("add_bos_token"),
            add_eos_token: flag("add_eos_token"),
            stop_ids: Vec::new(),
        }
    }

    /// These, with the stop ids of a `generation_config.json`: one id or a list.
    #[must_use]
    pub fn with_generation_config(mut self, config: &Value) -> Self {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        self.stop_ids = match config.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_read_as_strings_and_as_objects() {
        let config = json!({"bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>",
                            "pad_token": null, "add_bos_token": true});
        let tokens = SpecialTokens::from_tokenizer_config(&config)
            .with_generation_config(&json!({"eos_token_id": [2, 5]}));
        assert_eq!(tokens.bos_token.as_deref(), Some("<s>"));
        assert_eq!(tokens.eos_token.as_deref(), Some("</s>"));
        assert_eq!(tokens.pad_token, None);
        assert_eq!(tokens.add_bos_token, Some(true));
        assert_eq!(tokens.stop_ids, [2, 5]);
    }
}
