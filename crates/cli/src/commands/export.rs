//! `rekindle export`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use rekindle_export::{MergedDtype, adapter_notes, write_adapter, write_merged};
use rekindle_recipe::RunError;

use super::Which;
use crate::device;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A PEFT adapter folder.
    Adapter,
    /// A Hugging Face model folder with the adapter merged.
    Merged,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
}

/// Arguments of `rekindle export`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// What is written.
    #[arg(short, long)]
    format: Kind,
    /// The folder to write; absent or empty.
    #[arg(short, long)]
    output: PathBuf,
    /// How numbers of a merged model are stored.
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

/// Writes an adapter or a merged model.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open("cpu")?;
    let ready = arguments.which.load(&device)?;
    match (arguments.format, &ready.tuned) {
        (Kind::Adapter, None) => bail!("the model has no adapter; name one with `--adapter`"),
        (Kind::Adapter, Some((model, config))) => {
            let base = ready.path.display().to_string();
            write_adapter(&arguments.output, model, config, &base).map_err(RunError::from)?;
            for note in adapter_notes(model, config) {
                eprintln!("note: {note}");
            }
        }
        (Kind::Merged, tuned) => {
            let model = tuned.as_ref().map_or(&ready.base, |(model, _)| model);
            let dtype = match arguments.dtype {
                Dtype::F32 => MergedDtype::F32,
                Dtype::Bf16 => MergedDtype::Bf16,
            };
            let companions = ready.text.companions(model.arch())?;
            write_merged(&arguments.output, model, dtype, &companions).map_err(RunError::from)?;
        }
    }
    println!("{}", arguments.output.display());
    Ok(0)
}
