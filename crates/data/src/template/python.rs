//! Methods of Python's types.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value as Jinja};
use minijinja_contrib::pycompat;

use super::text::{Paid, python_str};

/// The largest width or precision that `str.format` may be asked for.
const MAX_WIDTH: usize = 4096;

/// A method of a Python type. `str.title` is written here: the compatibility crate leaves letters
/// behind a slash or a digit small, Python does not. `str.join` and `str.format` are bounded.
pub(super) fn method(
    state: &mut State,
    value: &Jinja,
    name: &str,
    args: &[Jinja],
) -> Result<Jinja, Error> {
    match (value.as_str(), name) {
        (Some(text), "title") if args.is_empty() => Ok(title(text).into()),
        (Some(text), "join") => join(state, text, args).map(Jinja::from),
        (Some(text), "format") => {
            check_format(text)?;
            for arg in args.iter().filter(|arg| arg.as_object().is_some()) {
                // Refuses what is too deep or too long before it is formatted.
                python_str(state, arg)?;
            }
            pycompat::unknown_method_callback(state, value, name, args)
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.join`, which as in Python takes nothing but texts.
fn join(state: &State, separator: &str, args: &[Jinja]) -> Result<String, Error> {
    let (items,): (&Jinja,) = from_args(args)?;
    let mut out = Paid::new(state);
    for (i, item) in items.try_iter()?.enumerate() {
        let Some(text) = item.as_str() else {
            let detail = format!("join wants texts, but item {i} is a {}", item.kind());
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        };
        if i > 0 {
            out.push(separator)?;
        }
        out.push(text)?;
    }
    Ok(out.finish())
}

/// Refuses a format whose fields ask for more than [`MAX_WIDTH`] characters.
fn check_format(format: &str) -> Result<(), Error> {
    let (mut inside, mut width) = (0_usize, 0_usize);
    for c in format.chars() {
        match c {
            '{' => inside += 1,
            '}' => inside = inside.saturating_sub(1),
            _ => {}
        }
        width = match c.to_digit(10) {
            Some(digit) if inside > 0 => width.saturating_mul(10).saturating_add(digit as usize),
            _ => 0,
        };
        if width > MAX_WIDTH {
            let detail = format!("a format asks for a width above {MAX_WIDTH}");
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_start_anew_behind_everything_but_letters() {
        assert_eq!(title("it's </think> 2ND ÉTÉ"), "It'S </Think> 2Nd Été");
    }

    #[test]
    fn widths_count_inside_fields_alone() {
        check_format("{{}} in 123456 {:>40} {0:.3f} {a}").unwrap();
        check_format("{:999999999}").unwrap_err();
        check_format("{:.999999999f}").unwrap_err();
    }
}
