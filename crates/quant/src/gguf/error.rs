//! What can be wrong with a GGUF file.

use std::path::PathBuf;

use thiserror::Error;

/// A GGUF file that cannot be used.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The file could not be opened or read.
    #[error("cannot read `{path}`: {source}; check the path and its permissions", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("`{path}` begins with {found}, not with `GGUF`; it is no GGUF file, or the download is broken", path = path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The bytes found.
        found: String,
    },
    /// A version that cannot be read.
    #[error("`{path}` has GGUF version {found}; versions 2 and 3, little endian, can be read: convert it with a current llama.cpp", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// A file for machines with the other byte order.
    #[error("`{path}` is a big-endian GGUF file; only little endian can be read: fetch that variant, or convert it with `gguf-convert-endian`", path = path.display())]
    BigEndian {
        /// The file.
        path: PathBuf,
    },
    /// A count, length, offset or type that cannot be.
    #[error("`{path}`: {what}; the file is damaged, fetch it again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was wanted.
        what: String,
    },
    /// A tensor stored in a way that cannot be unpacked.
    #[error("`{path}`: tensor `{tensor}` has type {code} ({known}); supported are {supported}: convert it to one of these", path = path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The code found.
        code: u32,
        /// What ggml knows it as.
        known: &'static str,
        /// The types that can be unpacked.
        supported: String,
    },
    /// A metadata key with a value of another type.
    #[error("`{path}`: metadata key `{key}` is {found}, but must be {wanted}", path = path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value or type found.
        found: String,
        /// The type wanted.
        wanted: &'static str,
    },
}

impl GgufError {
    /// The process exit code for this failure: 6 for the disk, 4 for the file.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => 6,
            _ => 4,
        }
    }
}
