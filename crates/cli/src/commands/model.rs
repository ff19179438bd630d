//! `rekindle model`.

mod logits;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use rekindle_recipe::recipe::Init;
use rekindle_recipe::{OpenModel, RunError};

/// Commands on models.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what a model is: architecture, tokenizer, template, tensors.
    Inspect(Inspect),
    /// Writes what the model computes for some tokens, to compare it with other programs.
    #[command(hide = true)]
    Logits(logits::Arguments),
}

/// Arguments of `rekindle model inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A Hugging Face folder or a GGUF file.
    model: PathBuf,
    /// Reads every weight and counts those that are not finite.
    #[arg(long)]
    scan: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs a command on models.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Inspect(arguments) => inspect(arguments),
        Command::Logits(arguments) => logits::run(arguments),
    }
}

fn inspect(arguments: &Inspect) -> Result<u8> {
    let model = OpenModel::open(&arguments.model, Init::Pretrained)?;
    for note in model.notes() {
        eprintln!("note: {note}");
    }
    let (arch, source) = (&model.arch, model.source());
    rekindle_models::load::strict_check(&arch.tensor_shapes(), source, arch.tied_head)
        .map_err(RunError::from)?;
    let text = model.text(None)?;
    let bad = arguments.scan.then(|| scan(&model)).transpose()?;
    if arguments.json {
        let info = serde_json::json!({
            "arch": arch,
            "parameters": arch.n_parameters(),
            "tensors": source.names().len(),
            "vocabulary": text.tokenizer.vocab_len(),
            "chat_template": text.template.is_some(),
            "stop_ids": text.stop_ids,
            "non_finite": bad,
        });
        println!("{info:#}");
        return Ok(0);
    }
    let stops: Vec<String> = text
        .stop_ids
        .iter()
        .map(|&id| text.tokenizer.token_text(id).unwrap_or_else(|| id.to_string()))
        .collect();
    let rows = [
        ("architecture", arch.family.model_type().to_owned()),
        ("parameters", arch.n_parameters().to_string()),
        ("tensors", source.names().len().to_string()),
        ("layers", arch.n_layers().to_string()),
        ("hidden", arch.hidden.to_string()),
        ("heads", format!("{} ({} for keys), {} wide", arch.heads, arch.kv_heads, arch.head_dim)),
        ("feed-forward", arch.intermediate.to_string()),
        ("positions", arch.max_positions.to_string()),
        ("vocabulary", format!("{} rows, {} tokens", arch.vocab, text.tokenizer.vocab_len())),
        ("head", if arch.tied_head { "tied to the embeddings" } else { "its own" }.to_owned()),
        ("ends with", stops.join(", ")),
        ("chat template", if text.template.is_some() { "yes" } else { "none" }.to_owned()),
    ];
    for (name, value) in rows {
        println!("{name:<16}{value}");
    }
    if let Some(bad) = bad {
        println!("{:<16}{bad}", "not finite");
    }
    Ok(0)
}

/// Weights that are NaN or infinite.
fn scan(model: &OpenModel) -> Result<u64> {
    let source = model.source();
    let mut bad = 0;
    for name in source.names() {
        let values = source.read_f32(&name).map_err(RunError::from)?;
        bad += values.iter().filter(|value| !value.is_finite()).count() as u64;
    }
    Ok(bad)
}
