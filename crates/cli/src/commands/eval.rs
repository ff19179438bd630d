//! `rekindle eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use rekindle_data::Padding;
use rekindle_kernels::length_multiple;
use rekindle_models::{Decoder, Generation};
use rekindle_recipe::dataset::Rows;
use rekindle_recipe::recipe::{DataSection, OnBadRow, RowFormat};
use rekindle_recipe::run::{EVAL_ROWS, report};
use rekindle_recipe::{Measured, RunError};

use super::{Which, recipe_of_run};
use crate::device;

/// Arguments of `rekindle eval`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The rows to measure on; a run's validation rows if not given.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Longest row in tokens; longer ones are cut.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Rows whose prompts are answered greedily and compared with the row's answer.
    #[arg(long, default_value_t = 0)]
    generate: usize,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Measures the base and, where there is an adapter, the tuned model.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let (section, rows) = rows(arguments)?;
    let ready = arguments.which.load(&device)?;
    let renderer = ready.text.renderer(section.max_tokens, rekindle_data::TooLong::TruncateRight);
    let dataset = rows.render(&section, &renderer, arguments.generate)?;
    let padding = Padding::new(&ready.text.tokenizer, length_multiple(&device));
    let greedy = Generation::greedy(ready.text.stop_ids.clone(), arguments.max_new_tokens);
    let measure = |model: &Decoder| -> Result<Measured> {
        let loss = rekindle_eval::loss(model, &dataset.validation, EVAL_ROWS, padding, &device);
        let answers = match dataset.questions.as_slice() {
            [] => None,
            questions => Some(
                rekindle_eval::exact_match(model, &ready.text.tokenizer, questions, &greedy)
                    .map_err(RunError::from)?,
            ),
        };
        Ok(Measured { loss, answers })
    };
    let base = measure(&ready.base)?;
    let tuned = ready.tuned.as_ref().map(|(model, _)| measure(model)).transpose()?;
    if arguments.json {
        println!("{}", serde_json::json!({ "base": base, "tuned": tuned }));
        return Ok(0);
    }
    println!("{:<18}{:>18}{:>18}", "", "base", "tuned");
    for (name, base, tuned) in report::rows(&base, &tuned.unwrap_or_default()) {
        println!("{name:<18}{base:>18}{tuned:>18}");
    }
    Ok(0)
}

/// The rows to measure on, as the validation part of a data section.
fn rows(arguments: &Arguments) -> Result<(DataSection, Rows)> {
    if let Some(path) = &arguments.data {
        let section = DataSection {
            train: path.clone(),
            format: RowFormat::Auto,
            max_tokens: arguments.max_tokens,
            on_bad_row: OnBadRow::Skip,
            ..DataSection::default()
        };
        let mut rows = Rows::read(&section, 0)?;
        rows.validation = rows.train.clone();
        return Ok((section, rows));
    }
    let Some(run) = &arguments.which.run else {
        anyhow::bail!("no rows are named; give `--data FILE`, or `--run FOLDER` with its own");
    };
    let recipe = recipe_of_run(run)?;
    let rows = Rows::read(&recipe.data, recipe.seed)?;
    if rows.validation.is_empty() {
        anyhow::bail!("the run has no validation rows; give `--data FILE`");
    }
    Ok((recipe.data, rows))
}
