//! From a place in TOML text to the key it belongs to, and back.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

/// The key that a piece of the text belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The key with its sections.
    pub path: Vec<String>,
    /// Whether the piece is the key itself and not its value.
    pub is_key: bool,
}

/// The key that `offset` (bytes) lies in, or whose value it lies in.
pub(crate) fn place_at(text: &str, offset: usize) -> Option<Place> {
    let (table, _) = DeTable::parse_recoverable(text);
    // Keys first: in `[method.lora]` the word `method` also lies in the header of `lora`.
    [true, false].into_iter().find_map(|is_key| {
        let path = find(table.get_ref(), offset, is_key)?;
        Some(Place { path, is_key })
    })
}

// Recursion is bounded: the parser refuses to nest deeper than 80.
fn find(table: &DeTable<'_>, offset: usize, is_key: bool) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let inner = tables(value.get_ref()).find_map(|inner| find(inner, offset, is_key));
        let span = if is_key { key.span() } else { value.span() };
        let rest = inner.or_else(|| span.contains(&offset).then(Vec::new))?;
        Some([vec![key.get_ref().to_string()], rest].concat())
    })
}

/// The value itself if it is a table, or the tables in it if it is an array.
fn tables<'t, 'i>(value: &'t DeValue<'i>) -> impl Iterator<Item = &'t DeTable<'i>> {
    let items = value.as_array().into_iter().flat_map(|items| items.iter());
    value.as_table().into_iter().chain(items.filter_map(|item| item.get_ref().as_table()))
}

/// The keys of a section.
pub(crate) fn keys_of(text: &str, path: &[String]) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut table = Some(table.get_ref());
    for section in path {
        table = table
            .and_then(|table| entry(table, section))
            .and_then(|(_, value)| value.get_ref().as_table());
    }
    table.into_iter().flatten().map(|(key, _)| key.get_ref().to_string()).collect()
}

/// Where the value of a key stands (bytes); a section's value is its header.
pub(crate) fn value_span(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let (table, _) = DeTable::parse_recoverable(text);
    let (last, sections) = path.split_last()?;
    let mut table = table.get_ref();
    for section in sections {
        table = entry(table, section)?.1.get_ref().as_table()?;
    }
    entry(table, last).map(|(_, value)| value.span())
}

fn entry<'t, 'i>(
    table: &'t DeTable<'i>,
    name: &str,
) -> Option<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

/// The last key of this name that ends before `offset` (bytes).
pub(crate) fn key_before(text: &str, name: &str, offset: usize) -> Option<usize> {
    fn search(table: &DeTable<'_>, name: &str, offset: usize) -> Option<usize> {
        let own = |key: &Spanned<DeString<'_>>| {
            (key.get_ref() == name && key.span().end <= offset).then(|| key.span().start)
        };
        let within = |value: &Spanned<DeValue<'_>>| {
            value.get_ref().as_table().and_then(|inner| search(inner, name, offset))
        };
        table.iter().filter_map(|(key, value)| own(key).max(within(value))).max()
    }
    search(DeTable::parse_recoverable(text).0.get_ref(), name, offset)
}

/// The first section that is written as an array, which serde would read field by field.
pub(crate) fn section_as_array(
    text: &str,
    is_section: impl Fn(&[String]) -> bool,
) -> Option<(Vec<String>, Range<usize>)> {
    fn search(
        table: &DeTable<'_>,
        path: &mut Vec<String>,
        is_section: &dyn Fn(&[String]) -> bool,
    ) -> Option<(Vec<String>, Range<usize>)> {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            if value.get_ref().is_array() && is_section(path) {
                return Some((path.clone(), value.span()));
            }
            let inner = value.get_ref().as_table();
            if let Some(found) = inner.and_then(|inner| search(inner, path, is_section)) {
                return Some(found);
            }
            path.pop();
        }
        None
    }
    search(DeTable::parse_recoverable(text).0.get_ref(), &mut Vec::new(), &is_section)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b]\nc = \"x\"\n[b.d]\ne = [1, 2]\nf = { g = 3 }\n";

    fn place(piece: &str) -> (String, bool) {
        let place = place_at(TEXT, TEXT.find(piece).unwrap()).unwrap();
        (place.path.join("."), place.is_key)
    }

    #[test]
    fn keys_and_values_are_told_apart() {
        assert_eq!(place("a ="), ("a".into(), true));
        assert_eq!(place("1\n"), ("a".into(), false));
        assert_eq!(place("\"x\""), ("b.c".into(), false));
        assert_eq!(place("d]"), ("b.d".into(), true));
        assert_eq!(place("2]"), ("b.d.e".into(), false));
        assert_eq!(place("g ="), ("b.d.f.g".into(), true));
    }

    #[test]
    fn a_word_of_a_header_is_the_key_it_names() {
        let text = "[method.lora]\n[method.full]\n";
        let place = |offset| place_at(text, offset).map(|place| place.path.join("."));
        assert_eq!(place(1).as_deref(), Some("method"));
        assert_eq!(place(8).as_deref(), Some("method.lora"));
        assert_eq!(keys_of(text, &["method".into()]), ["full", "lora"]);
    }

    #[test]
    fn the_value_of_a_path_is_found() {
        let text = |path: &[&str]| value_span(TEXT, path).map(|span| &TEXT[span]);
        assert_eq!(text(&["b", "c"]), Some("\"x\""));
        assert_eq!(text(&["b", "d", "f", "g"]), Some("3"));
        assert_eq!(text(&["b", "d"]), Some("[b.d]"));
        assert_eq!(text(&["b", "nothing"]), None);
    }
}
