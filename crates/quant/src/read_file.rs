//! A file of which parts are read into memory of our own.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A regular file, read part by part.
///
/// Nothing is mapped: a process that cuts the file short while it is read makes an error and no
/// signal, and what has been read does not stay in memory.
#[derive(Debug)]
pub struct ReadFile {
    path: PathBuf,
    file: Mutex<File>,
    len: u64,
}

impl ReadFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be opened, or is a folder, a pipe or a device.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // Asked before opening: opening a pipe would wait for a writer.
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), len })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the file had when it was opened.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The bytes in `range`, which lies within the file as it was opened.
    ///
    /// # Errors
    /// Where they cannot be read, or the file has become shorter.
    pub fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let wanted = range.end - range.start;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(wanted as usize);
        file.seek(SeekFrom::Start(range.start))?;
        (&mut *file).take(wanted).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(Error::other("the file was cut short while it was being read")),
        }
    }
}
