//! `rekindle data render`: what a chat template makes of conversations, for a look or a comparison.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use rekindle_data::{
    self as data, ChatTemplate, Conversation, DataError, DateTime, Rendered, SpecialTokens,
    TemplateError,
};
use rekindle_recipe::recipe::Init;
use rekindle_recipe::{OpenModel, RunError};
use serde_json::{Value, json};

use crate::commands;

/// Arguments of `rekindle data render`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// JSON lines: objects with `messages`, and perhaps `tools` and `add_generation_prompt`.
    conversations: PathBuf,
    /// A chat template file, or `chatml`.
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    template: Option<String>,
    /// The model whose template is used.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The time that the template is told, such as 2026-11-25T12:00:00; without it, none.
    #[arg(long)]
    now: Option<DateTime>,
    /// The text of bos_token, eos_token, pad_token or unk_token; may be given for each.
    #[arg(long, value_name = "NAME=TOKEN", value_parser = special)]
    special: Vec<(String, String)>,
    /// One line of JSON a conversation: its text and marks, or its error.
    #[arg(long)]
    json: bool,
}

/// Renders every conversation; one that the template refuses ends nothing.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let mut template = template(arguments)?;
    for (name, token) in &arguments.special {
        template = template.with_special(name, token)?;
    }
    if let Some(now) = arguments.now {
        template = template.with_now(now);
    }
    let conversations = data::conversations(&arguments.conversations).map_err(RunError::from)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for Conversation { line, messages, tools, add_generation_prompt } in conversations {
        let rendered = template.render_value(messages, tools.as_ref(), add_generation_prompt);
        if let Err(error @ TemplateError::Unusable { .. }) = rendered {
            out.flush()?;
            return Err(RunError::from(DataError::from(error)).into());
        }
        match (arguments.json, rendered) {
            (true, rendered) => writeln!(out, "{}", as_json(rendered))?,
            (false, Ok(rendered)) => writeln!(out, "--- line {line}\n{}", rendered.text)?,
            (false, Err(error)) => writeln!(out, "--- line {line}, refused\n{error}")?,
        }
    }
    out.flush()?;
    Ok(0)
}

fn template(arguments: &Arguments) -> Result<ChatTemplate> {
    if let Some(path) = &arguments.model {
        let text = OpenModel::open(path, Init::Pretrained)?.text(None)?;
        let absent = || RunError::from(TemplateError::Absent { path: path.clone() });
        return Ok(text.template.ok_or_else(absent)?);
    }
    let name = arguments.template.as_deref().unwrap_or("chatml");
    let template = match name {
        "chatml" => ChatTemplate::builtin(name),
        path => ChatTemplate::new(&commands::read(Path::new(path))?, &SpecialTokens::default()),
    };
    Ok(template.map_err(RunError::from)?)
}

fn special(argument: &str) -> Result<(String, String), String> {
    let wanted = || format!("`{argument}` is no NAME=TOKEN");
    let (name, token) = argument.split_once('=').ok_or_else(wanted)?;
    SpecialTokens::default().set(name, token).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), token.to_owned()))
}

/// The answer as one object; marks count characters, as Python does.
fn as_json(rendered: Result<Rendered, TemplateError>) -> Value {
    match rendered {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(Rendered { text, marks }) => {
            let mut counted = (0, 0);
            let mut place = |byte: usize| {
                if byte < counted.0 {
                    counted = (0, 0);
                }
                counted = (byte, counted.1 + text[counted.0..byte].chars().count());
                counted.1
            };
            let marks: Vec<[usize; 2]> =
                marks.iter().map(|mark| [place(mark.start), place(mark.end)]).collect();
            json!({ "text": text, "marks": marks })
        }
    }
}
