//! One module for each command.

pub mod chat;
pub mod config;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod model;
pub mod plan;
pub mod reproduce;
pub mod runs;
pub mod sampling;
pub mod train;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::Args;
use rekindle_models::Decoder;
use rekindle_recipe::recipe::Init;
use rekindle_recipe::{OpenModel, Recipe, RunError, TextSide};

/// Which model a command works on.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// A run's folder: its base model and its adapter.
    #[arg(long, conflicts_with_all = ["model", "adapter"])]
    run: Option<PathBuf>,
    /// A Hugging Face folder or a GGUF file.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A PEFT adapter folder to put on the model.
    #[arg(long, requires = "model")]
    adapter: Option<PathBuf>,
}

/// A model ready to compute.
pub struct Ready {
    /// The model as it is on disk.
    pub base: Decoder,
    /// The model with its adapter, if there is one.
    pub tuned: Option<(Decoder, rekindle_peft_core::LoraConfig)>,
    /// Tokenizer and template.
    pub text: TextSide,
    /// Where the base model is.
    pub path: PathBuf,
}

impl Which {
    /// Loads the model and its adapter onto `device`.
    pub fn load(&self, device: &Device) -> Result<Ready> {
        let (path, adapter) = self.paths()?;
        let open = OpenModel::open(&path, Init::Pretrained)?;
        for note in open.notes() {
            eprintln!("note: {note}");
        }
        let text = open.text(None)?;
        let base = open.decoder(Init::Pretrained, 0, device)?;
        let tuned = match adapter {
            Some(adapter) => Some(
                rekindle_export::read_adapter(&adapter, base.clone()).map_err(RunError::from)?,
            ),
            None => None,
        };
        Ok(Ready { base, tuned, text, path })
    }

    fn paths(&self) -> Result<(PathBuf, Option<PathBuf>)> {
        match (&self.run, &self.model) {
            (Some(run), _) => of_run(run),
            (None, Some(model)) => Ok((model.clone(), self.adapter.clone())),
            (None, None) => bail!("no model is named; give `--model PATH` or `--run FOLDER`"),
        }
    }
}

/// Base model and adapter of a finished run.
fn of_run(run: &Path) -> Result<(PathBuf, Option<PathBuf>), anyhow::Error> {
    let recipe = recipe_of_run(run)?;
    let (adapter, merged) = (run.join("adapter"), run.join("merged"));
    if adapter.is_dir() {
        return Ok((recipe.model, Some(adapter)));
    }
    if merged.is_dir() {
        return Ok((merged, None));
    }
    let reason = "has neither an adapter nor a merged model; let the run finish, or resume it";
    Err(RunError::Output { path: run.to_owned(), reason: reason.to_owned() }.into())
}

/// The resolved recipe of a run.
pub fn recipe_of_run(run: &Path) -> Result<Recipe> {
    let plan = run.join("plan.toml");
    let text = read(&plan)?;
    Ok(Recipe::parse(&text, &plan.display().to_string()).map_err(RunError::from)?)
}

/// A file's text.
pub fn read(path: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(path)
        .map_err(|source| RunError::Io { path: path.to_owned(), source })?)
}
