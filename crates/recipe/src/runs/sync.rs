//! Sending what a run's spool still holds.

use std::path::Path;
use std::time::Duration;

use rekindle_track::{Credentials, Drained, drain, mlflow};

use crate::error::RunError;
use crate::recipe::Recipe;
use crate::run::folder::MARKER;
use crate::run::trackers::MLFLOW;

/// Sends what is left in the spool of the run in `dir`, for `limit` at most.
///
/// # Errors
/// [`RunError::Output`] if the run has no spool or its recipe no `[report.mlflow]`, and
/// [`RunError::Track`] if the server does not take the records or a run in progress sends them.
pub fn sync(dir: &Path, credentials: &Credentials, limit: Duration) -> Result<Drained, RunError> {
    let marker = dir.join(MARKER);
    let text = std::fs::read_to_string(&marker)
        .map_err(|source| RunError::Io { path: marker.clone(), source })?;
    let recipe = Recipe::parse(&text, &marker.display().to_string())?;
    let refuse =
        |reason: &str| RunError::Output { path: dir.to_owned(), reason: reason.to_owned() };
    let Some(report) = recipe.report.mlflow else {
        return Err(refuse("is a run without `[report.mlflow]`; there is nothing to send"));
    };
    let folder = dir.join(MLFLOW);
    if !folder.is_dir() {
        return Err(refuse("has no spool: nothing was told to MLflow; there is nothing to send"));
    }
    if mlflow::pending(&folder)? == 0 {
        return Ok(Drained::default());
    }
    Ok(drain(&folder, &report.server(credentials.clone())?, limit)?)
}
