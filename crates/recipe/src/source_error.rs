//! An error with its place in the recipe's text, shown as rustc shows errors.

use std::{
    fmt::{self, Display},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{explain, position, recipe::Problem};

/// Largest recipe in bytes: 10 MiB.
const MAX_BYTES: usize = 10 << 20;

/// Longest piece of a line that is shown, in bytes; the place of the error lies within it.
const MAX_SHOWN: usize = 400;

/// A recipe that cannot be read: what, where and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    name: String,
    message: String,
    place: Option<Box<Shown>>,
    help: Option<String>,
}

/// The line of the error, kept so that the error outlives the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    /// Bytes from the start of the text.
    offset: usize,
    line: usize,
    column: usize,
    text: String,
    marked: Range<usize>,
    label: Option<String>,
}

impl SourceError {
    /// An error without a place.
    pub(crate) fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into(), place: None, help: None }
    }

    /// Marks a piece of the text; only the part on the first line is shown.
    pub(crate) fn at(mut self, text: &str, span: Range<usize>, label: Option<String>) -> Self {
        self.place = Some(Box::new(Shown::new(text, span, label)));
        self
    }

    /// Adds what would do instead.
    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Explains an error of the TOML reader in the recipe's own words.
    pub(crate) fn from_toml(text: &str, name: &str, error: &toml::de::Error) -> Self {
        explain::explain(text, name, error)
    }

    /// Shows a problem of [`Recipe::validate`](crate::Recipe::validate) at its place in the text;
    /// without a place if the key is not in the text.
    pub fn from_problem(text: &str, name: &str, problem: &Problem) -> Self {
        let text = without_bom(text);
        let error = Self::new(name, format!("`{}` is {}", problem.key, problem.found));
        let wanted = format!("wanted {}", problem.wanted);
        let path: Vec<&str> = problem.key.split('.').collect();
        // A line that may hold a password is not shown.
        let span = position::value_span(text, &path);
        match span.filter(|_| problem.key != crate::recipe::report::UNQUOTED) {
            Some(span) => error.at(text, span, Some(wanted)),
            None => error.help(Some(wanted)),
        }
    }

    /// Where the error is in the text it was made from, in bytes.
    pub(crate) fn offset_in(&self, text: &str) -> Option<usize> {
        self.place.as_ref().map(|shown| shown.offset).filter(|&offset| offset <= text.len())
    }

    /// The same error at another place.
    pub(crate) fn moved_to(mut self, name: &str, text: &str, span: Range<usize>) -> Self {
        self.name = name.into();
        let label = self.place.take().and_then(|shown| shown.label);
        self.at(text, span, label)
    }

    /// The first line of the message, without place and help.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column of the error, both from 1 and in characters.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|shown| (shown.line, shown.column))
    }

    /// The exit code of a program that stops on this error: 2, wrong usage or configuration.
    pub fn exit_code(&self) -> u8 {
        2
    }

    /// The error as rustc would show it; `styled` adds terminal colours.
    pub fn render(&self, styled: bool) -> String {
        let mut group = Group::with_title(match &self.place {
            // The name is part of the snippet's header; without a snippet the title needs it.
            None => Level::ERROR.primary_title(format!("{}: {}", self.name, self.message)),
            Some(_) => Level::ERROR.primary_title(self.message.as_str()),
        });
        if let Some(shown) = &self.place {
            let mark = AnnotationKind::Primary.span(shown.marked.clone());
            let snippet = Snippet::source(shown.text.as_str())
                .path(self.name.as_str())
                .line_start(shown.line)
                .annotation(mark.label(shown.label.as_deref()));
            group = group.element(snippet);
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl Display for SourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for SourceError {}

impl Shown {
    fn new(text: &str, span: Range<usize>, label: Option<String>) -> Self {
        let start = floor_char(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        // A line of megabytes is cut around the error.
        let from = match start - line_start > MAX_SHOWN / 2 && line_end - line_start > MAX_SHOWN {
            true => floor_char(text, start - MAX_SHOWN / 2),
            false => line_start,
        };
        let to = floor_char(text, line_end.min(from + MAX_SHOWN));
        let end = floor_char(text, span.end).clamp(start, to);
        Self {
            offset: start,
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[from..to].to_owned(),
            marked: start - from..end - from,
            label,
        }
    }
}

/// The start of the character that `offset` lies in.
fn floor_char(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset.min(text.len()))
}

/// The text after a byte order mark.
pub(crate) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Refuses a text that no recipe can need.
pub(crate) fn check_size(text: &str, name: &str) -> Result<(), SourceError> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("the recipe has {} bytes, wanted at most {MAX_BYTES}", text.len());
    let help = "data belongs in a file of its own, named by `data.train`";
    Err(SourceError::new(name, message).help(Some(help.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn the_size_is_limited() {
        let text = format!("# {}", "x".repeat(MAX_BYTES));
        let error = Recipe::parse(&text, "recipe.toml").unwrap_err();
        assert_eq!(error.line_column(), None);
        assert_eq!(
            error.render(false),
            "error: recipe.toml: the recipe has 10485762 bytes, wanted at most 10485760\n\
             \x20|\n\
             \x20= help: data belongs in a file of its own, named by `data.train`"
        );
        assert!(Recipe::parse(&text[..MAX_BYTES], "recipe.toml").is_ok());
    }

    #[test]
    fn a_line_of_megabytes_is_cut_around_the_error() {
        let text = format!("model = \"{}\" x", "ä".repeat(1 << 20));
        let error = Recipe::parse(&text, "recipe.toml").unwrap_err();
        assert_eq!(error.line_column(), Some((1, 9 + (1 << 20) + 3)));
        assert!(error.render(false).len() < 2000);
    }

    #[test]
    fn line_ends_and_byte_order_mark_do_not_move_the_place() {
        for text in ["model = 'm'\nsede = 1\n", "\u{feff}model = 'm'\r\nsede = 1\r\n"] {
            let error = Recipe::parse(text, "recipe.toml").unwrap_err();
            assert_eq!(error.line_column(), Some((2, 1)));
            assert_eq!(error.exit_code(), 2);
        }
        let at_start = Recipe::parse("\u{feff}sede = 1", "recipe.toml").unwrap_err();
        assert_eq!(at_start.line_column(), Some((1, 1)));
    }

    #[test]
    fn colours_are_for_terminals_only() {
        let error = Recipe::parse("sede = 1", "recipe.toml").unwrap_err();
        assert!(error.render(true).contains('\u{1b}'));
        assert!(!error.render(false).contains('\u{1b}'));
    }

    #[test]
    fn a_problem_is_shown_where_its_value_stands() {
        let text = "model = 'm'\n[train]\nlearning_rate = 3.0\n";
        let problems = Recipe::parse(text, "recipe.toml").unwrap().validate().unwrap_err();
        let shown: Vec<_> = problems
            .iter()
            .map(|problem| SourceError::from_problem(text, "recipe.toml", problem).render(false))
            .collect();
        assert_eq!(
            shown[0],
            "error: recipe.toml: `data.train` is missing\n\
             \x20|\n\
             \x20= help: wanted a JSONL or JSON file"
        );
        assert_eq!(
            shown[2],
            "error: `train.learning_rate` is `3`\n\
             \x20--> recipe.toml:3:17\n\
             \x20 |\n\
             3 | learning_rate = 3.0\n\
             \x20 |                 ^^^ wanted above 0 and below 1"
        );
    }
}
