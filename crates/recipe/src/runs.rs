//! A folder of runs, looked at from outside: what is there, how each run does, removing one.
//!
//! Nothing here waits for a run or disturbs it, and no link is followed.

mod overview;
mod settings;
mod sync;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rekindle_train::RunLock;
use serde::Serialize;

use crate::error::RunError;
use crate::events::Status;
use crate::history::History;
use crate::run::folder::{MARKER, clear, is_occupied};
use crate::run::{Measured, RunSummary};

pub use overview::Overview;
pub use settings::{Settings, differing};
pub use sync::sync;

/// The lock's file in a run folder.
const LOCK: &str = "run.lock";

/// Folders below the one that is searched in which runs are looked for.
const DEPTH: usize = 2;

/// How a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process holds its lock.
    Running,
    /// All steps were made.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
    /// An error ended it.
    Failed,
    /// Its process ended without a last word.
    Crashed,
}

impl State {
    /// The state as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }
}

/// A run folder, read.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// What it is called below the folder of runs.
    pub name: String,
    /// How it does.
    pub state: State,
    /// The process that holds its lock, if there is one that says its number.
    pub pid: Option<u32>,
    /// What its events tell.
    pub history: History,
    /// Its resolved recipe, key by key.
    pub settings: Settings,
    /// Base and tuned model as its summary has them, if it has come to an end.
    pub measured: Option<[Measured; 2]>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What of it cannot be read, and why.
    pub problems: Vec<String>,
}

impl Run {
    /// Reads the run in `dir`, called `name`.
    ///
    /// What is damaged is named in [`Run::problems`], so that one bad file hides nothing else.
    ///
    /// # Errors
    /// [`RunError::Output`] if `dir` holds no run of ours.
    pub fn open(dir: &Path, name: &str) -> Result<Self, RunError> {
        if !is_run(dir) {
            return Err(RunError::Output {
                path: dir.to_owned(),
                reason: format!(
                    "holds no run: there is no `{MARKER}` in it; see `rekindle runs list`"
                ),
            });
        }
        let mut problems = Vec::new();
        let events = dir.join("events.jsonl");
        let mut history = History::default();
        // Before its first event a run has no log yet.
        if events.exists() {
            match History::read(&events) {
                Ok(read) => history = read,
                Err(error) => problems.push(error.to_string()),
            }
        }
        let settings = Settings::read(&dir.join(MARKER)).unwrap_or_else(|problem| {
            problems.push(problem);
            Settings::default()
        });
        let lock = Lock::of(dir);
        Ok(Self {
            state: state(&history, &lock),
            pid: lock.pid(),
            measured: measured(dir, &history),
            bytes: bytes(dir),
            dir: dir.to_owned(),
            name: name.to_owned(),
            history,
            settings,
            problems,
        })
    }
}

/// Every run in `root` and in the folders below it, the newest last.
///
/// # Errors
/// [`RunError::Output`] if `root` is no folder, [`RunError::Io`] if it cannot be read.
pub fn list(root: &Path) -> Result<Vec<Run>, RunError> {
    if !root.is_dir() {
        return Err(RunError::Output {
            path: root.to_owned(),
            reason: "is no folder; name the folder of your runs with `--dir`".to_owned(),
        });
    }
    let mut runs = Vec::new();
    collect(root, "", DEPTH, &mut runs)
        .map_err(|source| RunError::Io { path: root.to_owned(), source })?;
    let time = |run: &Run| run.history.times.map_or(f64::INFINITY, |[_, last]| last);
    runs.sort_by(|a, b| time(a).total_cmp(&time(b)).then_with(|| a.name.cmp(&b.name)));
    Ok(runs)
}

fn collect(dir: &Path, prefix: &str, depth: usize, runs: &mut Vec<Run>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match Run::open(&entry.path(), &name) {
            Ok(run) => runs.push(run),
            // A folder below that may not be read is none of the runs that can be shown.
            Err(_) if depth > 1 => {
                let _ = collect(&entry.path(), &format!("{name}/"), depth - 1, runs);
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// The run called `name`: below `root`, or a run folder's own path.
///
/// # Errors
/// [`RunError::Output`] if there is none.
pub fn find(root: &Path, name: &str) -> Result<Run, RunError> {
    let inside = root.join(name);
    if is_run(&inside) {
        return Run::open(&inside, name);
    }
    let path = Path::new(name);
    if is_run(path) {
        return Run::open(path, name);
    }
    let known: Vec<String> = list(root).unwrap_or_default().into_iter().map(|it| it.name).collect();
    let known = match known.as_slice() {
        [] => format!("`{}` holds no runs; name their folder with `--dir`", root.display()),
        known => format!("`{}` holds {}", root.display(), known.join(", ")),
    };
    let reason = format!("is no run: {known}");
    Err(RunError::Output { path: path.to_owned(), reason })
}

/// Removes a run folder with everything in it.
///
/// Only a folder with our marker, or with nothing but our lock, is removed. A run in progress is
/// not; its lock is held here meanwhile, so none can begin. Links are removed, never followed.
///
/// # Errors
/// [`RunError::Output`] for a folder that is not ours, [`RunError::Lock`] for a run in progress.
pub fn remove(dir: &Path) -> Result<(), RunError> {
    let io = |source| RunError::Io { path: dir.to_owned(), source };
    let refuse =
        |reason: &str| RunError::Output { path: dir.to_owned(), reason: reason.to_owned() };
    if fs::symlink_metadata(dir).map_err(io)?.is_symlink() {
        return Err(refuse("is a link; it is not followed, remove the link itself"));
    }
    let leftover = is_file(&dir.join(LOCK)) && !is_occupied(dir);
    if !is_run(dir) && !leftover {
        return Err(refuse("is no run of ours; it is not removed"));
    }
    // Its full name, as `.` could be emptied and not removed.
    let dir = dir.canonicalize().map_err(io)?;
    let lock = RunLock::acquire(&dir)?;
    if !leftover {
        clear(&dir)?;
    }
    fs::remove_file(dir.join(LOCK)).map_err(io)?;
    drop(lock);
    fs::remove_dir(&dir).map_err(io)
}

/// A real folder with our marker in it.
fn is_run(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|it| it.is_dir()) && is_file(&dir.join(MARKER))
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file())
}

/// Who holds a run's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Free,
    Held(Option<u32>),
}

impl Lock {
    /// Tries the lock for an instant, shared with others who look.
    fn of(dir: &Path) -> Self {
        let path = dir.join(LOCK);
        if !is_file(&path) {
            return Self::Free;
        }
        let Ok(mut file) = File::open(path) else { return Self::Free };
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return Self::Free;
        }
        let mut text = String::new();
        // The file is anybody's: a bounded read, and digits alone are believed.
        let read = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
        Self::Held(read.ok().and_then(|_| text.trim().parse().ok()))
    }

    fn pid(self) -> Option<u32> {
        match self {
            Self::Held(pid) => pid,
            Self::Free => None,
        }
    }
}

fn state(history: &History, lock: &Lock) -> State {
    match (lock, history.ended.map(|ended| ended.status)) {
        (Lock::Held(_), _) => State::Running,
        (Lock::Free, Some(Status::Succeeded)) => State::Finished,
        (Lock::Free, Some(Status::Cancelled | Status::Preempted)) => State::Stopped,
        (Lock::Free, Some(Status::Failed)) => State::Failed,
        (Lock::Free, None) => State::Crashed,
    }
}

/// Base and tuned model of the summary; one of an earlier part of the run does not count.
fn measured(dir: &Path, history: &History) -> Option<[Measured; 2]> {
    history.ended?;
    let text = fs::read(dir.join("summary.json")).ok()?;
    let summary: RunSummary = serde_json::from_slice(&text).ok()?;
    Some([summary.base, summary.tuned])
}

/// Bytes of every file below; links count for nothing.
fn bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes(&entry.path()),
        Ok(about) if about.is_file() => about.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests;
