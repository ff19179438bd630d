//! A sample as a person reads it: what is given, what is trained on.

use std::fmt::Write;

use crate::render::Sample;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// How a preview marks what is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Terminal colours: targets green, special tokens cyan, everything else as it is.
    Ansi,
    /// Double brackets around targets.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Given,
    Special,
    Target,
    SpecialTarget,
}

/// The text of a sample with its mask visible, and a line of counts.
///
/// # Errors
/// [`TokenizerError`] if an id cannot be decoded.
pub fn preview(
    sample: &Sample,
    tokenizer: &Tokenizer,
    style: Style,
) -> Result<String, TokenizerError> {
    let mut out = String::new();
    let mut current = Kind::Given;
    for (text, kind) in pieces(sample, tokenizer)? {
        if kind != current {
            switch(&mut out, current, kind, style);
            current = kind;
        }
        match style {
            // An escape in a row's own text must not reach the terminal.
            Style::Ansi => out.extend(text.chars().map(|c| if c == '\u{1b}' { '␛' } else { c })),
            Style::Plain => out.push_str(&text),
        }
    }
    switch(&mut out, current, Kind::Given, style);
    let cut = if sample.truncated { ", cut to the longest length" } else { "" };
    let (targets, tokens) = (sample.n_targets(), sample.tokens.len());
    write!(out, "\n({targets} of {tokens} tokens are trained on{cut})")
        .expect("writing to a string does not fail");
    Ok(out)
}

/// The text of each token that completes one, with what kind of token it is.
fn pieces(sample: &Sample, tokenizer: &Tokenizer) -> Result<Vec<(String, Kind)>, TokenizerError> {
    let mut pieces = Vec::with_capacity(sample.tokens.len());
    let mut stream = tokenizer.stream(false);
    let mut kind = Kind::Given;
    for (&token, &target) in sample.tokens.iter().zip(&sample.target) {
        let special = tokenizer
            .token_text(token)
            .is_some_and(|text| tokenizer.special_texts().binary_search(&text).is_ok());
        kind = match (special, target) {
            (false, false) => Kind::Given,
            (true, false) => Kind::Special,
            (false, true) => Kind::Target,
            (true, true) => Kind::SpecialTarget,
        };
        pieces.extend(stream.push(token)?.map(|text| (text, kind)));
    }
    pieces.extend(stream.finish()?.map(|text| (text, kind)));
    Ok(pieces)
}

fn switch(out: &mut String, from: Kind, to: Kind, style: Style) {
    let is_target = |kind| matches!(kind, Kind::Target | Kind::SpecialTarget);
    match style {
        Style::Plain if is_target(from) && !is_target(to) => out.push_str("]]"),
        Style::Plain if !is_target(from) && is_target(to) => out.push_str("[["),
        Style::Plain => {}
        Style::Ansi => out.push_str(match to {
            Kind::Given => "\u{1b}[0m",
            Kind::Special => "\u{1b}[0;36m",
            Kind::Target => "\u{1b}[0;32m",
            Kind::SpecialTarget => "\u{1b}[0;1;32m",
        }),
    }
}
