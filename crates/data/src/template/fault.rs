//! Which of the template's failures is which.

use minijinja::{Error, ErrorKind};

use super::TemplateError;

/// The words of minijinja for a recursion that is too deep.
const RECURSION: &str = "recursion limit exceeded";
/// Its words for a range of more than 100,000 numbers, which Jinja2 refuses as well.
const RANGE: &str = "range has too many elements";

/// Marks an error as raised by the template itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct RaisedByTemplate(pub(super) String);

/// The error's own words and line, without the template's source.
pub(super) fn words(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), String::from);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// Whether the engine ran out of fuel, so that more of it may help.
pub(super) fn is_out_of_fuel(error: &Error) -> bool {
    chain(error).any(|error| error.kind() == ErrorKind::OutOfFuel)
}

/// A failed rendering as this crate's error.
pub(super) fn of_render(error: &Error) -> TemplateError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(now) = next {
        if let Some(raised) = now.downcast_ref::<RaisedByTemplate>() {
            return TemplateError::Raised { detail: raised.0.clone() };
        }
        next = now.source();
    }
    match chain(error).find(|error| is_the_templates_fault(error)) {
        Some(cause) => TemplateError::Unusable { detail: words(cause) },
        None => TemplateError::Failed { detail: words(error) },
    }
}

/// Whether every conversation would end like this one, and at the same cost.
fn is_the_templates_fault(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::TemplateNotFound => true,
        _ => matches!(error.detail(), Some(RECURSION | RANGE)),
    }
}

/// The error and those of the engine that caused it.
fn chain(error: &Error) -> impl Iterator<Item = &Error> {
    std::iter::successors(Some(error), |&error| {
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>())
    })
}
