//! `rekindle reproduce`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use rekindle_recipe::events::Status;
use rekindle_recipe::reproduce::{Comparison, Fact, Original, Quantity};
use rekindle_recipe::{RunOptions, runs};

use super::train;
use crate::watch::Watcher;
use crate::{device, host};

/// Exit code of a reproduction that differs by more than the tolerance.
const DIFFERS: u8 = 8;

/// Characters of a hash that a table shows.
const SHOWN: usize = 16;

/// Arguments of `rekindle reproduce`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its name in the folder of runs, or its own folder.
    run: String,
    /// The folder of the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    dir: PathBuf,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// The folder to run in; `RUN-reproduced` beside the run if not given.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Replaces an earlier run in that folder.
    #[arg(long)]
    overwrite: bool,
    /// Largest relative difference that passes; 0 wants the same bits. Without it: 0 on the same
    /// device and as many threads, and 1e-3 elsewhere.
    #[arg(long, value_name = "NUMBER")]
    tolerance: Option<f64>,
    /// Compares every byte of the base model too; the run must have been made with the same option.
    #[arg(long)]
    full_hash: bool,
    /// Prints the comparison as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Trains as the run did and compares.
pub fn run(arguments: &Arguments) -> Result<u8> {
    if arguments.tolerance.is_some_and(|it| !(0.0..1.0).contains(&it)) {
        bail!("`--tolerance` is no share: wanted 0 or more and below 1, such as 1e-3");
    }
    let device = device::open(&arguments.device)?;
    let found = runs::find(&arguments.dir, &arguments.run)?;
    let original = Original::open(&found.dir)?;
    if arguments.full_hash && !original.has_full_hash() {
        bail!(
            "`{}` kept no hash of every byte of its model: it was trained without `--full-hash`",
            found.name
        );
    }
    original.check_inputs(arguments.full_hash)?;
    let output = arguments.output.clone().unwrap_or_else(|| original.beside());
    let plan = original.plan(&output)?;
    let options = RunOptions {
        overwrite: arguments.overwrite,
        stop: train::stop_flag()?,
        host: host::of(&device),
        full_hash: arguments.full_hash,
        allow_nonfinite_base: true,
        ..RunOptions::default()
    };
    let mut watcher = Watcher::lines(arguments.json || host::is_dumb());
    let listener = &mut |event: &_| watcher.event(event);
    let summary = rekindle_recipe::run(&plan, &plan.to_toml()?, &device, &options, listener)?;
    match summary.status {
        Status::Cancelled => return Ok(130),
        Status::Preempted => return Ok(75),
        _ => {}
    }
    let comparison = original.compare(&output, arguments.tolerance)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        lines(&comparison).iter().for_each(|line| println!("{line}"));
    }
    Ok(if comparison.reproduced { 0 } else { DIFFERS })
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{:<18}{:<18} {:<18}", "", "run", "reproduction")];
    lines.extend(comparison.facts.iter().filter_map(fact));
    lines.push(String::new());
    lines.extend(comparison.quantities.iter().map(quantity));
    for weights in &comparison.weights {
        lines.push(format!("{:<18}{}", "weights", weights.words()));
        lines.push(format!("{:<18}{}", "", weights.file));
    }
    if comparison.weights.is_empty() {
        let why = "not compared: the run kept no adapter, no merged model and no checkpoint";
        lines.push(format!("{:<18}{why}", "weights"));
    }
    lines.push(String::new());
    let tolerance = comparison.tolerance;
    lines.push(match &comparison.first_difference {
        _ if comparison.bit_equal => "reproduced: every number has the same bits".to_owned(),
        None => format!("reproduced within a relative difference of {tolerance}"),
        Some(first) if tolerance == 0.0 => format!("not reproduced: first differs {first}"),
        Some(first) => format!(
            "not reproduced within a relative difference of {tolerance}: first differs {first}"
        ),
    });
    lines
}

/// One fact; none if neither run knows it.
fn fact(fact: &Fact) -> Option<String> {
    let [original, reproduced] =
        [&fact.original, &fact.reproduced].map(|it| it.as_deref().map(short));
    if original.is_none() && reproduced.is_none() {
        return None;
    }
    let mark = if fact.same() == Some(false) { "  differs" } else { "" };
    let unknown = || "-".to_owned();
    let (original, reproduced) =
        (original.unwrap_or_else(unknown), reproduced.unwrap_or_else(unknown));
    Some(format!("{:<18}{original:<18} {reproduced:<18}{mark}", fact.name).trim_end().to_owned())
}

/// The first characters, which are enough for a hash.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn quantity(it: &Quantity) -> String {
    let missing = match it.missing {
        0 => String::new(),
        count => format!(", {count} in one run alone"),
    };
    let verdict = match it.first_step {
        None => "bit-equal".to_owned(),
        Some(step) => format!(
            "from step {step} on, largest difference {:.3e}, relative {:.3e}",
            it.largest, it.largest_relative
        ),
    };
    format!("{:<18}{} compared{missing}: {verdict}", it.name, it.compared)
}
