//! `rekindle data`.

mod batches;
mod render;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use rekindle_data::{
    self as data, DateTime, Format, ReadOptions, ReadReport, RenderReport, RowSample, Style,
    TooLong,
};
use rekindle_recipe::recipe::Init;
use rekindle_recipe::{OpenModel, RunError};

/// Commands on datasets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the first rows as the model will see them, with roles and trained tokens marked.
    Preview(Preview),
    /// Writes out conversations by a chat template, as they stand, without looking at their order.
    Render(render::Arguments),
    /// Writes the rows of a recipe's first steps as the loop gets them.
    #[command(hide = true)]
    Batches(batches::Arguments),
}

/// Arguments of `rekindle data preview`.
#[derive(Debug, Args)]
pub struct Preview {
    /// The dataset.
    data: PathBuf,
    /// The model whose tokenizer and template are used.
    #[arg(long)]
    model: PathBuf,
    /// Layout of the rows; found from the rows if not given.
    #[arg(long, default_value = "auto")]
    format: Format,
    /// A chat template file, or `chatml`, instead of the model's own.
    #[arg(long)]
    template: Option<String>,
    /// The time that `strftime_now` gives, such as 2026-11-25T12:00:00.
    #[arg(long)]
    now: Option<DateTime>,
    /// Rows to show.
    #[arg(short, long, default_value_t = 3)]
    n: usize,
    /// Longest row in tokens.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// What becomes of longer rows: truncate_right, truncate_left, split, drop or error.
    #[arg(long, default_value_t)]
    too_long: TooLong,
    /// Marks instead of colours.
    #[arg(long)]
    plain: bool,
}

/// Runs a command on datasets.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Preview(arguments) => preview(arguments),
        Command::Render(arguments) => render::run(arguments),
        Command::Batches(arguments) => batches::run(arguments),
    }
}

fn preview(arguments: &Preview) -> Result<u8> {
    let options = ReadOptions { format: arguments.format, ..ReadOptions::default() };
    let report = data::read(&arguments.data, &options).map_err(RunError::from)?;
    // Without weights a folder still has a tokenizer, and that is all a preview needs.
    let model = OpenModel::open(&arguments.model, Init::Pretrained)?;
    let text = model.text(arguments.template.as_deref())?.at(arguments.now);
    let renderer = text.renderer(arguments.max_tokens, arguments.too_long);
    let style = match arguments.plain || !std::io::stdout().is_terminal() {
        true => Style::Plain,
        false => Style::Ansi,
    };
    let rendered = renderer.render_all(&report.records).map_err(RunError::from)?;
    for RowSample { row, start, sample } in rendered.samples.iter().take(arguments.n) {
        let located = report.records.iter().find(|located| located.row == *row);
        let roles = located.map(|it| renderer.roles(&it.record)).transpose();
        let roles = roles.map_err(RunError::from)?.unwrap_or_default();
        let tokens = sample.tokens.len();
        let at = if *start > 0 { format!(" from token {start} on") } else { String::new() };
        println!("row {row}{at}: {tokens} tokens, {} trained", sample.n_targets());
        let roles = roles.get(*start..).unwrap_or_default();
        let shown = data::preview(sample, roles, &text.tokenizer, style);
        println!("{}\n", shown.map_err(RunError::from)?);
    }
    for reject in report.rejects.iter().chain(&rendered.rejects).take(10) {
        println!("line {}: {}", reject.line, reject.reason);
    }
    totals(&report, &rendered, renderer.max_tokens)
}

/// What became of all rows, and into how many they would be packed.
fn totals(report: &ReadReport, rendered: &RenderReport, max_tokens: usize) -> Result<u8> {
    let not = report.rejects.len() + rendered.rejects.len();
    let rows = report.records.len() + report.rejects.len();
    println!(
        "{rows} rows (format {}): {} usable, {not} not; {} of {} tokens are trained ({:.1} %)",
        report.format,
        rows - not,
        rendered.target_tokens,
        rendered.total_tokens,
        100.0 * rendered.target_tokens as f64 / rendered.total_tokens.max(1) as f64
    );
    println!("with at most {max_tokens} tokens a row, {}", rendered.lengths);
    let samples = rendered.samples.iter();
    let lengths: Vec<usize> = samples.map(|it| it.sample.tokens.len()).collect();
    let packed = data::pack(&lengths, max_tokens).map_err(data::DataError::from);
    let packed = packed.map_err(RunError::from)?.len();
    let room = packed as f64 * max_tokens as f64;
    println!(
        "packed, {} samples fill {packed} rows to {:.1} %",
        lengths.len(),
        100.0 * rendered.total_tokens as f64 / room.max(1.0)
    );
    Ok(0)
}
