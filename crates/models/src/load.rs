//! Models on disk: where their weights are and whether they are whole.

pub(crate) mod bare;
mod check;
mod gguf_names;
mod index;
mod safetensors_file;
mod suspect;
mod vocab_check;

pub mod gguf;
pub mod hf;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

pub use check::strict_check;
pub use gguf::{GgufModel, GgufVocab};
pub use hf::HfFolder;

use burn::tensor::TensorData;

use crate::arch::Arch;
use crate::error::ModelError;

/// Weights under Hugging Face's parameter names, whatever the file calls them.
pub trait WeightSource {
    /// Names of all tensors, sorted.
    fn names(&self) -> Vec<String>;

    /// Shape of a tensor, slowest dimension first.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// A tensor's values in row-major order.
    ///
    /// # Errors
    /// [`ModelError`] where the tensor is absent, in an unreadable number format, or its file has
    /// changed.
    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError>;

    /// A tensor's values in the number format of its file, where that is one to compute in, and in
    /// f32 otherwise.
    ///
    /// # Errors
    /// As [`WeightSource::read_f32`].
    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        let shape = self.shape(name).unwrap_or_default();
        Ok(TensorData::new(self.read_f32(name)?, shape))
    }

    /// Where the weights come from, for messages: the kind of files and their place.
    fn describe(&self) -> String;
}

/// A model on disk.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
#[derive(Debug)]
pub enum ModelFiles {
    /// A Hugging Face folder.
    Hf(HfFolder),
    /// A GGUF file.
    Gguf(GgufModel),
}

impl ModelFiles {
    /// The architecture's numbers.
    ///
    /// # Errors
    /// As [`Arch::from_hf`] and [`Arch::from_gguf`].
    pub fn arch(&self) -> Result<Arch, ModelError> {
        match self {
            Self::Hf(folder) => Arch::from_hf(folder.config()),
            Self::Gguf(model) => Ok(model.arch().clone()),
        }
    }

    /// The weights.
    pub fn source(&self) -> &dyn WeightSource {
        match self {
            Self::Hf(folder) => folder,
            Self::Gguf(model) => model,
        }
    }

    /// What the files ask for that is not done, one sentence each, to be shown once.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Hf(folder) => folder.notes(),
            Self::Gguf(_) => Vec::new(),
        }
    }
}

/// Opens a Hugging Face folder or a GGUF file; reads headers, not weights.
///
/// # Errors
/// [`ModelError`] where nothing is there, or what is there is broken.
pub fn open(path: &Path) -> Result<ModelFiles, ModelError> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ModelError::NotFound { path: path.to_owned() });
        }
        Err(error) => return Err(ModelError::io(path, error)),
    };
    if metadata.is_dir() {
        return HfFolder::open(path).map(ModelFiles::Hf);
    }
    if !metadata.is_file() {
        return Err(ModelError::NotAModel { path: path.to_owned() });
    }
    let named_gguf = path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf"));
    let start = first_bytes(path)?;
    suspect::refuse(path, &start)?;
    if named_gguf || start.starts_with(b"GGUF") {
        return GgufModel::open(path).map(ModelFiles::Gguf);
    }
    Err(ModelError::NotAModel { path: path.to_owned() })
}

/// Up to 512 bytes from the file's start.
fn first_bytes(path: &Path) -> Result<Vec<u8>, ModelError> {
    let read = |path| {
        let mut start = Vec::new();
        std::fs::File::open(path)?.take(512).read_to_end(&mut start)?;
        Ok(start)
    };
    read(path).map_err(|error| ModelError::io(path, error))
}
