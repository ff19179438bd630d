//! `rekindle runs compare`.

use anyhow::Result;
use clap::Args;
use rekindle_recipe::runs::{Overview, Run, differing};
use serde_json::{Value, json};

use super::{Place, columns, figure};
use crate::words;

/// Arguments of `rekindle runs compare`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The runs: names in the folder of runs, or their own folders.
    #[arg(num_args = 2.., required = true)]
    runs: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what differs and how the runs did.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let runs = arguments.runs.iter().map(|name| arguments.place.find(name));
    let runs = runs.collect::<Result<Vec<Run>>>()?;
    let settings: Vec<_> = runs.iter().map(|run| &run.settings).collect();
    let differences = differing(&settings);
    if arguments.json {
        let rows: Vec<_> = runs.iter().map(result).collect();
        let differences: serde_json::Map<String, Value> =
            differences.iter().map(|(key, values)| ((*key).to_owned(), json!(values))).collect();
        let all = json!({ "runs": rows, "settings": differences });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(0);
    }
    let mut rows = vec![row("", runs.iter().map(|run| words::clean(&run.name)))];
    rows.extend(figures(&runs));
    print!("{}", columns(&rows));
    println!("\n{}", if differences.is_empty() { "the settings are the same" } else { "settings" });
    let rows: Vec<_> = differences
        .iter()
        .map(|(key, values)| row(key, values.iter().map(|it| words::clean(it.unwrap_or("-")))))
        .collect();
    print!("{}", columns(&rows));
    for problem in runs.iter().flat_map(|run| &run.problems) {
        eprintln!("note: {problem}");
    }
    Ok(0)
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

/// How the runs did, a row for each figure that any of them has.
fn figures(runs: &[Run]) -> Vec<Vec<String>> {
    let rows: Vec<Overview> = runs.iter().map(Overview::of).collect();
    let of = |name: &str, value: &dyn Fn(&Overview) -> String| row(name, rows.iter().map(value));
    let side = |name: &str, side: usize| row(name, runs.iter().map(|run| figure(loss(run, side))));
    let percent = |value: Option<f64>| {
        value.map_or_else(|| "-".to_owned(), |it| format!("{:.1} %", 100.0 * it))
    };
    let all = vec![
        of("status", &|it| it.state.name().to_owned()),
        of("steps", &|it| it.steps.to_string()),
        of("last loss", &|it| figure(it.loss)),
        of("eval loss", &|it| figure(it.eval_loss)),
        side("  base", 0),
        side("  tuned", 1),
        of("exact match", &|it| percent(it.exact_match)),
        of("tokens/s", &|it| figure(it.tokens_per_second)),
        of("size", &|it| words::bytes(it.bytes)),
    ];
    all.into_iter().filter(|row| row[1..].iter().any(|cell| cell != "-")).collect()
}

/// The loss of the base model (0) or the tuned one (1) on the validation rows.
fn loss(run: &Run, side: usize) -> Option<f64> {
    let measured = run.measured.as_ref()?;
    measured[side].loss.map(|loss| loss.loss)
}

fn result(run: &Run) -> Value {
    let mut value = json!(Overview::of(run));
    value["base_loss"] = json!(loss(run, 0));
    value["tuned_loss"] = json!(loss(run, 1));
    value
}
