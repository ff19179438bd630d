//! The events of a run, told to the trackers that its recipe names.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use rekindle_track::{
    Credentials, Delivery, Mlflow, RunInfo, RunStatus, TensorBoard, TrackError, Trackers,
};

use crate::events::{Event, Status};
use crate::plan::Plan;
use crate::recipe::MlflowReport;

/// The folder of the event files, in the run folder.
const TENSORBOARD: &str = "tensorboard";

/// The folder of the spool, in the run folder.
pub(crate) const MLFLOW: &str = "mlflow";

/// Hears the events of a run. Whatever goes wrong becomes a warning; the run goes on.
pub(super) struct RunTrackers {
    trackers: Trackers,
    /// What trackers and the sending thread have to say, until the log takes it.
    warnings: Receiver<String>,
    /// Number of the answer within its evaluation.
    answer: usize,
    ended: bool,
}

impl RunTrackers {
    /// Opens what the recipe asks for, for a run that goes on after `step`.
    pub(super) fn open(plan: &Plan, credentials: &Credentials, step: u64) -> Self {
        let (sender, warnings) = channel();
        let failures = sender.clone();
        let mut trackers = Trackers::new(move |name, error| left_out(&failures, name, error));
        let report = &plan.recipe.report;
        if report.tensorboard.is_some() {
            // The base model is measured at step 0, where a run begins.
            let first_step = if step == 0 { 0 } else { step + 1 };
            match TensorBoard::open(&plan.run_dir.join(TENSORBOARD), first_step) {
                Ok(board) => trackers.push("TensorBoard", board),
                Err(error) => left_out(&sender, "TensorBoard", &error),
            }
        }
        if let Some(mlflow) = &report.mlflow {
            match spool(plan, mlflow, credentials, sender.clone()) {
                Ok(mlflow) => trackers.push("MLflow", mlflow),
                Err(error) => left_out(&sender, "MLflow", &error),
            }
        }
        trackers.params(&parameters(plan));
        Self { trackers, warnings, answer: 0, ended: false }
    }

    /// Tells one event of time `time`; the end of a run waits a bounded time for its delivery.
    pub(super) fn event(&mut self, time: f64, event: &Event) {
        match event {
            Event::Step { step, .. } => self.trackers.scalars(*step, time, &step_values(event)),
            Event::Eval { step, .. } => {
                self.answer = 0;
                self.trackers.scalars(*step, time, &eval_values(event));
            }
            Event::Sample { step, question, wanted, given, .. } => {
                self.answer += 1;
                let tag = format!("samples/{}", self.answer);
                self.trackers.text(*step, time, &tag, &sample_text(question, wanted, given));
            }
            _ => {}
        }
    }

    /// Ends the run for the trackers and waits a bounded time for what is under way.
    pub(super) fn finish(&mut self, status: Status, time: f64, run: &str) -> Vec<String> {
        self.ended = true;
        let status = match status {
            Status::Succeeded => RunStatus::Finished,
            Status::Failed => RunStatus::Failed,
            Status::Cancelled | Status::Preempted => RunStatus::Stopped,
        };
        let left = self.trackers.finish(status, time);
        let mut messages = self.warnings();
        for (name, delivery) in left {
            if let Delivery::Pending { bytes } = delivery {
                messages.push(format!(
                    "{bytes} bytes for {name} are left in the run folder; send them with \
                     `rekindle runs sync {run}`"
                ));
            }
        }
        messages
    }

    /// What has gone wrong since this was asked last.
    pub(super) fn warnings(&mut self) -> Vec<String> {
        self.warnings.try_iter().collect()
    }
}

impl Drop for RunTrackers {
    /// A run that ends by an error may not come to say so; its trackers still learn of it.
    fn drop(&mut self) {
        if !self.ended && !self.trackers.is_empty() && !std::thread::panicking() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.trackers.finish(RunStatus::Failed, now.as_secs_f64());
        }
    }
}

fn left_out(warnings: &Sender<String>, name: &str, error: &TrackError) {
    // Nobody listens any more once the run has ended.
    let _ = warnings.send(format!("{name} is left out from here on: {error}"));
}

fn spool(
    plan: &Plan,
    report: &MlflowReport,
    credentials: &Credentials,
    warnings: Sender<String>,
) -> Result<Mlflow, TrackError> {
    let run = RunInfo {
        experiment: report.experiment.clone(),
        run_name: report.run_name.clone().unwrap_or_else(|| plan.name()),
        tags: vec![
            ("rekindle.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("rekindle.method".to_owned(), plan.method_name().to_owned()),
        ],
    };
    let server = report.server(credentials.clone())?;
    let folder: &Path = &plan.run_dir.join(MLFLOW);
    Mlflow::open(folder, server, &run, move |notice| {
        // As above: the last notices may come after the end.
        let _ = warnings.send(notice.to_string());
    })
}

/// The resolved recipe, key by dotted key; texts stand without quotes.
fn parameters(plan: &Plan) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(toml::Value::Table(table)) = toml::Value::try_from(&plan.recipe) {
        flatten("", &table, &mut found);
    }
    found
}

fn flatten(prefix: &str, table: &toml::Table, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                flatten(&format!("{key}."), inner, found);
            }
            toml::Value::String(text) => found.push((key, text.clone())),
            other => found.push((key, other.to_string())),
        }
    }
}

fn step_values(event: &Event) -> Vec<(&'static str, f64)> {
    let &Event::Step { loss, grad_norm, learning_rate, tokens_per_second, memory_bytes, .. } =
        event
    else {
        return Vec::new();
    };
    let mut values = vec![
        ("train/loss", loss),
        ("train/grad_norm", grad_norm),
        ("train/learning_rate", learning_rate),
        ("train/tokens_per_second", tokens_per_second),
    ];
    values.extend(memory_bytes.map(|bytes| ("train/memory_bytes", bytes as f64)));
    values
}

fn eval_values(event: &Event) -> Vec<(&'static str, f64)> {
    let &Event::Eval { loss, perplexity, exact_match, .. } = event else { return Vec::new() };
    let mut values = vec![("eval/loss", loss), ("eval/perplexity", perplexity)];
    values.extend(exact_match.map(|rate| ("eval/exact_match", rate)));
    values
}

/// An answer as Markdown, quoted line by line so that nothing in it counts as a heading.
fn sample_text(question: &str, wanted: &str, given: &str) -> String {
    let part = |title: &str, text: &str| {
        let lines: Vec<String> = text.trim().lines().map(|line| format!("> {line}")).collect();
        format!("**{title}**\n\n{}", lines.join("\n"))
    };
    [part("question", question), part("wanted", wanted), part("given", given)].join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn parameters_are_the_resolved_recipe_by_dotted_key() {
        let text = "model = \"m\"\ndata.train = \"t\"\n[method.lora]\nr = 4\n[report.mlflow]\n";
        let plan = Plan::resolve(Recipe::parse(text, "r.toml").unwrap(), "r").unwrap();
        let found = parameters(&plan);
        let value = |key: &str| {
            let pair = found.iter().find(|(name, _)| name == key);
            pair.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("method.lora.r"), Some("4"));
        assert_eq!(value("model"), Some("m"));
        assert_eq!(value("train.learning_rate"), Some("0.0002"));
        assert_eq!(value("report.mlflow.run_name"), Some("r"));
    }

    #[test]
    fn a_sample_cannot_become_a_heading() {
        let text = sample_text("# a\n\nb", "", "- c");
        assert_eq!(text, "**question**\n\n> # a\n> \n> b\n\n**wanted**\n\n\n\n**given**\n\n> - c");
    }
}
