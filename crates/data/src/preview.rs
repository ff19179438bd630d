//! A sample as a person reads it: who speaks, what is given, what is trained on.

use std::fmt::Write;

use crate::record::Role;
use crate::render::Sample;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// How a preview marks roles and what is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Terminal colours: system magenta, user blue, assistant green, tools yellow; what is
    /// trained on is bold and underlined, special tokens are dim unless they are trained on.
    Ansi,
    /// The role in angle brackets before each turn, double square brackets around targets.
    Plain,
}

/// What is shown alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Look {
    role: Option<Role>,
    special: bool,
    target: bool,
}

/// The text of a sample with its mask visible, and a line of counts.
///
/// `roles` says who speaks each token ([`crate::Renderer::roles`]); it may be empty.
///
/// # Errors
/// [`TokenizerError`] if an id cannot be decoded.
pub fn preview(
    sample: &Sample,
    roles: &[Option<Role>],
    tokenizer: &Tokenizer,
    style: Style,
) -> Result<String, TokenizerError> {
    let mut out = String::new();
    let mut current = Look::default();
    for (text, look) in pieces(sample, roles, tokenizer)? {
        if look != current {
            match style {
                Style::Ansi => out.push_str(&ansi(look)),
                Style::Plain => mark(&mut out, current, look),
            }
            current = look;
        }
        match style {
            // An escape in a row's own text must not reach the terminal.
            Style::Ansi => out.extend(text.chars().map(|c| if c == '\u{1b}' { '␛' } else { c })),
            Style::Plain => out.push_str(&text),
        }
    }
    match style {
        Style::Ansi => out.push_str("\u{1b}[0m"),
        Style::Plain => mark(&mut out, current, Look { target: false, ..current }),
    }
    let cut = if sample.truncated { ", cut to the longest length" } else { "" };
    let (targets, tokens) = (sample.n_targets(), sample.tokens.len());
    write!(out, "\n({targets} of {tokens} tokens are trained on{cut})")
        .expect("writing to a string does not fail");
    Ok(out)
}

/// The text of each token that completes one, with how it is shown.
fn pieces(
    sample: &Sample,
    roles: &[Option<Role>],
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Look)>, TokenizerError> {
    let mut pieces = Vec::with_capacity(sample.tokens.len());
    let mut stream = tokenizer.stream(false);
    let mut look = Look::default();
    for (place, (&token, &target)) in sample.tokens.iter().zip(&sample.target).enumerate() {
        let is_special = |text| tokenizer.special_texts().binary_search(&text).is_ok();
        let special = !target && tokenizer.token_text(token).is_some_and(is_special);
        look = Look { role: roles.get(place).copied().flatten(), special, target };
        pieces.extend(stream.push(token)?.map(|text| (text, look)));
    }
    pieces.extend(stream.finish()?.map(|text| (text, look)));
    Ok(pieces)
}

fn mark(out: &mut String, from: Look, to: Look) {
    if from.target && !to.target {
        out.push_str("]]");
    }
    if let Some(role) = to.role.filter(|_| from.role != to.role) {
        out.push_str(&format!("⟨{}⟩", role.as_str()));
    }
    if !from.target && to.target {
        out.push_str("[[");
    }
}

fn ansi(look: Look) -> String {
    let weight = match (look.target, look.special) {
        (true, _) => ";1;4",
        (_, true) => ";2",
        _ => "",
    };
    let colour = match look.role {
        Some(Role::System) => ";35",
        Some(Role::User) => ";34",
        Some(Role::Assistant) => ";32",
        Some(Role::Tool) => ";33",
        None => "",
    };
    format!("\u{1b}[0{weight}{colour}m")
}
