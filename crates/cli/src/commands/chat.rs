//! `rekindle chat`.

use std::io::{BufRead, Write};

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::Offset;
use rekindle_data::{Message, Role, StopTexts, TooLong};
use rekindle_models::Decoder;
use rekindle_recipe::{RunError, TextSide};

use super::Which;
use super::sampling::SamplingArgs;
use crate::device;

/// Arguments of `rekindle chat`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Answers this one prompt and ends.
    #[arg(long)]
    prompt: Option<String>,
    /// Instructions that stand above the conversation.
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
}

/// Answers one prompt, or a conversation until the input ends.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let mut ready = arguments.which.load(&device)?;
    ready.text = ready.text.at(Some(Offset::UTC.to_datetime(Timestamp::now())));
    let model = ready.tuned.as_ref().map_or(&ready.base, |(model, _)| model);
    let system = arguments.system.iter().map(|text| Message::new(Role::System, text.clone()));
    let mut messages: Vec<Message> = system.collect();
    let how = &arguments.sampling;
    how.generation(Vec::new())?;
    if let Some(prompt) = &arguments.prompt {
        messages.push(Message::new(Role::User, prompt.clone()));
        answer(model, &ready.text, &messages, how, &mut std::io::stdout())?;
        println!();
        return Ok(0);
    }
    eprintln!("End with Ctrl-D or /exit.");
    for line in prompts() {
        let line = line?;
        match line.trim() {
            "" => continue,
            "/exit" => break,
            text => messages.push(Message::new(Role::User, text)),
        }
        let given = answer(model, &ready.text, &messages, how, &mut std::io::stdout())?;
        println!();
        messages.push(Message::new(Role::Assistant, given));
    }
    Ok(0)
}

/// Lines of standard input, each asked for with a mark on standard error.
fn prompts() -> impl Iterator<Item = std::io::Result<String>> {
    let mut lines = std::io::stdin().lock().lines();
    std::iter::from_fn(move || {
        eprint!("> ");
        lines.next()
    })
}

/// Writes the answer to `out` as it comes and returns it.
pub fn answer(
    model: &Decoder,
    text: &TextSide,
    messages: &[Message],
    how: &SamplingArgs,
    out: &mut dyn Write,
) -> Result<String> {
    let context = model.arch().context_length();
    let prompt = prompt(text, messages, context)?;
    let generation = how.generation(text.stop_ids.clone())?;
    let mut stream = text.tokenizer.stream(true);
    let mut stops = StopTexts::new(&how.stop);
    let (mut given, mut failure) = (String::new(), None);
    // A closed pipe ends the answer quietly.
    let mut write = |piece: String| {
        given.push_str(&piece);
        out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    model.generate(&[&prompt], &generation, |step| match stream.push(step.token) {
        Ok(None) => true,
        Ok(Some(piece)) => write(stops.push(&piece)) && !stops.found(),
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    if let Some(error) = failure {
        return Err(RunError::from(error).into());
    }
    if !stops.found() {
        let rest = stream.finish().map_err(RunError::from)?.unwrap_or_default();
        write(stops.push(&rest));
        write(stops.finish());
    }
    Ok(given)
}

/// The tokens that the answer follows.
fn prompt(text: &TextSide, messages: &[Message], context: usize) -> Result<Vec<u32>> {
    // A model without a template is continued as it stands.
    let prompt = match (&text.template, messages) {
        (None, [only]) => text
            .tokenizer
            .encode(&only.content, rekindle_data::Specials::Plain)
            .map_err(RunError::from)?,
        _ => {
            let renderer = text.renderer(context, TooLong::TruncateRight);
            renderer.prompt(messages).map_err(RunError::from)?
        }
    };
    if prompt.len() >= context {
        bail!(
            "the conversation is {} tokens long, and the model's context has {context}; make it \
             shorter",
            prompt.len()
        );
    }
    Ok(prompt)
}
