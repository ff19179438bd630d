//! Typed reading of a JSON config.

use serde_json::Value;

use super::out_of_range;
use crate::error::ModelError;

/// A JSON object with typed getters; `null` counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    object: &'a Value,
    /// Other names for keys, as `(ours, theirs)`.
    aliases: &'static [(&'static str, &'static str)],
}

impl<'a> Keys<'a> {
    pub(super) fn new(object: &'a Value, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Self { object, aliases }
    }

    /// What this config calls `key`.
    pub(super) fn named(&self, key: &'a str) -> &'a str {
        let alias = self.aliases.iter().find(|(ours, _)| *ours == key);
        alias.map_or(key, |(_, theirs)| theirs)
    }

    pub(super) fn get(&self, key: &'a str) -> Option<&'a Value> {
        self.object.get(self.named(key)).filter(|value| !value.is_null())
    }

    /// Whether `key` is there and says `null`.
    pub(super) fn is_null(&self, key: &'a str) -> bool {
        self.object.get(self.named(key)).is_some_and(Value::is_null)
    }

    pub(super) fn whole(&self, key: &'a str) -> Result<Option<usize>, ModelError> {
        self.get(key).map(|found| whole(self.named(key), found)).transpose()
    }

    pub(super) fn required(&self, key: &'a str) -> Result<usize, ModelError> {
        self.whole(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn number(&self, key: &'a str) -> Result<Option<f64>, ModelError> {
        self.get(key).map(|found| number(self.named(key), found)).transpose()
    }

    pub(super) fn required_number(&self, key: &'a str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number that counts as absent where it is zero.
    pub(super) fn nonzero(&self, key: &'a str) -> Result<Option<f64>, ModelError> {
        Ok(self.number(key)?.filter(|&number| number != 0.0))
    }

    pub(super) fn numbers(&self, key: &'a str) -> Result<Vec<f64>, ModelError> {
        let found = self.get(key).ok_or_else(|| self.missing(key))?;
        let list = found.as_array().ok_or_else(|| out_of_range(key, found, "a list of numbers"))?;
        list.iter().map(|found| number(key, found)).collect()
    }

    pub(super) fn flag(&self, key: &'a str) -> Result<Option<bool>, ModelError> {
        let Some(found) = self.get(key) else { return Ok(None) };
        let flag = found.as_bool().ok_or_else(|| out_of_range(key, found, "`true` or `false`"))?;
        Ok(Some(flag))
    }

    /// A list with one entry a block.
    pub(super) fn list(&self, key: &'a str) -> Result<Option<&'a [Value]>, ModelError> {
        let Some(found) = self.get(key) else { return Ok(None) };
        let list = found.as_array().ok_or_else(|| out_of_range(key, found, "a list"))?;
        Ok(Some(list))
    }

    /// The object under `key`.
    pub(super) fn inner(&self, key: &'a str) -> Result<Option<Self>, ModelError> {
        let Some(found) = self.get(key) else { return Ok(None) };
        if !found.is_object() {
            return Err(out_of_range(key, found, "an object"));
        }
        Ok(Some(Self::new(found, &[])))
    }

    /// One token or a list of them; −1 means none.
    pub(super) fn tokens(&self, key: &'a str) -> Result<Vec<u32>, ModelError> {
        let listed = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(several)) => several.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let wanted = listed.iter().filter(|found| found.as_i64() != Some(-1));
        wanted
            .map(|found| {
                let id = found.as_u64().and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| out_of_range(key, found, "a token id"))
            })
            .collect()
    }

    pub(super) fn missing(&self, key: &'a str) -> ModelError {
        ModelError::MissingKey { key: self.named(key).to_owned() }
    }
}

pub(super) fn whole(key: &str, found: &Value) -> Result<usize, ModelError> {
    let whole = found.as_u64().and_then(|whole| usize::try_from(whole).ok());
    whole.ok_or_else(|| out_of_range(key, found, "a whole number from 1 up"))
}

fn number(key: &str, found: &Value) -> Result<f64, ModelError> {
    found.as_f64().ok_or_else(|| out_of_range(key, found, "a number"))
}

pub(super) fn unsupported(key: &str, found: &Value, wanted: &str) -> ModelError {
    ModelError::Unsupported {
        key: key.to_owned(),
        found: found.as_str().map_or_else(|| found.to_string(), str::to_owned),
        wanted: wanted.to_owned(),
    }
}
