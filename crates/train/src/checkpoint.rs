//! Checkpoints: folders that are either whole or not there.
//!
//! `step-000100/` holds `trainable.safetensors` (trainable parameters by module path),
//! `optimizer.safetensors` (the method's tensors such as `path.m`, and `path.steps`),
//! `average.safetensors` (a moving average of the parameters, if there is one), `state.json`
//! ([`Saved`]) and `manifest.json` (size and blake3 hash of the others). A checkpoint is written
//! into a hidden folder beside its place, synced, then renamed, and the parent folder synced. All
//! of this goes through a [`Disk`].

mod average;
mod disk;
mod manifest;
mod optimizer_state;
mod place;
mod tensors;

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::params::read_trainable;
use crate::{Best, CheckpointError, Cursor, LossScale, Schedule, TrainState};

use disk::write_new;
use place::Temporary;

pub use disk::{Disk, DiskFile, RealDisk};

pub(crate) use average::load_average;
pub(crate) use optimizer_state::load_state;
pub(crate) use tensors::load_weights;

/// The layout this version writes and reads.
pub const LAYOUT: u32 = 2;

const TRAINABLE: &str = "trainable.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";
const STATE: &str = "state.json";
const FILES: [&str; 4] = [TRAINABLE, OPTIMIZER, AVERAGE, STATE];
/// Longest `state.json` read, in bytes; with the recipe in it, ours has some thousands.
const MAX_STATE_BYTES: u64 = 16 << 20;

/// What a checkpoint says beside its tensors: the content of `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The layout of the checkpoint's files.
    pub layout: u32,
    /// The product version that wrote it.
    pub version: String,
    /// Steps done.
    pub step: u64,
    /// Units trained on.
    pub units: u64,
    /// The place in the data.
    pub cursor: Cursor,
    /// The plan's seed.
    pub seed: u64,
    /// The plan's peak learning rate.
    pub learning_rate: f64,
    /// The plan's schedule.
    pub schedule: Schedule,
    /// The scale of losses, where they are scaled.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// The best evaluation so far.
    #[serde(default)]
    pub best: Option<Best>,
    /// The step that was evaluated last.
    #[serde(default)]
    pub evaluated: Option<u64>,
    /// Whether the evaluation due at this step was given up for a request to stop.
    #[serde(default)]
    pub evaluation_due: bool,
    /// The plan's `extra`, word for word.
    pub extra: serde_json::Value,
}

/// The newest whole checkpoint of a run.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its folder.
    pub path: PathBuf,
    /// What its `state.json` says.
    pub saved: Saved,
    /// What is wrong with newer ones, newest first; show them to the user.
    pub warnings: Vec<String>,
}

/// The newest whole checkpoint below `dir`, or `None` if there is none at all.
///
/// Damaged ones are passed over with a warning; if all are damaged it is an error, since starting
/// again from nothing is for the user to decide.
pub fn latest(dir: &Path) -> Result<Option<Found>, CheckpointError> {
    let mut warnings = Vec::new();
    for (_, path) in list(dir)?.into_iter().rev() {
        match verify(&path) {
            Ok(saved) => return Ok(Some(Found { path, saved, warnings })),
            Err(error @ (CheckpointError::Damaged { .. } | CheckpointError::Layout { .. })) => {
                warnings.push(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if warnings.is_empty() {
        return Ok(None);
    }
    Err(CheckpointError::NoneWhole { path: dir.to_path_buf(), problems: warnings })
}

/// Checks every file of the checkpoint at `path` against its manifest.
pub fn verify(path: &Path) -> Result<Saved, CheckpointError> {
    let damaged = |problems| CheckpointError::Damaged { path: path.to_path_buf(), problems };
    let text = manifest::bounded(&path.join(STATE), MAX_STATE_BYTES);
    // The layout is read first: by the rules of this one, another only looks damaged.
    if let Ok(text) = &text
        && let Ok(Head { layout, version }) = serde_json::from_slice(text)
        && layout != LAYOUT
    {
        let path = path.to_path_buf();
        return Err(CheckpointError::Layout { path, found: layout, version, wanted: LAYOUT });
    }
    let problems = manifest::problems(path);
    if !problems.is_empty() {
        return Err(damaged(problems));
    }
    let text = text.map_err(|problem| damaged(vec![format!("`{STATE}` {problem}")]))?;
    serde_json::from_slice(&text)
        .map_err(|error| damaged(vec![format!("`{STATE}` cannot be parsed: {error}")]))
}

/// What every layout says of itself.
#[derive(Deserialize)]
struct Head {
    layout: u32,
    #[serde(default)]
    version: String,
}

/// Loads the trainable parameters of the checkpoint at `path` into `policy`, after verifying it.
///
/// Missing, unexpected and differently shaped tensors are listed in the error; none is loaded.
pub fn load_into<M: Module>(policy: M, path: &Path) -> Result<M, CheckpointError> {
    verify(path)?;
    load_weights(policy, path)
}

/// Writes a checkpoint below `dir` and makes it durable; returns its folder.
pub(crate) fn write<M: Module>(
    disk: &dyn Disk,
    dir: &Path,
    TrainState { policy, optimizer, ema, .. }: &TrainState<M>,
    saved: &Saved,
) -> Result<PathBuf, CheckpointError> {
    let weights = read_trainable(policy)
        .map_err(|error| CheckpointError::Tensor { cause: error.to_string() })?;
    let state = serde_json::to_vec_pretty(saved).expect("numbers, strings and a JSON value");

    disk::ensure_folder(disk, dir)?;
    // Dropping `folder` on an error removes what was written.
    let folder = Temporary::for_saving(disk, dir)?;
    let inside = folder.path();
    tensors::save_weights(disk, &inside.join(TRAINABLE), weights)?;
    optimizer_state::save_state(disk, &inside.join(OPTIMIZER), optimizer)?;
    average::save_average(disk, &inside.join(AVERAGE), ema.as_ref())?;
    write_new(disk, &inside.join(STATE), |out| out.write_all(&state))?;
    manifest::write(disk, inside)?;
    disk.sync_folder(inside).map_err(|cause| disk::io_error("sync", inside, cause))?;

    let path = dir.join(name(saved.step));
    folder.take_place(&path)?;
    Ok(path)
}

/// Removes the oldest of the checkpoints up to `step` until `keep` (at least one) are left, and
/// beside them the one of step `best`.
///
/// Later steps are left alone: they belong to a course that was given up by going back.
pub(crate) fn retain(
    disk: &dyn Disk,
    dir: &Path,
    step: u64,
    keep: usize,
    best: Option<u64>,
) -> Result<(), CheckpointError> {
    let mut known = list_on(disk, dir)?;
    known.retain(|(at, _)| *at <= step);
    let surplus = known.len().saturating_sub(keep.max(1));
    for (at, path) in &known[..surplus] {
        if best != Some(*at) {
            place::discard(disk, path)?;
        }
    }
    Ok(())
}

/// Removes what an interrupted save left below `dir`, and puts back what it had moved aside.
///
/// Call it only while holding the run's lock, and before [`latest`].
pub fn recover(dir: &Path) -> Result<(), CheckpointError> {
    recover_on(&RealDisk, dir)
}

pub(crate) fn recover_on(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    place::recover(disk, dir)
}

/// Writes a small file beside the checkpoints' folder, whole or not at all.
pub(crate) fn replace_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The checkpoints below `dir` with their steps, oldest first; ordered by step, not by clock.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    list_on(&RealDisk, dir)
}

fn list_on(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found: Vec<_> = disk::folders(disk, dir)?
        .into_iter()
        .filter_map(|name| Some((step_of(&name)?, dir.join(name))))
        .collect();
    found.sort();
    Ok(found)
}

pub(crate) fn name(step: u64) -> String {
    format!("step-{step:06}")
}

fn step_of(folder: &str) -> Option<u64> {
    let step = folder.strip_prefix("step-")?.parse().ok()?;
    // Only the spelling that we write: `step-7` and `step-000007` are not two checkpoints.
    (name(step) == folder).then_some(step)
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
