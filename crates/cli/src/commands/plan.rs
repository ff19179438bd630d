//! `rekindle plan`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use rekindle_kernels::length_multiple;
use rekindle_recipe::forecast::{Change, Machine, measured_rate};
use rekindle_recipe::{Forecast, Plan, Prepared};
use serde_json::json;

use super::train::resolve;
use crate::{device, host};

/// Part of the measured rate of products that a whole step reaches.
const EFFICIENCY: f64 = 0.6;

/// Arguments of `rekindle plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe.
    recipe: PathBuf,
    /// Sets one value: `--set train.recompute=all`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// Memory of the device, such as `24GiB`; what is free, where the processor computes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Says what a run will need; loads data and tokenizer, but no weights.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let (plan, _) = resolve(&arguments.recipe, arguments.set.clone())?;
    plan.check_device(&device)?;
    let multiple = length_multiple(&device);
    let Prepared { model, text, dataset } = Prepared::of(&plan, multiple)?;
    let machine = Machine::new(&text, &device);
    let forecast = Forecast::of(&plan, &model.arch, &dataset, machine)?;
    let budget = arguments.memory.or_else(|| machine.is_host.then(host::free_memory).flatten());
    let seconds = forecast.flops / (EFFICIENCY * measured_rate(&device, plan.dtype()));
    let over = budget.is_some_and(|budget| forecast.peak_bytes > budget);
    let changes = match budget.filter(|_| over) {
        Some(budget) => forecast.cheaper(&plan, &model.arch, &dataset, machine, budget)?,
        None => Vec::new(),
    };
    if arguments.json {
        let value = json!({
            "forecast": forecast,
            "budget_bytes": budget,
            "over_budget": over,
            "changes": changes,
            "seconds": seconds,
        });
        println!("{value:#}");
    } else {
        print(&plan, &forecast, budget, seconds);
        print_changes(&changes, budget.filter(|_| over));
    }
    Ok(if over { 5 } else { 0 })
}

fn print(plan: &Plan, forecast: &Forecast, budget: Option<u64>, seconds: f64) {
    let Forecast { steps, steps_per_epoch, rows, seq, .. } = forecast;
    println!("{} of {}", plan.method_name(), plan.recipe.model.display());
    println!(
        "  trains {} of {} parameters, a checkpoint takes {}",
        forecast.trainable_parameters,
        forecast.total_parameters,
        bytes(forecast.checkpoint_bytes)
    );
    println!(
        "  {steps} steps, {steps_per_epoch} an epoch; {} tokens, {} of them targets",
        forecast.tokens, forecast.target_tokens
    );
    println!("  {:.3e} operations, about {}", forecast.flops, duration(seconds));
    println!("\nmemory, with a largest micro-batch of {rows} rows of {seq} tokens:");
    for part in forecast.parts.iter().filter(|part| part.bytes > 0) {
        println!("  {:<24}{:>12}", part.name, bytes(part.bytes));
    }
    println!("  {:<24}{:>12}", "at once, at most", bytes(forecast.peak_bytes));
    match budget {
        Some(budget) => println!("  {:<24}{:>12}", "there is", bytes(budget)),
        None => println!("  how much the device has is not known; say it with `--memory`"),
    }
}

fn print_changes(changes: &[Change], over: Option<u64>) {
    let Some(budget) = over else { return };
    println!("\nthis does not fit; what would help, cheapest first:");
    for Change { set, cost, peak_bytes } in changes {
        let fits = if *peak_bytes <= budget { "fits" } else { "not yet enough" };
        println!("  --set {set}\n      {}, {fits}: {cost}", bytes(*peak_bytes));
    }
    if changes.is_empty() {
        println!("  nothing that a recipe can change; use a smaller model or more memory");
    }
}

fn bytes(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 1.0 { format!("{gib:.2} GiB") } else { format!("{:.1} MiB", gib * 1024.0) }
}

fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 90.0 => format!("{seconds:.0} s"),
        _ if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// A size such as `24GiB`, `800 MB` or a number of bytes.
fn size(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: f64 = number.parse().with_context(|| format!("`{text}` has no number"))?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "mb" => 1e6,
        "gb" => 1e9,
        "m" | "mib" => f64::from(1 << 20),
        "g" | "gib" => f64::from(1 << 30),
        other => bail!("`{other}` is no unit of memory; wanted MiB, GiB, MB or GB"),
    };
    Ok((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_units_that_people_write() {
        for (text, bytes) in
            [("24GiB", 24 << 30), ("1.5 G", 3 << 29), ("800MB", 800_000_000), ("4096", 4096)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "3 parsecs"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
