//! `rekindle data batches`: what a run trains on, for other programs to train on the same.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use rekindle_recipe::Prepared;
use rekindle_recipe::run::loader;
use serde_json::{Value, json};

use crate::commands::train;

/// Arguments of `rekindle data batches`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe.
    #[arg(long)]
    recipe: PathBuf,
    /// How many steps are written.
    #[arg(long)]
    steps: usize,
    /// A JSON file: a list of steps, each a list of samples with `tokens` and `target`.
    #[arg(short, long)]
    output: PathBuf,
}

/// Writes the steps; a row's `target` says for each token whether it is trained.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let (plan, _) = train::resolve(&arguments.recipe, Vec::new())?;
    // On a processor nothing is padded, and what is written has no padding.
    let Prepared { dataset, .. } = Prepared::of(&plan, 1)?;
    let mut loader = loader(&plan, &dataset)?;
    let mut steps = Vec::with_capacity(arguments.steps);
    while let Some(step) = (steps.len() < arguments.steps).then(|| loader.next()).flatten() {
        let rows = step.into_iter().flatten().flatten().map(|row| &loader.samples()[row]);
        let rows: Vec<Value> = rows
            .map(|sample| json!({ "tokens": sample.tokens, "target": sample.target }))
            .collect();
        steps.push(rows);
    }
    std::fs::write(&arguments.output, serde_json::to_vec(&steps)?)
        .with_context(|| format!("cannot write `{}`", arguments.output.display()))?;
    println!("{}", arguments.output.display());
    Ok(0)
}
