//! `rekindle runs list`.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use rekindle_recipe::runs::{self, Overview};

use super::{Place, columns, figure};
use crate::words;

/// Arguments of `rekindle runs list`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Prints a row for each run.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let runs = runs::list(&arguments.place.dir)?;
    let rows: Vec<Overview> = runs.iter().map(Overview::of).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(0);
    }
    if rows.is_empty() {
        println!("no runs in `{}`; `rekindle train` makes one", arguments.place.dir.display());
        return Ok(0);
    }
    print!("{}", table(&rows));
    for row in rows.iter().filter(|row| !row.problems.is_empty()) {
        eprintln!("note: {}: {}", words::clean(&row.name), row.problems.join("; "));
    }
    Ok(0)
}

fn table(rows: &[Overview]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
    let head = ["name", "status", "method", "steps", "loss", "eval loss", "age", "size"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let total = row.total_steps.map_or_else(|| "?".to_owned(), |it| it.to_string());
        let age = row.updated.map(|time| words::duration((now - time).max(0.0)));
        vec![
            words::clean(&row.name),
            row.state.name().to_owned(),
            row.method.as_deref().map_or_else(|| "-".to_owned(), words::clean),
            format!("{}/{total}", row.steps),
            figure(row.loss),
            figure(row.eval_loss),
            age.unwrap_or_else(|| "-".to_owned()),
            words::bytes(row.bytes),
        ]
    }));
    columns(&table)
}
