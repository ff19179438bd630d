//! A file seen as bytes.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

use memmap2::Mmap;

use super::GgufError;

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(super) struct Mapped {
    file: File,
    map: Mmap,
}

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        // Asked before opening: opening a pipe would wait for a writer.
        let metadata = path.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(io(Error::new(ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(io)?;
        #[expect(unsafe_code, reason = "mapping is the only way to read weights without a copy")]
        // SAFETY: the mapping is private and read-only and the file is opened for reading only. Its
        // bytes are read as plain integers, so a change by another process can give wrong numbers
        // but no invalid value. A file that another process cuts short is noticed by `bytes`; what
        // remains is a cut while a tensor is being read, which model files do not see.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { file, map })
    }

    /// The bytes, if the file is as long as when it was opened; reading past the end of a file that
    /// was cut short would kill the process.
    pub(super) fn bytes(&self) -> Result<&[u8], Error> {
        if self.file.metadata()?.len() < self.map.len() as u64 {
            return Err(Error::other("the file was cut short while it was being read"));
        }
        Ok(&self.map)
    }
}
