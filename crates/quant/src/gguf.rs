//! GGUF files, versions 2 and 3, little endian.
//!
//! Weights are read as they are asked for. Every count, length and offset is checked against the
//! bytes that exist before anything is allocated for it.

mod blocks;
mod error;
mod getters;
mod header;
mod reader;
mod value;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

pub use blocks::GgmlType;
pub use error::GgufError;
pub use value::{Array, Value};

use crate::ReadFile;

/// A tensor of the file: where it lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// Its dimensions, slowest first: NumPy's order, the reverse of ggml's.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: GgmlType,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    file: ReadFile,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl GgufFile {
    /// Opens and checks a file; reads no weights.
    ///
    /// # Errors
    /// [`GgufError`] where the file cannot be opened or is not a whole, consistent GGUF file.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = ReadFile::open(path);
        let file = file.map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        let header = header::read(&file)?;
        let by_name =
            header.tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Ok(Self { file, metadata: header.metadata, tensors: header.tensors, by_name })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The value of a metadata key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// The numbers of a tensor of this file in f32, bit for bit as `gguf.quants.dequantize`.
    ///
    /// # Errors
    /// [`GgufError::Damaged`] if the tensor is not of this file, [`GgufError::Io`] if the file was
    /// cut short since it was opened.
    pub fn dequantize(&self, tensor: &TensorInfo) -> Result<Vec<f32>, GgufError> {
        let path = || self.path().to_owned();
        if self.tensor(&tensor.name) != Some(tensor) {
            let what = format!("tensor `{}` is not of this file", tensor.name);
            return Err(GgufError::Damaged { path: path(), what });
        }
        let bytes = self.file.bytes(tensor.range.start as u64..tensor.range.end as u64);
        let bytes = bytes.map_err(|source| GgufError::Io { path: path(), source })?;
        Ok(blocks::dequantize(tensor.kind, &bytes))
    }
}
