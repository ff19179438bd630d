//! A run in one row.

use std::path::PathBuf;

use serde::Serialize;

use super::{Run, State};

/// The figures of a run that a list shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// What the run is called.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// How it does.
    pub state: State,
    /// The process that runs it.
    pub pid: Option<u32>,
    /// The method, such as `lora`.
    pub method: Option<String>,
    /// The model that is trained.
    pub model: Option<String>,
    /// Updates made.
    pub steps: u64,
    /// Updates of the whole run.
    pub total_steps: Option<u64>,
    /// Loss of the newest update, in nats per target token.
    pub loss: Option<f64>,
    /// Loss of the newest evaluation.
    pub eval_loss: Option<f64>,
    /// Exact matches of the newest evaluation that asked for answers, 0 to 1.
    pub exact_match: Option<f64>,
    /// Target tokens per second over all updates.
    pub tokens_per_second: Option<f64>,
    /// Seconds that the updates left will take, for a run in progress.
    pub seconds_left: Option<f64>,
    /// Seconds since 1970-01-01 UTC of the first event.
    pub started: Option<f64>,
    /// Seconds since 1970-01-01 UTC of the last event.
    pub updated: Option<f64>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What of it cannot be read, and why.
    pub problems: Vec<String>,
}

impl Overview {
    /// The row of a run.
    pub fn of(run: &Run) -> Self {
        let history = &run.history;
        let started = history.started.as_ref();
        // The method is the one table below `method`, for a run that has told nothing yet.
        let planned = || {
            let keys = &mut run.settings.0.keys();
            let key = keys.find_map(|key| key.strip_prefix("method."))?;
            key.split('.').next().map(str::to_owned)
        };
        let finite = |value: f64| value.is_finite().then_some(value);
        let last = history.steps.last();
        let model = || run.settings.get("model").map(|it| it.trim_matches(['"', '\'']).to_owned());
        Self {
            name: run.name.clone(),
            path: run.dir.clone(),
            state: run.state,
            pid: run.pid,
            method: started.map(|it| it.method.clone()).or_else(planned),
            model: started.map(|it| it.model.clone()).or_else(model),
            steps: history.step(),
            total_steps: started.map(|it| it.total_steps),
            loss: last.and_then(|point| finite(point.loss)),
            eval_loss: history.evals.last().and_then(|point| finite(point.loss)),
            exact_match: history.evals.iter().rev().find_map(|point| point.exact_match),
            tokens_per_second: history.mean_tokens_per_second(),
            seconds_left: history.seconds_left().filter(|_| run.state == State::Running),
            started: history.times.map(|[first, _]| first),
            updated: history.times.map(|[_, last]| last),
            bytes: run.bytes,
            problems: run.problems.clone(),
        }
    }
}
