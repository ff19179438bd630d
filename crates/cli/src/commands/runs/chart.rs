//! `rekindle runs chart`.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ratatui::crossterm::terminal;
use rekindle_recipe::RunError;
use rekindle_recipe::curve::loss_curve_svg;

use super::Place;
use crate::dashboard::chart::Curve;
use crate::host;

/// Columns where there is no terminal to ask.
const WIDTH: u16 = 80;

/// Below this width the dots of braille say no more than stars.
const NARROW: u16 = 40;

/// Arguments of `rekindle runs chart`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its name in the folder of runs, or its own folder.
    run: String,
    #[command(flatten)]
    place: Place,
    /// Writes a drawing into this file instead.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Columns; those of the terminal unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=400))]
    width: Option<u16>,
    /// Lines.
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(5..=200))]
    height: u16,
    /// Draws with ASCII characters alone, as is done below 40 columns.
    #[arg(long)]
    ascii: bool,
}

/// Draws the loss of updates and evaluations.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let run = arguments.place.find(&arguments.run)?;
    for problem in &run.problems {
        eprintln!("note: {problem}");
    }
    let (train, validation) = (run.history.curve(|point| point.loss), run.history.eval_curve());
    if let Some(path) = &arguments.svg {
        let svg = loss_curve_svg(&train, &validation, &run.name);
        std::fs::write(path, svg).map_err(|source| RunError::Io { path: path.clone(), source })?;
        eprintln!("drawn into {}", path.display());
        return Ok(0);
    }
    let width = arguments.width.unwrap_or_else(columns);
    let ascii = arguments.ascii || width < NARROW || (stdout().is_terminal() && host::is_dumb());
    let curve = Curve { title: "loss (nats per token) by step", train, validation };
    let lines = curve.lines(width, arguments.height, ascii);
    lines.iter().for_each(|line| println!("{line}"));
    Ok(0)
}

fn columns() -> u16 {
    let size = stdout().is_terminal().then(|| terminal::size().ok()).flatten();
    size.map_or(WIDTH, |(columns, _)| columns.clamp(10, 400))
}
