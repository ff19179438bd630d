//! `rekindle runs rm`.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rekindle_recipe::runs;

use super::Place;

/// Arguments of `rekindle runs rm`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The runs: names in the folder of runs, or their own folders.
    #[arg(required = true)]
    runs: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Asks no question.
    #[arg(long)]
    yes: bool,
}

/// Removes run folders, one after the other, stopping at the first that is refused.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let folders: Vec<PathBuf> =
        arguments.runs.iter().map(|name| folder(&arguments.place.dir, name)).collect();
    if let Some(missing) = folders.iter().find(|dir| dir.symlink_metadata().is_err()) {
        // The message of a search names the runs there are.
        arguments.place.find(&missing.display().to_string())?;
    }
    if !arguments.yes && !confirmed(&folders)? {
        eprintln!("nothing was removed");
        return Ok(0);
    }
    for dir in folders {
        runs::remove(&dir)?;
        println!("removed {}", dir.display());
    }
    Ok(0)
}

/// The folder that is meant, whether or not it can be removed.
fn folder(root: &Path, name: &str) -> PathBuf {
    let inside = root.join(name);
    if inside.symlink_metadata().is_ok() { inside } else { PathBuf::from(name) }
}

fn confirmed(folders: &[PathBuf]) -> Result<bool> {
    if !stdin().is_terminal() {
        bail!("nobody can be asked here whether to remove; give `--yes`");
    }
    let names: Vec<String> = folders.iter().map(|dir| dir.display().to_string()).collect();
    let mut terminal = stderr();
    write!(terminal, "remove {} with all checkpoints and results? [y/N] ", names.join(", "))
        .and_then(|()| terminal.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
