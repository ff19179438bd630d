//! A file mapped into memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::ModelError;

/// A read-only view of a whole file.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Option<Mmap>, // An empty file cannot be mapped.
}

impl MappedFile {
    /// Maps the file at `path`.
    #[expect(unsafe_code, reason = "mapping is the only way to read weights without a copy")]
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |error| ModelError::io(path, error);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let map = match metadata.len() {
            0 => None,
            // SAFETY: the map is read-only and private to this value. Nothing in the program
            // writes to model files; `bytes` looks again whether another process has cut the file
            // short, and every reader copies values out before it returns.
            _ => Some(unsafe { Mmap::map(&file) }.map_err(io)?),
        };
        Ok(Self { path: path.to_owned(), map })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`ModelError::Io`] where the file on disk is shorter than when it was opened.
    pub(super) fn bytes(&self) -> Result<&[u8], ModelError> {
        let Some(map) = &self.map else { return Ok(&[]) };
        let metadata = self.path.metadata().map_err(|error| ModelError::io(&self.path, error))?;
        if metadata.len() < map.len() as u64 {
            let changed = std::io::Error::other("the file was cut short while it was being read");
            return Err(ModelError::io(&self.path, changed));
        }
        Ok(map)
    }
}
