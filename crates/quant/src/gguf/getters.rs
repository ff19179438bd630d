//! Metadata by type: absent is `None`, another type is an error.

use super::value::{Array, Value};
use super::{GgufError, GgufFile};

impl GgufFile {
    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata(key) else {
            return Ok(None);
        };
        let wrong = || GgufError::WrongType {
            path: self.path().to_owned(),
            key: key.to_owned(),
            found: value.describe(),
            wanted,
        };
        read(value).map(Some).ok_or_else(wrong)
    }

    /// An integer of any type that fits 32 bits unsigned.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], as for every getter.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.get(key, "an unsigned 32-bit integer", |value| {
            value.integer().and_then(|integer| u32::try_from(integer).ok())
        })
    }

    /// A float; one of 64 bits is rounded.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get(key, "a float", |value| match *value {
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
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
            Value::Array(Array::String(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that fit 32 bits.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.get(key, "an array of 32-bit integers", |value| match value {
            Value::Array(items) => items.i32s(),
            _ => None,
        })
    }

    /// An array of 32-bit floats.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.get(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }
}
