//! The run folder: who may write into it, what an earlier run left there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use rekindle_data::Reject;
use rekindle_train::{Found, RunLock, checkpoint};
use serde_json::json;

use super::{Measured, RunOptions};
use crate::error::RunError;
use crate::events::EventLog;
use crate::plan::Plan;
use crate::recipe::Recipe;

/// Marks a folder as a run of ours.
pub(crate) const MARKER: &str = "plan.toml";
const BASE: &str = "base.json";
/// The key of a checkpoint's own words under which the device stands.
pub(super) const DEVICE: &str = "device";
/// How files begin that are being written; one that is left is of a process that was killed.
pub(crate) const WRITING: &str = ".writing-";
/// How exports begin that are being written.
const EXPORTING: &str = ".export-";

/// Whether and from where a run continues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// It is a new run.
    #[default]
    No,
    /// From the newest whole checkpoint of its folder; from the start if there is none.
    Newest,
    /// From this checkpoint, which must be whole.
    From(PathBuf),
}

/// A run folder, locked for this process.
pub(super) struct RunFolder {
    dir: PathBuf,
    /// The checkpoint to continue from.
    pub checkpoint: Option<Found>,
    resumed: bool,
    replaces: bool,
    /// Asked to continue a run that had not begun to write.
    starts_anew: bool,
    _lock: RunLock,
}

impl RunFolder {
    /// Locks the folder and finds the checkpoint to continue from.
    ///
    /// A folder with another run is an error unless the run is resumed or may be overwritten; only
    /// a folder with our marker is ever emptied.
    pub(super) fn open(plan: &Plan, options: &RunOptions) -> Result<Self, RunError> {
        let dir = plan.run_dir.clone();
        let refuse =
            |reason: &str| Err(RunError::Output { path: dir.clone(), reason: reason.to_owned() });
        if dir.is_file() {
            return refuse("is a file; set `output` to a folder");
        }
        let ours = dir.join(MARKER).is_file();
        let resumed = options.resume != Resume::No;
        if is_occupied(&dir) && !resumed {
            if !options.overwrite {
                return refuse(
                    "holds another run; continue it with `--resume`, replace it with \
                     `--overwrite`, or set another `output`",
                );
            }
            if !ours {
                return refuse("is not empty and no run of ours; it is not overwritten");
            }
        }
        // A run that is killed while it loads leaves nothing but its lock: it has no more to resume
        // than a start to make again.
        let starts_anew = options.resume == Resume::Newest && !is_occupied(&dir);
        if resumed && !ours && !starts_anew {
            return refuse("holds no run to resume; leave `--resume` out to start one");
        }
        let resumed = resumed && !starts_anew;
        let lock = RunLock::acquire(&dir)?;
        remove_leftovers(&dir)?;
        checkpoint::recover(&dir.join("checkpoints"))?;
        let replaces = options.overwrite && ours && !resumed;
        let checkpoint = match &options.resume {
            Resume::No => None,
            Resume::Newest => checkpoint::latest(&dir.join("checkpoints"))?,
            Resume::From(path) => Some(Found {
                path: path.clone(),
                saved: checkpoint::verify(path)?,
                warnings: Vec::new(),
            }),
        };
        Ok(Self { dir, checkpoint, resumed, replaces, starts_anew, _lock: lock })
    }

    /// The resolved recipe of the run to be continued; none for a new run.
    pub(super) fn earlier_recipe(&self) -> Result<Option<Recipe>, RunError> {
        if !self.resumed {
            return Ok(None);
        }
        let path = self.dir.join(MARKER);
        let text = fs::read_to_string(&path)
            .map_err(|source| RunError::Io { path: path.clone(), source })?;
        Ok(Some(Recipe::parse(&text, &path.display().to_string())?))
    }

    /// Removes the run that this one replaces, once this one is known to be able to start.
    pub(super) fn make_room(&self) -> Result<(), RunError> {
        if self.replaces { clear(&self.dir) } else { Ok(()) }
    }

    /// What was wrong with checkpoints that were passed over.
    pub(super) fn warnings(&self) -> &[String] {
        self.checkpoint.as_ref().map_or(&[], |found| &found.warnings)
    }

    /// What the user should know of a run that goes on elsewhere than it was.
    pub(super) fn changes(&self, device: &Device) -> Vec<String> {
        let mut notes = Vec::new();
        if self.starts_anew {
            let dir = self.dir.display();
            notes.push(format!("`{dir}` holds no run yet; `--resume` starts one"));
        }
        let Some(Found { saved, .. }) = &self.checkpoint else { return notes };
        let step = saved.step;
        let device = format!("{device:?}");
        match saved.extra[DEVICE].as_str() {
            Some(old) if old != device => notes.push(format!(
                "up to step {step} the run was on {old}, from here it is on {device}; its numbers \
                 are not those of an uninterrupted run bit for bit"
            )),
            _ => {}
        }
        let version = env!("CARGO_PKG_VERSION");
        if saved.version != version {
            notes.push(format!(
                "the checkpoint of step {step} was saved by version {}, this is version {version}",
                saved.version
            ));
        }
        notes
    }

    /// The log, continued after `step` for a resumed run.
    pub(super) fn event_log(&self, step: u64) -> Result<EventLog, RunError> {
        let path = self.dir.join("events.jsonl");
        Ok(if self.resumed && path.exists() {
            EventLog::resume(path, step)?
        } else {
            EventLog::create(path)?
        })
    }

    /// Saves what it resolved to, which marks the folder as ours, and what was typed.
    pub(super) fn write_plan(&self, plan: &Plan, recipe_text: &str) -> Result<(), RunError> {
        let text = plan.to_toml().map_err(|error| RunError::Output {
            path: self.dir.clone(),
            reason: format!("cannot be given a plan: {error}"),
        })?;
        write(&self.dir.join(MARKER), text.as_bytes())?;
        write(&self.dir.join("recipe.toml"), recipe_text.as_bytes())
    }

    /// Lists the rows that were left out, one JSON object a line.
    pub(super) fn write_rejects(&self, rejects: &[(PathBuf, Reject)]) -> Result<(), RunError> {
        if rejects.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for (path, reject) in rejects {
            let line = json!({
                "file": path.display().to_string(),
                "row": reject.row,
                "line": reject.line,
                "kind": reject.reason.kind(),
                "reason": reject.reason.to_string(),
            });
            lines.extend(format!("{line}\n").into_bytes());
        }
        write(&self.dir.join("rejects.jsonl"), &lines)
    }

    /// How the base model did, if a first part of this run measured it.
    pub(super) fn read_base(&self) -> Result<Option<Measured>, RunError> {
        if !self.resumed {
            return Ok(None);
        }
        let path = self.dir.join(BASE);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| RunError::Output {
            path,
            reason: format!("is damaged ({error}); remove it to measure the base model anew"),
        })
    }

    /// Keeps how the base model did.
    pub(super) fn write_base(&self, base: &Measured) -> Result<(), RunError> {
        let text = serde_json::to_vec(base).unwrap_or_default();
        write(&self.dir.join(BASE), &text)
    }
}

/// Whether there is more in a folder than a lock and what a killed process left.
pub(crate) fn is_occupied(dir: &Path) -> bool {
    let ours = |name: &str| name == "run.lock" || name.starts_with(WRITING);
    fs::read_dir(dir)
        .is_ok_and(|entries| entries.flatten().any(|it| !ours(&it.file_name().to_string_lossy())))
}

/// Removes what a process left that was killed while it wrote; call it while holding the lock.
fn remove_leftovers(dir: &Path) -> Result<(), RunError> {
    let io = |source| RunError::Io { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(io)?);
        let name = name.to_string_lossy();
        if name.starts_with(WRITING) && kind.is_file() {
            fs::remove_file(entry.path()).map_err(io)?;
        } else if name.starts_with(EXPORTING) && kind.is_dir() {
            fs::remove_dir_all(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

/// Removes everything but the lock, the marker last: what a crash leaves is still ours to remove.
pub(crate) fn clear(dir: &Path) -> Result<(), RunError> {
    let io = |source| RunError::Io { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if ["run.lock", MARKER].iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        // A link is removed, never followed.
        if entry.file_type().map_err(io)?.is_dir() {
            fs::remove_dir_all(entry.path()).map_err(io)?;
        } else {
            fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    fs::remove_file(dir.join(MARKER)).map_err(io)
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let io = |source| RunError::Io { path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(WRITING).tempfile_in(dir).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}
