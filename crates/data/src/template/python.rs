//! What templates take from Python: JSON as `json.dumps` writes it, and methods of its types.

use std::fmt::Write;

use minijinja::{Error, State, Value as Jinja};
use minijinja_contrib::pycompat;
use serde_json::Value;

/// A method of a Python type. `str.title` is written here: the compatibility crate leaves letters
/// behind a slash or a digit small, Python does not.
pub(super) fn method(
    state: &mut State,
    value: &Jinja,
    name: &str,
    args: &[Jinja],
) -> Result<Jinja, Error> {
    match value.as_str().filter(|_| name == "title" && args.is_empty()) {
        Some(text) => Ok(title(text).into()),
        None => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The text with the first letter of each run of letters large and the others small.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The arguments of `json.dumps` that templates use.
pub(super) struct JsonStyle {
    pub(super) ensure_ascii: bool,
    pub(super) sort_keys: bool,
    /// Spaces a level; `None` writes one line.
    pub(super) indent: Option<usize>,
    /// Between items, and between a key and its value.
    pub(super) separators: (String, String),
}

/// The text of a value.
pub(super) fn dumps(value: &Value, style: &JsonStyle) -> String {
    let mut out = String::new();
    write_value(&mut out, value, style, 0);
    out
}

fn write_value(out: &mut String, value: &Value, style: &JsonStyle, level: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&float_repr(float)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(out, text, style.ensure_ascii),
        Value::Array(list) => {
            write_items(out, ['[', ']'], style, level, list.iter(), |out, item| {
                write_value(out, item, style, level + 1);
            });
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(b.0));
            }
            write_items(out, ['{', '}'], style, level, entries.into_iter(), |out, entry| {
                write_string(out, entry.0, style.ensure_ascii);
                out.push_str(&style.separators.1);
                write_value(out, entry.1, style, level + 1);
            });
        }
    }
}

fn write_items<T>(
    out: &mut String,
    [open, close]: [char; 2],
    style: &JsonStyle,
    level: usize,
    items: impl ExactSizeIterator<Item = T>,
    mut write_one: impl FnMut(&mut String, T),
) {
    let break_line = |out: &mut String, level: usize| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    };
    let empty = items.len() == 0;
    out.push(open);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push_str(&style.separators.0);
        }
        break_line(out, level + 1);
        write_one(out, item);
    }
    if !empty {
        break_line(out, level);
    }
    out.push(close);
}

fn write_string(out: &mut String, text: &str, ensure_ascii: bool) {
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
            c if c < ' ' || (ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string does not fail");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Python's shortest form of a float: its exponent has a sign and at least two digits.
fn float_repr(float: f64) -> String {
    let short = format!("{float:?}");
    match short.split_once('e') {
        None => short,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn titles_start_anew_behind_everything_but_letters() {
        assert_eq!(title("it's </think> 2ND ÉTÉ"), "It'S </Think> 2Nd Été");
    }

    #[test]
    fn floats_read_as_pythons_repr() {
        for (float, text) in [
            (1.0, "1.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-10, "-2.5e-10"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(float_repr(float), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        let style = |ensure_ascii| JsonStyle {
            ensure_ascii,
            sort_keys: true,
            indent: None,
            separators: (", ".into(), ": ".into()),
        };
        let value = json!({"b": "<é\u{1}\u{7f}😀>", "a": [1, null, true, []]});
        let plain = "{\"a\": [1, null, true, []], \"b\": \"<é\\u0001\u{7f}😀>\"}";
        assert_eq!(dumps(&value, &style(false)), plain);
        let ascii = r#"{"a": [1, null, true, []], "b": "<\u00e9\u0001\u007f\ud83d\ude00>"}"#;
        assert_eq!(dumps(&value, &style(true)), ascii);
    }

    #[test]
    fn indentation_breaks_lines_as_python_does() {
        let style = JsonStyle {
            ensure_ascii: false,
            sort_keys: false,
            indent: Some(2),
            separators: (",".into(), ": ".into()),
        };
        let value = json!({"a": [1, 2], "b": {}});
        assert_eq!(dumps(&value, &style), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
    }
}
