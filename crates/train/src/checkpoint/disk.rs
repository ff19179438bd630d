//! What checkpoints ask of a file system, so that it can be told to refuse.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::CheckpointError;

/// The operations of a file system that a save consists of.
///
/// Whatever one of them refuses, and however often, no checkpoint saved before is lost: a save
/// that fails leaves them as they were.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a file that must not exist; a link in its place is not followed.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a folder that must not exist; a link in its place is not followed.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Moves a file or a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it; links in it are removed, not followed.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// The names of the folders in a folder; links to folders are none.
    fn folders(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// A file that is being written.
pub trait DiskFile: Write {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Windows opens no folder as a file, and keeps no promise about its entries either.
        if cfg!(windows) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn folders(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, cause: io::Error) -> CheckpointError {
    CheckpointError::Io { action, path: path.to_path_buf(), cause }
}

/// Bytes gathered before they go to the file.
const BUFFER: usize = 1 << 20;

/// Writes a file that must not exist yet with `content`, and syncs it.
pub(super) fn write_new(
    disk: &dyn Disk,
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let file = disk.create_file(path).map_err(|cause| io_error("create", path, cause))?;
    let error = |cause| io_error("write", path, cause);
    let mut buffer = BufWriter::with_capacity(BUFFER, file);
    content(&mut buffer).map_err(error)?;
    // A buffer that is dropped would write once more and hide what comes of it.
    let mut file = buffer.into_inner().map_err(|failed| error(failed.into_error()))?;
    file.sync().map_err(|cause| io_error("sync", path, cause))
}

/// The names of the folders below `dir`; none if `dir` is absent.
pub(super) fn folders(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, CheckpointError> {
    match disk.folders(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|cause| io_error("list", dir, cause)),
    }
}

/// Creates `dir` and what it lies in, and makes their names durable.
pub(super) fn ensure_folder(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        ensure_folder(disk, parent)?;
    }
    disk.create_folder(dir).map_err(|cause| io_error("create", dir, cause))?;
    let parent = parent.unwrap_or(Path::new("."));
    disk.sync_folder(parent).map_err(|cause| io_error("sync", parent, cause))
}
