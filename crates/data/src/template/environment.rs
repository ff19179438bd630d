//! What a template can call: Jinja2's environment as Hugging Face's library sets it up.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value as Jinja,
    args,
};

use super::fault::RaisedByTemplate;
use super::text::{Paid, push_str, python_str};
use super::{json, python};

/// How deep a template's calls and includes may go.
const RECURSION_LIMIT: usize = 64;

/// An environment without templates, and without fuel yet.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(whitespace?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(python::method);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_formatter(write);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", string);
    environment.add_filter("join", join);
    // The crate's own `pprint` takes time and memory quadratic in the depth of a value.
    environment.add_filter("pprint", python_str);
    // Jinja2 has no such function; here it would print the whole context.
    environment.remove_global("debug");
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    Ok(environment)
}

/// Prints a value: what Python's `str` gives.
fn write(out: &mut Output, state: &mut State, value: &Jinja) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&python_str(state, value)?)?,
    }
    Ok(())
}

fn string(state: &State, value: &Jinja) -> Result<Jinja, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => Ok(python_str(state, value)?.into()),
    }
}

/// Jinja2's `join(value, d='', attribute=none)`.
fn join(
    state: &mut State,
    value: Jinja,
    joiner: Option<Jinja>,
    attribute: Option<Jinja>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let joiner = match joiner {
        Some(joiner) => Some(joiner),
        None => kwargs.get("d")?,
    };
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => kwargs.get("attribute")?,
    };
    kwargs.assert_all_used()?;
    let value = match attribute {
        Some(attribute) => state.apply_filter("map", args!(value, attribute => attribute))?,
        None => value,
    };
    let joiner = joiner.map(|joiner| python_str(state, &joiner)).transpose()?.unwrap_or_default();
    if value.is_undefined() {
        return Ok(String::new());
    }
    let mut out = Paid::new(state);
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            out.push(&joiner)?;
        }
        push_str(&mut out, &item)?;
    }
    Ok(out.finish())
}

fn raise_exception(message: String) -> Result<Jinja, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(RaisedByTemplate(message)))
}

/// Whether Python could iterate over the value; over an undefined one it can.
fn is_iterable(value: &Jinja) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// Whether the value has a length and items: Jinja2's test takes maps and texts too.
fn is_sequence(value: &Jinja) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map => true,
        ValueKind::Iterable => value.len().is_some(),
        _ => false,
    }
}
