//! What can go wrong on the way to a tracker.

use std::io;
use std::path::{Path, PathBuf};

/// A fault of a tracker's files, of its settings or, where sending was asked for, of the server.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// A file of the tracker could not be made, read or written.
    #[error("cannot {action} `{}`: {source}; check that the disk has room and the folder is writable", path.display())]
    Io {
        /// What was tried: `write`, `open`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The address of the server is none that can be asked.
    #[error("the tracking address `{found}` {problem}; wanted one like `http://localhost:5000`")]
    Address {
        /// The address, without a user name or password.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A user name, password or token holds what a header cannot.
    #[error(
        "the {which} for the tracking server is empty or holds characters that a header cannot; \
         check that it was copied whole and without a line break"
    )]
    Credentials {
        /// `user name`, `password` or `token`; never its value.
        which: &'static str,
    },
    /// Another process sends from the same spool.
    #[error("`{}` is locked by another process that sends from this spool; wait for it to end", path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// A spool that cannot be gone on with.
    #[error("`{}`: {problem}; move the folder away to begin a new record of the run", path.display())]
    Spool {
        /// The spool or its cursor.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The server did not take what was to be sent.
    #[error("the tracking server did not take the records: {reason}; they stay in the spool")]
    Unsent {
        /// What happened.
        reason: String,
    },
}

impl TrackError {
    /// For `map_err` at a file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
