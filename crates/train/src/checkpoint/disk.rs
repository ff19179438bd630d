//! Durable writes: synced files, atomic renames, leftovers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempDir;

use crate::CheckpointError;

const TEMPORARY_PREFIX: &str = ".saving-";

pub(super) fn io_error(action: &'static str, path: &Path, cause: io::Error) -> CheckpointError {
    CheckpointError::Io { action, path: path.to_path_buf(), cause }
}

/// A new hidden folder below `dir`, on the same file system as the checkpoints.
pub(super) fn temporary_folder(dir: &Path) -> Result<TempDir, CheckpointError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempdir_in(dir)
        .map_err(|cause| io_error("create a folder in", dir, cause))
}

/// Writes a file that must not exist yet, and syncs it.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let error = |cause| io_error("write", path, cause);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(error)?;
    file.write_all(bytes).map_err(error)?;
    file.sync_all().map_err(error)
}

/// Makes a file written by somebody else durable.
pub(super) fn sync_file(path: &Path) -> Result<(), CheckpointError> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.sync_all()).map_err(|cause| io_error("sync", path, cause))
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    // Windows opens no folder as a file, and keeps no promise about its entries either.
    if cfg!(windows) {
        return Ok(());
    }
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| io_error("sync", path, cause))
}

/// Moves `folder` to `path`, in place of what may be there, and syncs the parent.
pub(super) fn replace_folder(folder: TempDir, path: &Path) -> Result<(), CheckpointError> {
    let parent = path.parent().expect("a checkpoint lies in a folder");
    // A folder cannot be renamed onto a full one: the old one steps aside, and goes last.
    let old = match fs::symlink_metadata(path) {
        Ok(_) => Some(move_aside(path, parent)?),
        Err(_) => None,
    };
    fs::rename(folder.path(), path).map_err(|cause| io_error("rename to", path, cause))?;
    // The folder has moved; there is nothing left to remove.
    let _moved = folder.keep();
    sync_folder(parent)?;
    match old {
        Some(old) => old.close().map_err(|cause| io_error("remove the old", path, cause)),
        None => Ok(()),
    }
}

/// Removes a checkpoint so that no half-removed folder ever bears its name.
pub(super) fn discard_folder(path: &Path) -> Result<(), CheckpointError> {
    let parent = path.parent().expect("a checkpoint lies in a folder");
    let old = move_aside(path, parent)?;
    old.close().map_err(|cause| io_error("remove", path, cause))
}

fn move_aside(path: &Path, parent: &Path) -> Result<TempDir, CheckpointError> {
    let aside = temporary_folder(parent)?;
    fs::rename(path, aside.path().join("old"))
        .map_err(|cause| io_error("move away", path, cause))?;
    Ok(aside)
}

/// The names of the folders below `dir`; none if `dir` is absent. Links are not followed.
pub(super) fn folders(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let error = |cause| io_error("list", dir, cause);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(error(cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(error)?;
        if entry.file_type().map_err(error)?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes the temporary folders below `dir`.
pub(super) fn remove_temporary(dir: &Path) -> Result<(), CheckpointError> {
    for name in folders(dir)?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
        let path = dir.join(name);
        fs::remove_dir_all(&path).map_err(|cause| io_error("remove", &path, cause))?;
    }
    Ok(())
}
