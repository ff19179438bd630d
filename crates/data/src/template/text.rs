//! Values as text: Python's `str` and `repr`, written within the template's budget.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as Jinja};

/// How deep lists and maps may be nested in what is written out; JSON that is read has at most 128.
pub(super) const MAX_DEPTH: usize = 128;
/// Bytes written between two payments; a payment costs one fuel for 16 bytes.
const PAID_AT_ONCE: usize = 1024;

/// A text that grows only as far as the template's fuel pays for it.
///
/// A value can hold itself twice at each of 40 levels, so its text can be longer than any memory:
/// what is charged afterwards is charged too late.
pub(super) struct Paid<'a, 'template, 'env> {
    state: &'a State<'template, 'env>,
    out: String,
    unpaid: usize,
}

impl<'a, 'template, 'env> Paid<'a, 'template, 'env> {
    pub(super) fn new(state: &'a State<'template, 'env>) -> Self {
        Self { state, out: String::new(), unpaid: 0 }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        self.unpaid += text.len();
        if self.unpaid >= PAID_AT_ONCE {
            self.state.consume_fuel((self.unpaid / 16) as u64)?;
            self.unpaid = 0;
        }
        self.out.push_str(text);
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// What Python's `str` gives: a text as it is, everything else as [`repr`] writes it.
pub(super) fn python_str(state: &State, value: &Jinja) -> Result<String, Error> {
    let mut out = Paid::new(state);
    push_str(&mut out, value)?;
    Ok(out.finish())
}

/// Appends what Python's `str` gives.
pub(super) fn push_str(out: &mut Paid, value: &Jinja) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push(text),
        None if value.is_undefined() => Ok(()),
        None => repr(out, value, 0),
    }
}

/// The error that a value is nested too deep.
pub(super) fn check_depth(depth: usize) -> Result<(), Error> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    let detail = format!("a value is nested more than {MAX_DEPTH} deep and cannot be written");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// Appends what Python's `repr` gives.
fn repr(out: &mut Paid, value: &Jinja, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => out.push(&string_repr(value.as_str().unwrap_or_default())),
        ValueKind::Map => {
            check_depth(depth)?;
            out.push("{")?;
            for (i, key) in value.try_iter()?.enumerate() {
                out.push(if i == 0 { "" } else { ", " })?;
                repr(out, &key, depth + 1)?;
                out.push(": ")?;
                repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push("}")
        }
        ValueKind::Seq => sequence(out, value, depth),
        ValueKind::Iterable if value.len().is_some() => sequence(out, value, depth),
        ValueKind::Invalid => Err(value.try_iter().err().unwrap_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, "an invalid value cannot be written")
        })),
        // None, truth values, bytes, and objects that are neither a list nor a map.
        _ => out.push(&value.to_string()),
    }
}

fn sequence(out: &mut Paid, value: &Jinja, depth: usize) -> Result<(), Error> {
    check_depth(depth)?;
    let tuple = value.downcast_object_ref::<Tuple>();
    out.push(if tuple.is_some() { "(" } else { "[" })?;
    for (i, item) in value.try_iter()?.enumerate() {
        out.push(if i == 0 { "" } else { ", " })?;
        repr(out, &item, depth + 1)?;
    }
    match tuple.map(|tuple| tuple.len()) {
        Some(1) => out.push(",)"),
        Some(_) => out.push(")"),
        None => out.push("]"),
    }
}

/// A number as Python's `repr` writes it.
pub(super) fn number(value: &Jinja) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_repr(float),
        _ => value.to_string(),
    }
}

/// Python's shortest form of a float: its exponent has a sign and at least two digits.
pub(super) fn float_repr(float: f64) -> String {
    if !float.is_finite() {
        return float.to_string().to_lowercase();
    }
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

/// A text in quotes, with escapes for what Python does not print.
fn string_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) || super::generation::is_reserved(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xFF => format!("\\x{code:02x}"),
                    0x100..=0xFFFF => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
    out
}

/// Python's `str.isprintable`: every character but the categories C and Z, and the space.
///
/// The standard library's `escape_debug` draws the same line; behind another character it does
/// not escape combining ones.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let text: String = ['a', c].into_iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_pythons_repr() {
        for (float, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-10, "-2.5e-10"),
            (1e100, "1e+100"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float_repr(float), text);
        }
    }

    #[test]
    fn texts_are_quoted_and_escaped_as_python_does() {
        for (text, wanted) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("\\\n\r\t\u{7f}\u{0}", "'\\\\\\n\\r\\t\\x7f\\x00'"),
            ("\u{a0}\u{200b}\u{2028}\u{ad}", "'\\xa0\\u200b\\u2028\\xad'"),
            ("e\u{301} ß 日 🙂 \u{e0001}", "'e\u{301} ß 日 🙂 \\U000e0001'"),
            ("\u{3000}\u{e000}\u{e003}", "'\\u3000\u{e000}\\ue003'"),
        ] {
            assert_eq!(string_repr(text), wanted);
        }
    }
}
