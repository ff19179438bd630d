//! `rekindle runs show`.

use anyhow::Result;
use clap::Args;
use rekindle_recipe::runs::{Overview, Run};
use serde_json::{Value, json};

use super::{Place, figure};
use crate::words;

/// Newest evaluations that are shown; JSON has them all.
const EVALS: usize = 10;

/// Arguments of `rekindle runs show`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its name in the folder of runs, or its own folder.
    run: String,
    #[command(flatten)]
    place: Place,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what a run folder tells.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let run = arguments.place.find(&arguments.run)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&json_of(&run)?)?);
    } else {
        text(&run).iter().for_each(|line| println!("{}", words::clean(line)));
    }
    Ok(0)
}

fn json_of(run: &Run) -> Result<Value> {
    let history = &run.history;
    let mut all = serde_json::to_value(Overview::of(run))?;
    let finite = |value: f64| value.is_finite().then_some(value);
    let evals = history.evals.iter().map(|it| {
        json!({
            "step": it.step,
            "split": it.split,
            "loss": finite(it.loss),
            "perplexity": finite(it.perplexity),
            "exact_match": it.exact_match,
        })
    });
    let samples = history.samples.iter().map(|it| {
        json!({
            "step": it.step,
            "question": it.question,
            "wanted": it.wanted,
            "given": it.given,
        })
    });
    let pairs = |list: &[(String, std::path::PathBuf)]| {
        list.iter().map(|(kind, path)| json!({ "kind": kind, "path": path })).collect::<Vec<_>>()
    };
    let checkpoints = history.checkpoints.iter();
    all["evals"] = evals.collect();
    all["samples"] = samples.collect();
    all["checkpoints"] =
        checkpoints.map(|(step, path)| json!({ "step": step, "path": path })).collect();
    all["exports"] = pairs(&history.exports).into();
    all["warnings"] = json!(history.warnings);
    all["data"] = json!(history.data);
    all["environment"] = json!(history.environment);
    all["settings"] = json!(run.settings);
    Ok(all)
}

fn text(run: &Run) -> Vec<String> {
    let row = Overview::of(run);
    let history = &run.history;
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match row.pid {
        Some(pid) => format!("{} as process {pid}", row.state.name()),
        None => row.state.name().to_owned(),
    };
    let total = or(row.total_steps.map(|it| it.to_string()));
    let eta = row.seconds_left.map(|it| format!(", {} left", words::duration(it)));
    let mut lines = vec![
        field("run", &row.name),
        field("folder", &row.path.display().to_string()),
        field("status", &state),
        field("method", &or(row.method.clone())),
        field("model", &or(row.model.clone())),
        field("steps", &format!("{}/{total}{}", row.steps, eta.unwrap_or_default())),
        field("loss", &figure(row.loss)),
        field("tokens/s", &figure(row.tokens_per_second)),
        field("size", &words::bytes(row.bytes)),
    ];
    lines.extend(surroundings(run));
    let evals = &history.evals[history.evals.len().saturating_sub(EVALS)..];
    section(
        &mut lines,
        "evaluations",
        evals.iter().map(|it| {
            let exact = it.exact_match.map(|rate| format!(", exact match {:.1} %", 100.0 * rate));
            let (loss, exact) = (words::number(it.loss), exact.unwrap_or_default());
            format!("step {}: {} loss {loss}{exact}", it.step, it.split)
        }),
    );
    let checkpoints = history.checkpoints.iter();
    // Older ones are deleted as a run goes on.
    let kept = checkpoints.filter(|(_, path)| path.exists() || run.dir.join(path).exists());
    section(
        &mut lines,
        "checkpoints",
        kept.map(|(step, path)| format!("step {step}: {}", path.display())),
    );
    section(
        &mut lines,
        "results",
        history.exports.iter().map(|(kind, path)| format!("{kind}: {}", path.display())),
    );
    section(&mut lines, "warnings", history.warnings.iter().cloned());
    section(&mut lines, "damaged", run.problems.iter().cloned());
    section(
        &mut lines,
        "settings",
        run.settings.0.iter().map(|(key, value)| format!("{key} = {value}")),
    );
    if history.unknown > 0 {
        let note = format!("{} events of a newer version are not shown", history.unknown);
        section(&mut lines, "notes", std::iter::once(note));
    }
    lines
}

/// Data and machine, as far as the events tell of them.
fn surroundings(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(data) = &run.history.data {
        let rejected: u64 = data.rejected.values().sum();
        lines.push(field(
            "data",
            &format!(
                "{} training rows, {} validation rows, {:.1} % of {} tokens trained on, {} cut, \
             {} repeated, {rejected} left out",
                data.train_rows,
                data.validation_rows,
                100.0 * data.target_share(),
                data.total_tokens,
                data.truncated,
                data.duplicates
            ),
        ));
    }
    if let Some(started) = &run.history.started {
        lines.push(field("device", &started.device));
    }
    if let Some(about) = &run.history.environment {
        let cpu = about.cpu.as_deref().unwrap_or("an unnamed processor");
        let (version, os, arch) = (&about.version, &about.os, &about.arch);
        lines.push(field("made by", &format!("rekindle {version} on {arch}-{os}, {cpu}")));
    }
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("{name:<12}{value}")
}

fn section(lines: &mut Vec<String>, name: &str, rows: impl Iterator<Item = String>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        lines.push(String::new());
        lines.push(name.to_owned());
        lines.extend(rows.map(|row| format!("  {row}")));
    }
}
