//! What can go wrong while writing or reading an exported folder.

use std::path::PathBuf;

use rekindle_models::ModelError;
use rekindle_models::error::Problems;
use rekindle_peft_core::PeftError;
use thiserror::Error;

/// A failure to export, or to read what was exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The target folder holds something already.
    #[error("`{path}` exists and is not empty; name another folder or remove it first", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot write or read `{path}`: {source}; check free space and permissions", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What was read back differs from what was written.
    #[error("`{path}`: tensor `{name}` read back differs from what was written; nothing was kept, check the disk", path = path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A file that is not what its name says.
    #[error("`{path}` is not valid: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model has no adapter to write.
    #[error("the model has no adapter; train with `[method.lora]` or export the merged model")]
    NoAdapter,
    /// Adapter tensors that the model has no place for, or the reverse.
    #[error("`{path}` does not fit this model:{problems}\ncheck that the base model is the one the adapter was trained on, and `adapter_config.json` the adapter's own", path = path.display())]
    Mismatch {
        /// The adapter's file.
        path: PathBuf,
        /// Missing, unexpected and misshapen tensors.
        problems: Problems,
    },
    /// The adapter's configuration cannot be used, or not with this model.
    #[error("`{path}` cannot be used: {source}", path = path.display())]
    Peft {
        /// The configuration's file.
        path: PathBuf,
        /// What is wrong.
        source: PeftError,
    },
    /// The adapter's files are broken.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ExportError {
    /// The process exit code for this failure: 6 for disks, 2 for a target that exists, else 4.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::ReadBack { .. } => 6,
            Self::Exists { .. } => 2,
            Self::Model(error) => error.exit_code(),
            Self::NoAdapter | Self::Invalid { .. } | Self::Mismatch { .. } | Self::Peft { .. } => 4,
        }
    }
}
