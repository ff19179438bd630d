//! How far a spool has been sent, in a file that is replaced as a whole.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::TrackError;

/// What is known of the server's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Bytes of the spool that have been sent or refused.
    pub offset: u64,
    /// The run that the server made.
    pub run_id: Option<String>,
    /// True from before the run is asked for until its name is known.
    pub creating: bool,
    /// Lines that the server refused for good.
    pub rejected: u64,
}

impl Cursor {
    /// The cursor of a folder; the beginning where there is none.
    pub fn load(folder: &Path) -> Result<Self, TrackError> {
        let path = path(folder);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(TrackError::io("read", &path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|error| TrackError::Spool {
            path,
            problem: format!("the cursor cannot be read: {error}"),
        })
    }

    /// Writes the cursor beside its place, syncs it and renames it.
    pub fn save(&self, folder: &Path) -> Result<(), TrackError> {
        let path = path(folder);
        let text = serde_json::to_vec(self).expect("numbers, text and booleans are JSON");
        let new = path.with_extension("json.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(TrackError::io("write", &path))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("cursor.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Cursor::load(folder.path()).unwrap(), Cursor::default());
        let cursor =
            Cursor { offset: 9, run_id: Some("ab".to_owned()), creating: false, rejected: 1 };
        cursor.save(folder.path()).unwrap();
        assert_eq!(Cursor::load(folder.path()).unwrap(), cursor);
        fs::write(path(folder.path()), "{\"offset\": ").unwrap();
        assert!(matches!(Cursor::load(folder.path()), Err(TrackError::Spool { .. })));
    }
}
