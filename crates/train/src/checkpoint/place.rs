//! Folders that take their place whole, and leave it whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, folders, io_error};
use super::step_of;
use crate::CheckpointError;

/// A checkpoint that is being written.
const SAVING: &str = ".saving-";
/// A checkpoint that is being removed.
const REMOVING: &str = ".removing-";
/// A checkpoint that another of its step is about to follow; it is given back if that never came.
const REPLACED: &str = ".replaced-";

/// Names tried for a temporary folder before it is given up.
const TRIES: u32 = 10_000;

/// A hidden folder beside the checkpoints, removed when it is dropped.
pub(super) struct Temporary<'d> {
    disk: &'d dyn Disk,
    path: PathBuf,
    kept: bool,
}

impl<'d> Temporary<'d> {
    /// A folder to write a checkpoint of `dir` in.
    pub(super) fn for_saving(disk: &'d dyn Disk, dir: &Path) -> Result<Self, CheckpointError> {
        Self::new(disk, dir, SAVING)
    }

    fn new(disk: &'d dyn Disk, dir: &Path, prefix: &str) -> Result<Self, CheckpointError> {
        let mut path = dir.join(format!("{prefix}0"));
        // Whatever stands at a name, be it a link, is left alone.
        for number in 1..TRIES {
            match disk.create_folder(&path) {
                Ok(()) => return Ok(Self { disk, path, kept: false }),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(io_error("create", &path, cause)),
            }
            path = dir.join(format!("{prefix}{number}"));
        }
        Err(io_error("create", &path, io::ErrorKind::AlreadyExists.into()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and says what comes of that.
    fn close(mut self) -> Result<(), CheckpointError> {
        self.kept = true;
        self.disk.remove_folder(&self.path).map_err(|cause| io_error("remove", &self.path, cause))
    }

    /// Moves it to `path`, in place of what may be there, and makes that durable.
    pub(super) fn take_place(mut self, path: &Path) -> Result<(), CheckpointError> {
        // A folder cannot be renamed onto a full one: the old one steps aside, and goes last.
        let old = match fs::symlink_metadata(path) {
            Ok(_) => Some(move_aside(self.disk, path, REPLACED)?),
            Err(_) => None,
        };
        if let Err(cause) = self.disk.rename(&self.path, path) {
            if let Some(old) = old {
                old.give_back();
            }
            return Err(io_error("rename to", path, cause));
        }
        self.kept = true;
        sync_parent(self.disk, path)?;
        old.map_or(Ok(()), |old| old.folder.close())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed by the next start.
            let _removed = self.disk.remove_folder(&self.path);
        }
    }
}

/// Removes a checkpoint so that no half-removed folder ever bears its name.
pub(super) fn discard(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    move_aside(disk, path, REMOVING)?.folder.close()
}

/// A checkpoint in a hidden folder, under its own name.
struct Aside<'d> {
    folder: Temporary<'d>,
    from: PathBuf,
    to: PathBuf,
}

impl Aside<'_> {
    /// Moves it back; where that fails too, [`recover`] does it.
    fn give_back(self) {
        if self.folder.disk.rename(&self.to, &self.from).is_ok() {
            let _removed = self.folder.close();
        }
    }
}

fn move_aside<'d>(
    disk: &'d dyn Disk,
    path: &Path,
    prefix: &str,
) -> Result<Aside<'d>, CheckpointError> {
    let (parent, name) = parts(path);
    let mut folder = Temporary::new(disk, parent, prefix)?;
    let to = folder.path.join(name);
    disk.rename(path, &to).map_err(|cause| io_error("move away", path, cause))?;
    // It holds a checkpoint from here on.
    folder.kept = true;
    Ok(Aside { folder, from: path.to_path_buf(), to })
}

fn parts(path: &Path) -> (&Path, &std::ffi::OsStr) {
    let parent = path.parent().expect("a checkpoint lies in a folder");
    (parent, path.file_name().expect("a checkpoint has a name"))
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    let (parent, _) = parts(path);
    disk.sync_folder(parent).map_err(|cause| io_error("sync", parent, cause))
}

/// Removes what an interrupted save left below `dir`, and puts back what it had moved aside.
pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    for name in folders(disk, dir)? {
        let path = dir.join(&name);
        if name.starts_with(REPLACED) {
            put_back(disk, dir, &path)?;
        } else if !name.starts_with(SAVING) && !name.starts_with(REMOVING) {
            continue;
        }
        disk.remove_folder(&path).map_err(|cause| io_error("remove", &path, cause))?;
    }
    Ok(())
}

fn put_back(disk: &dyn Disk, dir: &Path, aside: &Path) -> Result<(), CheckpointError> {
    for name in folders(disk, aside)?.iter().filter(|name| step_of(name).is_some()) {
        let (from, to) = (aside.join(name), dir.join(name));
        if fs::symlink_metadata(&to).is_err() {
            disk.rename(&from, &to).map_err(|cause| io_error("move back", &to, cause))?;
            sync_parent(disk, &to)?;
        }
    }
    Ok(())
}
