//! Checkpoints: folders that are either whole or not there.
//!
//! `step-000100/` holds `trainable.safetensors` (trainable parameters by module path),
//! `optimizer.safetensors` (the method's tensors such as `path.m`, and `path.steps`),
//! `average.safetensors` (a moving average of the parameters, if there is one), `state.json`
//! ([`Saved`]) and `manifest.json` (size and blake3 hash of the others). A checkpoint is written into a
//! hidden folder beside its place, synced, then renamed, and the parent folder synced.

mod average;
mod disk;
mod manifest;
mod optimizer_state;
mod tensors;

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::params::read_trainable;
use crate::{Best, CheckpointError, Cursor, LossScale, Schedule, TrainState};

use disk::{io_error, write_new};

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
    let problems = manifest::problems(path);
    if !problems.is_empty() {
        return Err(damaged(problems));
    }
    let file = path.join(STATE);
    let text = fs::read(&file).map_err(|cause| io_error("read", &file, cause))?;
    // The layout is read first, so that an unknown one is not reported as a strange key.
    let head: Layout = serde_json::from_slice(&text)
        .map_err(|error| damaged(vec![format!("`{STATE}` has no layout: {error}")]))?;
    if head.layout != LAYOUT {
        let path = path.to_path_buf();
        return Err(CheckpointError::Layout { path, found: head.layout, wanted: LAYOUT });
    }
    serde_json::from_slice(&text)
        .map_err(|error| damaged(vec![format!("`{STATE}` cannot be parsed: {error}")]))
}

#[derive(Deserialize)]
struct Layout {
    layout: u32,
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
    dir: &Path,
    TrainState { policy, optimizer, ema, .. }: &TrainState<M>,
    saved: &Saved,
) -> Result<PathBuf, CheckpointError> {
    fs::create_dir_all(dir).map_err(|cause| io_error("create", dir, cause))?;
    let weights = read_trainable(policy)
        .map_err(|error| CheckpointError::Tensor { cause: error.to_string() })?;
    let state = serde_json::to_vec_pretty(saved).expect("numbers, strings and a JSON value");

    // Dropping `folder` on an error removes what was written.
    let folder = disk::temporary_folder(dir)?;
    let inside = folder.path();
    tensors::save_weights(&inside.join(TRAINABLE), weights)?;
    optimizer_state::save_state(&inside.join(OPTIMIZER), optimizer)?;
    average::save_average(&inside.join(AVERAGE), ema.as_ref())?;
    write_new(&inside.join(STATE), &state)?;
    manifest::write(inside)?;
    disk::sync_folder(inside)?;

    let path = dir.join(name(saved.step));
    disk::replace_folder(folder, &path)?;
    Ok(path)
}

/// Removes the oldest of the checkpoints up to `step` until `keep` (at least one) are left, and
/// beside them the one of step `best`.
///
/// Later steps are left alone: they belong to a course that was given up by going back.
pub(crate) fn retain(
    dir: &Path,
    step: u64,
    keep: usize,
    best: Option<u64>,
) -> Result<(), CheckpointError> {
    let mut known = list(dir)?;
    known.retain(|(at, _)| *at <= step);
    let surplus = known.len().saturating_sub(keep.max(1));
    for (at, path) in &known[..surplus] {
        if best != Some(*at) {
            disk::discard_folder(path)?;
        }
    }
    Ok(())
}

/// Removes what an interrupted save left below `dir`; call it only while holding the run's lock.
pub fn remove_leftovers(dir: &Path) -> Result<(), CheckpointError> {
    disk::remove_temporary(dir)
}

/// The checkpoints below `dir` with their steps, oldest first; ordered by step, not by clock.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found: Vec<_> = disk::folders(dir)?
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
mod tests;
