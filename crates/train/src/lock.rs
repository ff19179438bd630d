//! One process a run folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::LockError;

const FILE: &str = "run.lock";

/// A hold on a run folder; it ends when this value is dropped or its process dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Locks `run_dir`, making the folder if it is absent, and writes our process id into it.
    pub fn acquire(run_dir: &Path) -> Result<Self, LockError> {
        let path = run_dir.join(FILE);
        let io = |cause| LockError::Io { path: path.clone(), cause };
        fs::create_dir_all(run_dir).map_err(io)?;
        let mut options = OpenOptions::new();
        // The content is the holder's id, so it stays until the lock is ours.
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    path: run_dir.to_path_buf(),
                    pid: holder(&mut file),
                });
            }
            Err(TryLockError::Error(cause)) => return Err(io(cause)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(Self { _file: file })
    }
}

// The file is anybody's: a bounded read, and digits alone are believed.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => pid.to_string(),
        _ => "unknown".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_handle_is_refused_by_pid_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let lock = RunLock::acquire(&run).unwrap();
        let error = RunLock::acquire(&run).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let wanted = format!("locked by process {}", std::process::id());
        assert!(error.to_string().contains(&wanted), "{error}");
        drop(lock);
        RunLock::acquire(&run).unwrap();
    }
}
