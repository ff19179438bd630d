//! The `rekindle` command: arguments in, one run or one answer out, an exit code that says how it
//! went.

mod commands;
mod dashboard;
mod device;
mod host;
mod progress;
mod watch;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    chat, config, data, demo, doctor, eval, export, model, plan, reproduce, runs, train,
};

/// Fine-tunes language models.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a whole fine-tuning run on a small model that comes with the program.
    Demo(demo::Arguments),
    /// Says what a run will need: memory by part, steps, operations, time.
    Plan(plan::Arguments),
    /// Trains as a recipe says.
    Train(train::Arguments),
    /// Measures a model on held-out rows, and beside its base where there is an adapter.
    Eval(eval::Arguments),
    /// Talks to a model.
    Chat(chat::Arguments),
    /// Looks at datasets.
    #[command(subcommand)]
    Data(data::Command),
    /// Looks at models.
    #[command(subcommand)]
    Model(model::Command),
    /// Writes an adapter or a merged model in the formats other tools read.
    Export(export::Arguments),
    /// Checks, shows and describes recipes.
    #[command(subcommand)]
    Config(config::Command),
    /// Looks at runs: list, show, chart, compare, stop, sync, rm.
    #[command(subcommand)]
    Runs(runs::Command),
    /// Runs a finished run again and says whether the result is the same.
    Reproduce(reproduce::Arguments),
    /// Says what this program can use on this machine.
    Doctor(doctor::Arguments),
}

fn main() -> ExitCode {
    progress::end_quietly_on_broken_pipes();
    let command = Arguments::parse().command;
    match rekindle_kernels::on_compute_threads(|| run(command)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => progress::report(&error),
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Data(command) => data::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Export(arguments) => export::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Runs(command) => runs::run(&command),
        Command::Reproduce(arguments) => reproduce::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    }
}
