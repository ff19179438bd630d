//! What a template may spend: fuel, and the stack that goes with it.
//!
//! A template can nest a value one level deeper for about two fuel, and the engine walks values by
//! recursion: to compare them, to print them with `~`, and to drop them. A level takes up to
//! 640 bytes of stack (measured with minijinja 3.1 and 50,000 levels). So a rendering first gets
//! little fuel on the caller's stack, which is enough for nearly all; if it runs out, it starts
//! again with all of it on a thread whose stack holds whatever that much fuel can nest.

use minijinja::{Environment, Error, Value as Jinja};
use serde_json::Value;

use super::TemplateError;
use super::fault::{is_out_of_fuel, of_render};

/// Fuel of the first try: at most 1.3 MB of stack, of the 2 MiB that a thread has at least.
const QUICK_FUEL: u64 = 2_000;
/// Fuel of the second try; published templates need about a hundred for a turn.
const FUEL: u64 = 500_000;
/// Bytes of the conversation that add one fuel: text is charged one fuel for 64 bytes each time
/// that it is copied, and templates copy it less than eight times.
const BYTES_PER_FUEL: u64 = 8;
/// Stack for each unit of fuel, in bytes.
const STACK_PER_FUEL: u64 = 768;

/// The text of the template `name`; `bytes` is how long the texts of the conversation are.
pub(super) fn render(
    environment: &Environment<'static>,
    name: &str,
    context: Jinja,
    bytes: u64,
) -> Result<String, TemplateError> {
    match with_fuel(environment, QUICK_FUEL, name, context.clone()) {
        Err(error) if is_out_of_fuel(&error) => {}
        Err(error) => return Err(of_render(&error)),
        Ok(text) => return Ok(text),
    }
    let failed = |detail: String| TemplateError::Failed { detail };
    let fuel = FUEL + bytes / BYTES_PER_FUEL;
    let stack = usize::try_from(fuel * STACK_PER_FUEL)
        .map_err(|_| failed("the conversation is too long".into()))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat template".into()).stack_size(stack);
        let thread = thread.spawn_scoped(scope, || {
            with_fuel(environment, fuel, name, context).map_err(|error| of_render(&error))
        });
        let thread = thread.map_err(|error| {
            failed(format!("no thread with a stack of {stack} bytes can be had: {error}"))
        })?;
        thread.join().map_err(|_| failed("the template engine panicked".into()))?
    })
}

fn with_fuel(
    environment: &Environment<'static>,
    fuel: u64,
    name: &str,
    context: Jinja,
) -> Result<String, Error> {
    let mut environment = environment.clone();
    environment.set_fuel(Some(fuel));
    environment.get_template(name)?.render(context)
}

/// The bytes of all texts in a value.
pub(super) fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(list) => list.iter().map(text_bytes).sum(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() as u64 + text_bytes(value)).sum()
        }
        _ => 0,
    }
}
