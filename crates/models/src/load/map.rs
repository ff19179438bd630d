//! A file mapped into memory.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::ModelError;

/// A read-only view of a whole file.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file at `path`.
    #[expect(unsafe_code, reason = "mapping is the only way to read weights without a copy")]
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |error| ModelError::io(path, error);
        // Asked before opening: opening a pipe would wait for a writer.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(io(Error::new(ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this value. Nothing in the program writes to
        // model files; `bytes` looks again whether another process has cut the file short, and
        // every reader copies values out before it returns. What remains is a cut while a tensor is
        // being read, which model files do not see.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.to_owned(), file, map })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`ModelError::Io`] where the file is shorter than when it was opened.
    pub(super) fn bytes(&self) -> Result<&[u8], ModelError> {
        let io = |error| ModelError::io(&self.path, error);
        if self.file.metadata().map_err(io)?.len() < self.map.len() as u64 {
            return Err(io(Error::other("the file was cut short while it was being read")));
        }
        Ok(&self.map)
    }
}
