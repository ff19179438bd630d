//! A file seen as bytes.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use super::GgufError;

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(super) struct Mapped(Mmap);

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        #[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
        // SAFETY: the mapping is private and read-only and the file is opened for reading only. Its
        // bytes are read as plain integers, so a change by another process can give wrong numbers
        // but no invalid value; model files are not rewritten in place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
