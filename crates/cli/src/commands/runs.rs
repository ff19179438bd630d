//! `rekindle runs`.

mod chart;
mod compare;
mod list;
mod rm;
mod show;
mod stop;
mod sync;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use rekindle_recipe::runs::{self, Run};

/// Commands on run folders.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists runs, the newest last.
    List(list::Arguments),
    /// Shows everything of one run.
    Show(show::Arguments),
    /// Draws the loss of a run.
    Chart(chart::Arguments),
    /// Puts runs side by side: what differs in their settings, and how they did.
    Compare(compare::Arguments),
    /// Asks a run in progress to save a checkpoint and stop.
    Stop(stop::Arguments),
    /// Sends what a run has left in its spool for MLflow.
    Sync(sync::Arguments),
    /// Removes run folders.
    Rm(rm::Arguments),
}

/// Where runs are looked for.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The folder of the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    dir: PathBuf,
}

impl Place {
    fn find(&self, name: &str) -> Result<Run> {
        Ok(runs::find(&self.dir, name)?)
    }
}

/// Runs a command on run folders.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::List(arguments) => list::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Chart(arguments) => chart::run(arguments),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Stop(arguments) => stop::run(arguments),
        Command::Sync(arguments) => sync::run(arguments),
        Command::Rm(arguments) => rm::run(arguments),
    }
}

/// Rows as columns, each as wide as its widest cell; the first is left, the others right aligned.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &String| text.chars().count();
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(length).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// A figure, or `-`.
fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), crate::words::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(|it| (*it).to_owned()).collect();
        let rows = [row(&["name", "loss"]), row(&["é", "1.25", ""]), row(&["longer", "2"])];
        assert_eq!(columns(&rows), "name    loss\né       1.25\nlonger     2\n");
    }
}
