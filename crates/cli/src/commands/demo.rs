//! `rekindle demo`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use rekindle_data::{Message, Role};
use rekindle_recipe::demo;
use rekindle_recipe::events::Status;
use rekindle_recipe::{Plan, Recipe, RunError, RunOptions};

use super::sampling::SamplingArgs;
use super::{Which, chat, train};
use crate::watch::Watcher;
use crate::{device, host};

/// Arguments of `rekindle demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to work in; an earlier demo in it is replaced.
    #[arg(long, default_value = "runs/demo")]
    output: PathBuf,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
    /// Updates to make.
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Plain lines even on a terminal.
    #[arg(long)]
    plain: bool,
}

/// Checks the data, trains, compares, exports and asks a question.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let material = demo::Material::unpack(&arguments.output.join("material"))?;
    let text = material.recipe(&arguments.output.join("run"), arguments.max_steps);
    let recipe = Recipe::parse(&text, "demo.toml").map_err(RunError::from)?;
    let plan = Plan::resolve(recipe, "demo")?;
    let options = RunOptions {
        overwrite: true,
        stop: train::stop_flag()?,
        host: host::of(&device),
        ..RunOptions::default()
    };
    eprintln!("The base model knows an invented world but has never seen a question.");
    let mut watcher = Watcher::lines(arguments.plain || host::is_dumb());
    let listener = &mut |event: &_| watcher.event(event);
    let summary = rekindle_recipe::run(&plan, &text, &device, &options, listener)?;
    match summary.status {
        Status::Cancelled => return Ok(130),
        Status::Preempted => return Ok(75),
        _ => {}
    }
    println!("\nA question to the tuned model, read back from its export:");
    let which = Which { run: Some(plan.run_dir.clone()), model: None, adapter: None };
    let ready = which.load(&device)?;
    let tuned = ready.tuned.as_ref().map_or(&ready.base, |(model, _)| model);
    let answers = summary.tuned.answers.iter().flat_map(|it| &it.answers);
    for answer in answers.step_by(40).take(3) {
        println!("> {}", answer.question);
        let asked = [Message::new(Role::User, answer.question.clone())];
        let how = SamplingArgs::greedy(24);
        chat::answer(tuned, &ready.text, &asked, &how, &mut std::io::stdout())?;
        println!();
    }
    train::table(&summary);
    Ok(0)
}
