//! `rekindle train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rekindle_recipe::events::Status;
use rekindle_recipe::run::report;
use rekindle_recipe::{
    Credentials, Plan, Resume, RunError, RunOptions, RunSummary, SourceError, set,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::watch::Watcher;
use crate::{device, host};

/// Arguments of `rekindle train`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe.
    recipe: PathBuf,
    /// Sets one value: `--set train.learning_rate=1e-4`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// The run's folder.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Continues a run from its newest whole checkpoint, or from the one named.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, require_equals = true)]
    resume: Option<Option<PathBuf>>,
    /// Replaces an earlier run in the same folder.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Saves a checkpoint and stops after this step, to be resumed later.
    #[arg(long, value_name = "STEP")]
    stop_after: Option<u64>,
    /// Trains on a base model even if some of its weights are NaN or infinite.
    #[arg(long)]
    allow_nonfinite_base: bool,
    /// Hashes every byte of the base model, so that `reproduce --full-hash` can compare it.
    #[arg(long)]
    full_hash: bool,
    /// Shows the run on a dashboard; plain lines where there is no terminal.
    #[arg(long)]
    tui: bool,
    /// Plain lines even on a terminal.
    #[arg(long)]
    plain: bool,
    /// Prints every event on standard output as it happens.
    #[arg(long, value_name = "FORMAT")]
    events: Option<Stream>,
    /// Prints the summary as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stream {
    /// A line of JSON each, as in the run's `events.jsonl`.
    Json,
}

/// Trains and prints where the results are.
pub fn run(arguments: &Arguments) -> Result<u8> {
    // First of all: a signal that comes while a device is opened is heard.
    let wants_dashboard = wants_dashboard(arguments);
    let has_dashboard = wants_dashboard && host::has_screen();
    let stop = if has_dashboard { heard(&SIGNALS)? } else { stop_flag()? };
    let save = save_flag()?;
    let device = device::open(&arguments.device)?;
    let (plan, text) = plan(arguments)?;
    if wants_dashboard && !has_dashboard {
        eprintln!("note: there is no terminal for `--tui`; plain lines instead");
    }
    let mut watcher = match has_dashboard {
        true => {
            let resumed = arguments.resume.is_some().then_some(plan.run_dir.as_path());
            Watcher::dashboard(Arc::clone(&stop), resumed)?
        }
        false => lines(arguments),
    };
    let options = RunOptions {
        resume: match &arguments.resume {
            None => Resume::No,
            Some(None) => Resume::Newest,
            Some(Some(path)) => Resume::From(path.clone()),
        },
        overwrite: arguments.overwrite,
        stop,
        save,
        stop_after: arguments.stop_after,
        allow_nonfinite_base: arguments.allow_nonfinite_base,
        host: host::of(&device),
        credentials: credentials(&plan)?,
        full_hash: arguments.full_hash,
    };
    let listener = &mut |event: &_| watcher.event(event);
    let summary = rekindle_recipe::run(&plan, &text, &device, &options, listener);
    // The terminal is given back before anything is printed on it.
    watcher.close();
    let summary = summary
        .map_err(|error| at_their_place(error, &text, &arguments.recipe.display().to_string()))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        table(&summary);
    }
    Ok(match summary.status {
        Status::Cancelled if arguments.stop_after.is_none() => 130,
        Status::Preempted => 75,
        _ => 0,
    })
}

/// How the run logs in at its tracking server; the environment is read only where there is one.
fn credentials(plan: &Plan) -> Result<Credentials> {
    if plan.recipe.report.mlflow.is_none() {
        return Ok(Credentials::none());
    }
    Ok(host::mlflow_credentials()?)
}

fn wants_dashboard(arguments: &Arguments) -> bool {
    arguments.tui && !arguments.plain && !arguments.json && arguments.events.is_none()
}

/// Who shows a run without a dashboard.
fn lines(arguments: &Arguments) -> Watcher {
    let stream = arguments.events.is_some();
    // Lines in a terminal's scroll and JSON would mix with a bar.
    let plain = arguments.plain || arguments.tui || stream || host::is_dumb();
    Watcher::lines(plain).with_stream(stream)
}

fn plan(arguments: &Arguments) -> Result<(Plan, String)> {
    let mut assignments = arguments.set.clone();
    if let Some(output) = &arguments.output {
        assignments.push(format!("output={:?}", output.display().to_string()));
    }
    resolve(&arguments.recipe, assignments)
}

/// The plan of the recipe at `path` with `assignments` made to it, and the recipe's text.
pub fn resolve(path: &Path, assignments: Vec<String>) -> Result<(Plan, String)> {
    let name = path.display().to_string();
    let text = super::read(path)?;
    let (recipe, text) = set::parse(&text, &name, &assignments).map_err(RunError::from)?;
    let stem = path.file_stem().map(|it| it.to_string_lossy().into_owned());
    let plan = Plan::resolve(recipe, &stem.unwrap_or_else(|| "run".to_owned()));
    Ok((plan.map_err(|error| at_their_place(error, &text, &name))?, text))
}

/// Shows the first of several problems at its place in the recipe; all are printed.
pub fn at_their_place(error: RunError, text: &str, name: &str) -> anyhow::Error {
    let RunError::Problems(problems) = &error else { return error.into() };
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| SourceError::from_problem(text, name, problem).render(false))
        .collect();
    // Whoever prints an error puts that word before it.
    let shown = shown.join("\n\n");
    anyhow::Error::msg(shown.strip_prefix("error: ").unwrap_or(&shown).to_owned())
}

/// Signals that stop a run.
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// A flag that becomes the number of the first signal; a second signal ends the program.
pub fn stop_flag() -> Result<Arc<AtomicUsize>> {
    let second = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        // The order matters: the first signal only arms the exit that the second one takes.
        signal_hook::flag::register_conditional_shutdown(signal, 130, second.clone())
            .context(LISTEN)?;
        signal_hook::flag::register(signal, second.clone()).context(LISTEN)?;
    }
    heard(&SIGNALS)
}

const LISTEN: &str = "cannot listen for signals";

/// A flag that becomes the number of a signal.
fn heard(signals: &[i32]) -> Result<Arc<AtomicUsize>> {
    let flag = Arc::new(AtomicUsize::new(0));
    for &signal in signals {
        signal_hook::flag::register_usize(signal, flag.clone(), signal as usize).context(LISTEN)?;
    }
    Ok(flag)
}

/// A flag that is set by the signal that asks for a checkpoint.
fn save_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, flag.clone()).context(LISTEN)?;
    Ok(flag)
}

/// Base against tuned, and where everything is.
pub fn table(summary: &RunSummary) {
    println!("\n{:<18}{:>18}{:>18}", "", "base", "tuned");
    for (name, base, tuned) in report::rows(&summary.base, &summary.tuned) {
        println!("{name:<18}{base:>18}{tuned:>18}");
    }
    println!();
    let page = summary.report.with_extension("html");
    let places = [
        ("report", Some(&summary.report)),
        ("report page", Some(&page)),
        ("curve", Some(&summary.curve)),
        ("adapter", summary.adapter.as_ref()),
        ("merged model", summary.merged.as_ref()),
    ];
    for (name, path) in places {
        if let Some(path) = path {
            println!("{name:<18}{}", path.display());
        }
    }
}
