//! JSON as Python's `json.dumps` writes it.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as Jinja};

use super::text::{Paid, check_depth, number};

/// The widest indentation of a level, in spaces; published templates use up to 4.
const MAX_INDENT: usize = 64;

/// The arguments of `json.dumps` that templates use.
struct JsonStyle {
    ensure_ascii: bool,
    sort_keys: bool,
    /// Spaces a level; `None` writes one line.
    indent: Option<usize>,
    /// Between items, and between a key and its value.
    separators: (String, String),
}

/// The filter `tojson`: `json.dumps` as Hugging Face's templates call it.
pub(super) fn tojson(state: &State, value: &Jinja, kwargs: Kwargs) -> Result<String, Error> {
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(bad("`separators` wants two strings")),
    };
    let indent: Option<usize> = kwargs.get("indent")?;
    if let Some(indent) = indent.filter(|&indent| indent > MAX_INDENT) {
        return Err(bad(format!("`indent` is {indent}, wanted at most {MAX_INDENT}")));
    }
    let style = JsonStyle {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        separators: separators.unwrap_or_else(|| {
            let item = if indent.is_some() { "," } else { ", " };
            (item.into(), ": ".into())
        }),
    };
    kwargs.assert_all_used()?;
    let mut out = Paid::new(state);
    write_value(&mut out, value, &style, 0)?;
    Ok(out.finish())
}

fn bad(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

fn write_value(
    out: &mut Paid,
    value: &Jinja,
    style: &JsonStyle,
    level: usize,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push("null"),
        ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push(&json_number(value)),
        ValueKind::String => out.push(&quoted(value.as_str().unwrap_or_default(), style)),
        ValueKind::Seq | ValueKind::Iterable => {
            write_items(out, ['[', ']'], style, level, value.try_iter()?, |out, item| {
                write_value(out, &item, style, level + 1)
            })
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                entries.push((key_text(&key)?, value.get_item(&key)?));
            }
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            write_items(out, ['{', '}'], style, level, entries.into_iter(), |out, (key, value)| {
                out.push(&quoted(&key, style))?;
                out.push(&style.separators.1)?;
                write_value(out, &value, style, level + 1)
            })
        }
        ValueKind::Undefined => Err(bad("tojson got an undefined value")),
        kind => Err(bad(format!("tojson got a value of type {kind}"))),
    }
}

/// A number; what is not finite is written as Python writes it, which is no JSON.
fn json_number(value: &Jinja) -> String {
    match number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        finite => finite.into(),
    }
}

/// A map's key as the text that Python makes of it.
fn key_text(key: &Jinja) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().into()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(json_number(key)),
        kind => Err(bad(format!("tojson got a key of type {kind}"))),
    }
}

fn write_items<T>(
    out: &mut Paid,
    [open, close]: [char; 2],
    style: &JsonStyle,
    level: usize,
    items: impl Iterator<Item = T>,
    mut write_one: impl FnMut(&mut Paid, T) -> Result<(), Error>,
) -> Result<(), Error> {
    check_depth(level)?;
    let break_line = |out: &mut Paid, level: usize| match style.indent {
        Some(indent) => out.push(&format!("\n{}", " ".repeat(indent * level))),
        None => Ok(()),
    };
    let mut empty = true;
    out.push(open.encode_utf8(&mut [0; 4]))?;
    for item in items {
        if !empty {
            out.push(&style.separators.0)?;
        }
        empty = false;
        break_line(out, level + 1)?;
        write_one(out, item)?;
    }
    if !empty {
        break_line(out, level)?;
    }
    out.push(close.encode_utf8(&mut [0; 4]))
}

fn quoted(text: &str, style: &JsonStyle) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            // The renderer's own characters are taken out of the text again, so they stay.
            c if super::generation::is_reserved(c) => out.push(c),
            c if c < ' ' || (style.ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string does not fail");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;
    use minijinja::value::Serde;
    use serde_json::{Value, json};

    use super::*;

    fn dumps(value: &Value, arguments: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let source = format!("{{{{ v | tojson({arguments}) }}}}");
        environment.render_str(&source, Serde(json!({ "v": value })))
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        let value = json!({"b": "<é\u{1}\u{7f}😀\u{e002}>", "a": [1, null, true, [], 1e-5]});
        let plain = "{\"a\": [1, null, true, [], 1e-05], \"b\": \"<é\\u0001\u{7f}😀\u{e002}>\"}";
        assert_eq!(dumps(&value, "sort_keys=true").unwrap(), plain);
        let ascii = "{\"a\": [1, null, true, [], 1e-05], \
                     \"b\": \"<\\u00e9\\u0001\\u007f\\ud83d\\ude00\u{e002}>\"}";
        assert_eq!(dumps(&value, "sort_keys=true, ensure_ascii=true").unwrap(), ascii);
    }

    #[test]
    fn indentation_breaks_lines_as_python_does_and_is_bounded() {
        let value = json!({"a": [1, 2], "b": {}});
        let text = "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}";
        assert_eq!(dumps(&value, "indent=2").unwrap(), text);
        let error = dumps(&value, "indent=1000000000").unwrap_err();
        assert!(error.to_string().contains("wanted at most 64"), "{error}");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(dumps(&nested(128), "").unwrap().len(), 257);
        let error = dumps(&nested(129), "").unwrap_err();
        assert!(error.to_string().contains("more than 128 deep"), "{error}");
    }
}
