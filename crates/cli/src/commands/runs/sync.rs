//! `rekindle runs sync`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use rekindle_recipe::runs;

use super::Place;
use crate::host;

/// Arguments of `rekindle runs sync`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its name in the folder of runs, or its own folder.
    run: String,
    #[command(flatten)]
    place: Place,
    /// Longest time to send, in seconds; what is left then is sent next time.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

/// Sends the rest of a spool to the server that the run's recipe names.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let run = arguments.place.find(&arguments.run)?;
    let limit = Duration::from_secs(arguments.timeout);
    let drained = runs::sync(&run.dir, &host::mlflow_credentials()?, limit)?;
    match drained.sent + drained.rejected {
        0 => println!("{}: nothing was left to send", run.name),
        _ => println!("{}: {} records sent, nothing is left", run.name, drained.sent),
    }
    if drained.rejected > 0 {
        eprintln!("warning: the server refused {} records for good", drained.rejected);
    }
    Ok(0)
}
