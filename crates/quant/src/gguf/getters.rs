//! Metadata by type: absent is `None`, another type is an error.

use super::{GgufError, GgufFile, Value};

impl GgufFile {
    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata(key) else { return Ok(None) };
        let wrong = || GgufError::WrongType {
            path: self.path().to_owned(),
            key: key.to_owned(),
            found: value.kind(),
            wanted,
        };
        read(value).map(Some).ok_or_else(wrong)
    }

    /// An integer of any type that fits 32 bits unsigned.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], as for every getter.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.get(key, "an unsigned 32-bit integer", |value| match value {
            Value::Unsigned(number) => u32::try_from(*number).ok(),
            Value::Signed(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A float.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get(key, "a float", |value| match value {
            Value::Float(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// Text.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get(key, "a bool", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.get(key, "an array of strings", |value| match value {
            Value::Strings(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that fit 32 bits.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.get(key, "an array of 32-bit integers", |value| match value {
            Value::Ints(items) => items.iter().map(|&item| i32::try_from(item).ok()).collect(),
            _ => None,
        })
    }

    /// An array of floats.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.get(key, "an array of floats", |value| match value {
            Value::Floats(items) => Some(items.as_slice()),
            _ => None,
        })
    }
}
