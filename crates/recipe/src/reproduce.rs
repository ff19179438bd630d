//! A finished run, run again from its folder and compared number by number.
//!
//! [`Original::open`] reads the run, [`Original::check_inputs`] refuses to train on other data or
//! another model, [`Original::plan`] is what is run again, and [`Original::compare`] says whether
//! the result is the same.

mod compare;
mod weights;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use compare::{Comparison, Fact, Quantity};
pub use weights::Weights;

use crate::dataset::Rows;
use crate::error::RunError;
use crate::events::Status;
use crate::fingerprint::{self, Extent};
use crate::history::History;
use crate::plan::{Plan, same_place};
use crate::recipe::{Recipe, ReportSection};
use crate::run::folder::MARKER;

/// Relative difference that passes on another device or with other threads, unless another one is
/// asked for: sums in another order, carried through some hundred updates in f32.
pub const TOLERANCE: f64 = 1e-3;

/// A finished run that is to be reproduced.
#[derive(Clone, Debug)]
pub struct Original {
    /// Its folder.
    pub dir: PathBuf,
    /// Its resolved recipe, which no longer reports to trackers.
    pub recipe: Recipe,
    /// What its log tells.
    pub history: History,
}

/// What of the inputs is compared before anything is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The files of rows.
    Data,
    /// The base model.
    Model,
}

impl Original {
    /// Reads a finished run.
    ///
    /// # Errors
    /// [`RunError::Output`] if the folder holds no run or one that did not end as it should.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        let refuse =
            |reason: &str| RunError::Output { path: dir.to_owned(), reason: reason.to_owned() };
        let path = dir.join(MARKER);
        if !path.is_file() {
            return Err(refuse("holds no run to reproduce: there is no `plan.toml` in it"));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| RunError::Io { path: path.clone(), source })?;
        let mut recipe = Recipe::parse(&text, &path.display().to_string())?;
        recipe.report = ReportSection::default();
        let history = History::read(dir.join("events.jsonl"))?;
        match history.ended.map(|ended| ended.status) {
            Some(Status::Succeeded) => {}
            _ => return Err(refuse("has not finished; let it finish, or resume it, first")),
        }
        Ok(Self { dir: dir.to_owned(), recipe, history })
    }

    /// Whether the run kept a hash of every byte of its model.
    pub fn has_full_hash(&self) -> bool {
        self.history.environment.as_ref().is_some_and(|it| it.model_full_blake3.is_some())
    }

    /// Compares data and model with those that the run had.
    ///
    /// A hash that the run did not keep is passed over here and named in the comparison.
    ///
    /// # Errors
    /// [`RunError::InputChanged`] for the first that is another, and what reading them refuses.
    pub fn check_inputs(&self, full_hash: bool) -> Result<(), RunError> {
        let data = &self.recipe.data;
        let kept = self.history.data.as_ref().and_then(|data| data.blake3.as_deref());
        if let Some(kept) = kept {
            let found = Rows::read(data, self.recipe.seed)?.hash;
            same(Input::Data, &data.train, kept, &found)?;
        }
        let Some(about) = &self.history.environment else { return Ok(()) };
        let path = &self.recipe.model;
        let kept = [
            (about.model_blake3.as_deref(), Extent::Ends),
            (about.model_full_blake3.as_deref().filter(|_| full_hash), Extent::Whole),
        ];
        for (kept, extent) in kept {
            let Some(kept) = kept else { continue };
            let found = fingerprint::model(path, extent)
                .map_err(|source| RunError::Io { path: path.clone(), source })?;
            same(Input::Model, path, kept, &found)?;
        }
        Ok(())
    }

    /// What is run again, in the folder `output`.
    ///
    /// # Errors
    /// [`RunError::Output`] if that is the run's own folder, and as [`Plan::resolve`].
    pub fn plan(&self, output: &Path) -> Result<Plan, RunError> {
        if same_place(output, &self.dir) {
            return Err(RunError::Output {
                path: output.to_owned(),
                reason: "is the folder of the run itself; name another one".to_owned(),
            });
        }
        let mut recipe = self.recipe.clone();
        recipe.output = Some(output.to_owned());
        Plan::resolve(recipe, "reproduction")
    }

    /// The folder beside the run that takes the reproduction, unless another one is asked for.
    pub fn beside(&self) -> PathBuf {
        let name = self.dir.canonicalize().ok();
        let name = name.as_deref().unwrap_or(&self.dir).file_name().unwrap_or_default();
        let mut name = name.to_owned();
        name.push("-reproduced");
        match self.dir.parent() {
            Some(parent) if self.dir.file_name().is_some() => parent.join(name),
            _ => self.dir.join("..").join(name),
        }
    }

    /// Compares what the run in `output` has made; `tolerance` is relative.
    ///
    /// Without one it is 0 where device and threads are the same, and [`TOLERANCE`] elsewhere.
    ///
    /// # Errors
    /// A log or weights that cannot be read.
    pub fn compare(&self, output: &Path, tolerance: Option<f64>) -> Result<Comparison, RunError> {
        let again = History::read(output.join("events.jsonl"))?;
        let same_machine = compare::same_machine(&self.history, &again);
        let tolerance = tolerance.unwrap_or(if same_machine { 0.0 } else { TOLERANCE });
        let weights = weights::compare(&self.dir, output, tolerance)?;
        Ok(Comparison::of(&self.history, &again, weights, tolerance))
    }
}

fn same(input: Input, path: &Path, kept: &str, found: &str) -> Result<(), RunError> {
    if kept == found {
        return Ok(());
    }
    Err(RunError::InputChanged { input, path: path.to_owned() })
}
