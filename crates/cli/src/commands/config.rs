//! `rekindle config`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use rekindle_recipe::{Plan, schema};

use super::train;

/// Commands on recipes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Finds mistakes without loading anything.
    Check(Input),
    /// Prints the recipe with every default filled in.
    Show(Input),
    /// Prints the JSON Schema of recipes.
    Schema,
}

/// A recipe and changes to it.
#[derive(Debug, Args)]
pub struct Input {
    /// The recipe.
    recipe: PathBuf,
    /// Sets one value: `--set train.learning_rate=1e-4`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs a command on recipes.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Check(input) => {
            resolve(input)?;
            println!("{}: no mistakes found", input.recipe.display());
        }
        Command::Show(input) => print!("{}", resolve(input)?.to_toml()?),
        Command::Schema => println!("{:#}", schema::json_schema()),
    }
    Ok(0)
}

fn resolve(input: &Input) -> Result<Plan> {
    Ok(train::resolve(&input.recipe, input.set.clone())?.0)
}
