//! `rekindle chat`.

use std::io::{BufRead, Write};

use anyhow::Result;
use clap::Args;
use rekindle_data::{Message, Role, TooLong};
use rekindle_models::{Decoder, Stop};
use rekindle_recipe::{RunError, TextSide};

use super::Which;
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
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Where to compute.
    #[arg(long, default_value = "auto", help = format!("Where to compute: {}", device::HELP))]
    device: String,
}

/// Answers one prompt, or a conversation until the input ends.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let device = device::open(&arguments.device)?;
    let ready = arguments.which.load(&device)?;
    let model = ready.tuned.as_ref().map_or(&ready.base, |(model, _)| model);
    let system = arguments.system.iter().map(|text| Message::new(Role::System, text.clone()));
    let mut messages: Vec<Message> = system.collect();
    let max = arguments.max_new_tokens;
    if let Some(prompt) = &arguments.prompt {
        messages.push(Message::new(Role::User, prompt.clone()));
        answer(model, &ready.text, &messages, max, &mut std::io::stdout())?;
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
        let given = answer(model, &ready.text, &messages, max, &mut std::io::stdout())?;
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
    max_new_tokens: usize,
    out: &mut dyn Write,
) -> Result<String> {
    let renderer = text.renderer(model.arch().max_positions, TooLong::Truncate);
    // A model without a template is continued as it stands.
    let prompt = match (&text.template, messages) {
        (None, [only]) => text
            .tokenizer
            .encode(&only.content, rekindle_data::Specials::Plain)
            .map_err(RunError::from)?,
        _ => renderer.prompt(messages).map_err(RunError::from)?,
    };
    let stop = Stop { eos: text.stop_ids.clone(), max_new_tokens };
    let mut stream = text.tokenizer.stream(true);
    let (mut given, mut failure) = (String::new(), None);
    model.generate_greedy(&prompt, &stop, |token| match stream.push(token) {
        Ok(None) => true,
        Ok(Some(piece)) => {
            given.push_str(&piece);
            // A closed pipe ends the answer quietly.
            out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_ok()
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    match failure {
        Some(error) => Err(RunError::from(error).into()),
        None => Ok(given),
    }
}
