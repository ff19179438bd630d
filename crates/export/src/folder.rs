//! Folders that appear whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::ExportError;

/// A folder being written beside its final place.
pub(crate) struct Pending {
    temporary: tempfile::TempDir,
    target: PathBuf,
}

impl Pending {
    /// A hidden sibling of `target`, which must be absent or empty.
    pub(crate) fn new(target: &Path) -> Result<Self, ExportError> {
        let occupied = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
        if occupied || target.is_file() {
            return Err(ExportError::Exists { path: target.to_owned() });
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let io = |source| ExportError::Io { path: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(io)?;
        let temporary =
            tempfile::Builder::new().prefix(".export-").tempdir_in(parent).map_err(io)?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// Where `name` is written until the folder is done.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Writes and syncs one file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.path(name);
        let io = |source| ExportError::Io { path: path.clone(), source };
        let mut file = File::create(&path).map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        file.sync_all().map_err(io)
    }

    /// Gives the folder its final name.
    pub(crate) fn finish(self) -> Result<(), ExportError> {
        let io = |source| ExportError::Io { path: self.target.clone(), source };
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(io)?;
        }
        make_readable(self.temporary.path()).map_err(io)?;
        fs::rename(self.temporary.path(), &self.target).map_err(io)?;
        // The folder has moved; there is nothing left to remove.
        let _ = self.temporary.keep();
        Ok(())
    }
}

/// Temporary folders and files are private; what is exported gets the usual permissions.
fn make_readable(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o644))?;
        }
    }
    File::open(path)?.sync_all()
}
