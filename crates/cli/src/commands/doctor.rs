//! `rekindle doctor`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::FloatDType;
use clap::Args;
use rekindle_kernels::{Check, self_check};
use rekindle_recipe::Invariance;
use serde_json::{Value, json};

use super::train::resolve;
use crate::device;

/// The number formats models are held in.
const FORMATS: [(&str, FloatDType); 3] =
    [("f32", FloatDType::F32), ("bf16", FloatDType::BF16), ("f16", FloatDType::F16)];

/// Arguments of `rekindle doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Proves on a recipe's own model and rows that splits, packing, padding and recomputation
    /// give one gradient.
    #[arg(long, requires = "recipe")]
    invariance: bool,
    /// The recipe.
    #[arg(short = 'c', long = "config", value_name = "RECIPE", requires = "invariance")]
    recipe: Option<PathBuf>,
    /// Sets one value of the recipe: `--set train.batch_size=4`.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "invariance")]
    set: Vec<String>,
    /// Where to compute.
    #[arg(long, default_value = "auto", requires = "invariance", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// Another device whose gradient is compared; may be given several times.
    #[arg(long, value_name = "DEVICE", requires = "invariance")]
    against: Vec<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Compares the ways of computing a step of `recipe`.
fn invariance(arguments: &Arguments, recipe: &Path) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let others = arguments.against.iter().map(|name| Ok((name.clone(), device::open(name)?)));
    let others = others.collect::<Result<Vec<_>>>()?;
    let (plan, _) = resolve(recipe, arguments.set.clone())?;
    let found = Invariance::measure(&plan, &device, &others)?;
    if arguments.json {
        println!("{:#}", serde_json::to_value(&found)?);
    } else {
        let Invariance { rows, targets, loss, .. } = &found;
        println!("the first step: {rows} rows, {targets} target tokens, loss {loss:.6}\n");
        println!("{:<30}{:>14}{:>14}{:>10}", "", "loss", "gradient", "limit");
        for it in &found.deviations {
            let verdict = if it.passes() { "" } else { "  differs" };
            let (what, loss, gradient, limit) = (&it.what, it.loss, it.gradient, it.limit);
            println!("{what:<30}{loss:>14.1e}{gradient:>14.1e}{limit:>10.0e}{verdict}");
        }
    }
    Ok(if found.passes() { 0 } else { 1 })
}

/// What was found about one backend: whether each of the number formats it has computes rightly.
struct Backend {
    name: &'static str,
    checks: Result<Vec<(&'static str, Outcome)>, String>,
}

/// The checks in one number format, or what the device said instead.
type Outcome = Result<Vec<Check>, String>;

impl Backend {
    fn examine(name: &'static str) -> Self {
        let checks = device::open(name).map_err(|error| format!("{error:#}")).and_then(|device| {
            let formats = FORMATS.iter().filter(|(_, format)| device.supports_dtype(*format));
            let checks: Vec<_> =
                formats.map(|&(name, format)| (name, self_check(&device, format))).collect();
            match checks.is_empty() {
                true => Err("it has none of the number formats of models".to_owned()),
                false => Ok(checks),
            }
        });
        Self { name, checks }
    }

    fn is_healthy(&self) -> bool {
        let sound =
            |checks: &Outcome| checks.as_ref().is_ok_and(|checks| checks.iter().all(Check::passes));
        self.checks.as_ref().is_ok_and(|formats| formats.iter().all(|(_, checks)| sound(checks)))
    }

    fn json(&self) -> Value {
        let check = |check: &Check| {
            let Check { what, difference, limit } = check;
            json!({ "what": what, "difference": difference, "limit": limit, "passes": check.passes() })
        };
        match &self.checks {
            Err(message) => json!({ "name": self.name, "failure": message }),
            Ok(formats) => {
                let formats = formats.iter().map(|(format, checks)| match checks {
                    Err(message) => json!({ "format": format, "failure": message }),
                    Ok(checks) => {
                        let checks: Vec<Value> = checks.iter().map(check).collect();
                        json!({ "format": format, "checks": checks })
                    }
                });
                json!({ "name": self.name, "formats": formats.collect::<Vec<_>>() })
            }
        }
    }

    fn print(&self) {
        let name = self.name;
        let formats = match &self.checks {
            Err(message) => return println!("{name}: fails: {message}"),
            Ok(formats) => formats,
        };
        for (format, checks) in formats {
            let checks = match checks {
                Err(message) => {
                    println!("{name}, {format}: fails: {message}");
                    continue;
                }
                Ok(checks) => checks,
            };
            let failed: Vec<_> = checks.iter().filter(|check| !check.passes()).collect();
            let worst = checks.iter().fold(0.0f64, |worst, check| worst.max(check.difference));
            if failed.is_empty() {
                let n = checks.len();
                println!(
                    "{name}, {format}: works, {n} operations differ from f64 by at most {worst:.1e}"
                );
            }
            for Check { what, difference, limit } in failed {
                println!(
                    "{name}, {format}: wrong: {what} differs by {difference:.1e}, limit {limit:.0e}"
                );
            }
        }
    }
}

/// Says which backends this build has and whether each computes rightly.
pub fn run(arguments: &Arguments) -> Result<u8> {
    if let Some(recipe) = &arguments.recipe {
        return invariance(arguments, recipe);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backends: Vec<Backend> = device::backends().into_iter().map(Backend::examine).collect();
    let (version, os, arch) =
        (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    if arguments.json {
        let backends: Vec<Value> = backends.iter().map(Backend::json).collect();
        println!(
            "{:#}",
            json!({
                "version": version,
                "os": os,
                "arch": arch,
                "threads": threads,
                "backends": backends,
            })
        );
    } else {
        println!("rekindle {version} on {arch}-{os}");
        println!("{threads} threads");
        backends.iter().for_each(Backend::print);
    }
    Ok(if backends.iter().all(Backend::is_healthy) { 0 } else { 1 })
}
