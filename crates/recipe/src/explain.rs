//! Errors of the TOML reader in the recipe's own words, with what may have been meant.

use std::ops::Range;

use crate::{
    position::{self, Place},
    recipe::VARIANT_TABLES,
    schema::{self, KnownKey},
    source_error::SourceError,
    spelling,
};

/// The text, its name and the piece of it that the reader complains about.
struct Complaint<'t> {
    text: &'t str,
    name: &'t str,
    span: Range<usize>,
    place: Option<Place>,
}

pub(crate) fn explain(text: &str, name: &str, error: &toml::de::Error) -> SourceError {
    let message = error.message();
    let Some(span) = error.span() else {
        let message = match message {
            "recursion limit" => "a key has more than 80 parts, wanted at most 4",
            other => other,
        };
        return SourceError::new(name, message);
    };
    let place = position::place_at(text, span.start);
    let complaint = Complaint { text, name, span, place };
    if let Some(rest) = message.strip_prefix("unknown field `") {
        complaint.unknown_key(rest.split('`').next().unwrap_or_default())
    } else if let Some(rest) = message.strip_prefix("unknown variant `") {
        complaint.unknown_choice(rest)
    } else if message == "duplicate key" {
        complaint.duplicate_key()
    } else if message.starts_with("wanted exactly 1 element") {
        complaint.not_one_choice()
    } else if let Some((found, wanted)) = wrong_type(message) {
        complaint.wrong_type(found, wanted)
    } else if message.starts_with("cannot recurse further") {
        complaint.error("brackets are nested more than 80 deep", None)
    } else {
        complaint.error(message, None)
    }
}

/// A section written as an array, which would be read field by field.
pub(crate) fn check_sections(text: &str, name: &str) -> Result<(), SourceError> {
    let keys = schema::known_keys();
    let is_section =
        |path: &[String]| keys.iter().any(|key| key.section && key.path.as_slice() == path);
    let Some((path, span)) = position::section_as_array(text, is_section) else { return Ok(()) };
    let path = path.join(".");
    let error = SourceError::new(name, format!("`{path}` is an array, wanted a section"));
    Err(error.at(text, span, Some(format!("write `[{path}]`"))))
}

impl Complaint<'_> {
    fn error(&self, message: impl Into<String>, label: Option<String>) -> SourceError {
        SourceError::new(self.name, message).at(self.text, self.span.clone(), label)
    }

    fn path(&self) -> &[String] {
        self.place.as_ref().map_or(&[], |place| &place.path)
    }

    fn dotted(&self) -> String {
        self.path().join(".")
    }

    fn unknown_key(&self, key: &str) -> SourceError {
        let section = self.path().split_last().map_or(&[][..], |(_, section)| section);
        let keys = schema::known_keys();
        let shown = shortened(key);
        let message = match section {
            [] => format!("unknown key `{shown}` at the top level"),
            _ => format!("unknown key `{shown}` in `[{}]`", section.join(".")),
        };
        let siblings: Vec<&str> = keys
            .iter()
            .filter_map(|known| known.path.split_last())
            .filter(|(_, parent)| *parent == section)
            .map(|(name, _)| name.as_str())
            .collect();
        let elsewhere = keys.iter().find(|known| known.path.last().is_some_and(|n| n == key));
        let label = match (elsewhere, spelling::closest(key, siblings.iter().copied())) {
            (Some(known), _) => Some(belongs(known, section)),
            (None, Some(sibling)) => Some(format!("did you mean `{sibling}`?")),
            (None, None) => {
                let names = keys.iter().filter_map(|known| known.path.last());
                let name = spelling::closest(key, names.map(String::as_str));
                let known = keys.iter().find(|k| k.path.last().map(String::as_str) == name);
                known.map(|known| format!("did you mean {}?", in_section(known)))
            }
        };
        let help = match siblings.as_slice() {
            [] => format!("`[{}]` takes no keys", section.join(".")),
            _ if section.is_empty() => format!("the top level takes {}", list(&siblings)),
            _ => format!("`[{}]` takes {}", section.join("."), list(&siblings)),
        };
        self.error(message, label).help(Some(help))
    }

    /// `rest` is the reader's message from the unknown name on.
    fn unknown_choice(&self, rest: &str) -> SourceError {
        let mut quoted = rest.split('`').step_by(2);
        let found = quoted.next().unwrap_or_default();
        let choices: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let is_key = self.place.as_ref().is_some_and(|place| place.is_key);
        let key = match self.path().split_last() {
            Some((_, section)) if is_key => section.join("."),
            _ => self.dotted(),
        };
        let meant = spelling::closest(found, choices.iter().copied());
        let keys = schema::known_keys();
        let elsewhere = keys.iter().find(|known| known.path.last().is_some_and(|n| n == found));
        let label = match (meant, elsewhere) {
            (Some(choice), _) => Some(format!("did you mean `{choice}`?")),
            (None, Some(known)) if is_key => Some(format!("did you mean {}?", in_section(known))),
            (None, _) => None,
        };
        let found = shortened(found);
        self.error(format!("unknown choice `{found}` for `{key}`"), label)
            .help(Some(format!("`{key}` is one of {}", list(&choices))))
    }

    fn duplicate_key(&self) -> SourceError {
        let key = self.text.get(self.span.clone()).unwrap_or_default();
        let plain = key.trim_matches(['"', '\'']);
        let first = position::key_before(self.text, plain, self.span.start);
        let label = first.map(|offset| {
            let line = self.text[..offset].matches('\n').count() + 1;
            format!("first given on line {line}")
        });
        self.error(format!("`{}` is given twice", shortened(plain)), label)
    }

    fn not_one_choice(&self) -> SourceError {
        let path = self.path().to_vec();
        let choices = choices(&path);
        let written: Vec<_> =
            choices.iter().map(|choice| format!("[{}.{choice}]", path.join("."))).collect();
        let written: Vec<&str> = written.iter().map(String::as_str).collect();
        let given = position::keys_of(self.text, &path);
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let message = match given.as_slice() {
            [] => format!("`{}` names none of its choices", path.join(".")),
            _ => format!("`{}` has {}, wanted only one of them", path.join("."), list(&given)),
        };
        self.error(message, None).help(Some(format!("write one of {}", list(&written))))
    }

    fn wrong_type(&self, found: &str, wanted: &str) -> SourceError {
        let key = self.dotted();
        if found == "unit variant" {
            let value = self.text.get(self.span.clone()).unwrap_or_default();
            let choice = value.trim_matches(['"', '\'']);
            let label = match choices(self.path()).iter().any(|known| known == choice) {
                true => format!("write `[{key}.{choice}]`"),
                false => format!("wanted a section such as `[{key}.{}]`", self.first_choice()),
            };
            return self.error(format!("`{key}` is a section, not a value"), Some(label));
        }
        let wanted = match found.ends_with(" as i128") {
            true => "wanted a whole number of at most 63 bits".into(),
            false => plain_type(wanted, &key),
        };
        let error = self.error(format!("`{key}` is {}", plain_found(found)), Some(wanted));
        let text = found.strip_prefix("string \"").and_then(|rest| rest.strip_suffix('"'));
        let unquoted = text.filter(|text| text.parse::<f64>().is_ok() || is_bool(text));
        let name = self.path().last().cloned().unwrap_or_default();
        error.help(unquoted.map(|text| format!("write it without quotes: `{name} = {text}`")))
    }

    fn first_choice(&self) -> String {
        choices(self.path()).into_iter().next().unwrap_or_default()
    }
}

/// At most 60 characters of a text that may be as long as a file.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "false")
}

/// The sub-tables of a section.
fn choices(path: &[String]) -> Vec<String> {
    let keys = schema::known_keys().into_iter().map(|known| known.path);
    let below = keys.filter(|key| key.len() == path.len() + 1 && key.starts_with(path));
    below.filter_map(|mut key| key.pop()).collect()
}

/// Splits "invalid type: FOUND, expected WANTED".
fn wrong_type(message: &str) -> Option<(&str, &str)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    rest.rsplit_once(", expected ")
}

fn plain_found(found: &str) -> String {
    let found = found.strip_suffix(" as i128").unwrap_or(found);
    match found.split_once(' ') {
        Some(("string", text)) => format!("the string `{}`", shortened(text)),
        Some(("floating", rest)) => rest.replacen("point", "the number", 1),
        Some(("integer", rest)) => format!("the number {rest}"),
        Some(("boolean", rest)) => format!("the truth value {rest}"),
        _ => match found {
            "map" => "a section".into(),
            "sequence" => "an array".into(),
            other => other.into(),
        },
    }
}

fn plain_type(wanted: &str, key: &str) -> String {
    match wanted {
        "f64" => "wanted a number".into(),
        "u64" | "usize" => "wanted a whole number, 0 or more".into(),
        "a boolean" => "wanted `true` or `false`".into(),
        "path string" => "wanted a path in quotes".into(),
        other if other.starts_with("struct ") => format!("wanted the section `[{key}]`"),
        other => format!("wanted {other}"),
    }
}

/// Where a key belongs that stands in the wrong section.
fn belongs(known: &KnownKey, section: &[String]) -> String {
    let (key, parent) = known.path.split_last().expect("a known key has a name");
    if known.section {
        return format!("did you mean `[{}]`?", known.path.join("."));
    }
    for table in VARIANT_TABLES {
        let in_table = |path: &[String]| {
            path.len() > table.len() && path.iter().zip(table).all(|(name, wanted)| name == wanted)
        };
        if in_table(parent) && in_table(section) {
            let table = table.join(".");
            let choice = section.last().expect("a section inside a table has a name");
            let owner = parent.join(".");
            return format!("`{key}` belongs to `[{owner}]`, but `{table}` is `{choice}` here");
        }
    }
    match parent {
        [] => format!("`{key}` belongs at the top level, before the first section"),
        _ => format!("`{key}` belongs to `[{}]`", parent.join(".")),
    }
}

fn in_section(known: &KnownKey) -> String {
    match known.path.split_last() {
        _ if known.section => format!("`[{}]`", known.path.join(".")),
        Some((key, parent)) if !parent.is_empty() => {
            format!("`{key}` in `[{}]`", parent.join("."))
        }
        _ => format!("`{}`", known.path.join(".")),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests;
