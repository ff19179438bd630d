//! Keeps a panic of the tokenizer inside one call.
//!
//! The crate `onig` panics where its engine gives up on a text ("retry-limit-in-match over"), and
//! has no call that gives an error instead. A text that does that is a fault of its row, so the
//! panic is caught, and the process's hook is told to say nothing about it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::TokenizerError;

thread_local! {
    /// Whether a panic of this thread is about to be caught here.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// The answer of a call into the tokenizer, its panic as an error.
pub(super) fn contained<T>(
    call: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, TokenizerError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                before(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    // Nothing that the call changes is looked at after a panic: a tokenizer is read alone, and the
    // lock of its cache is not held while a pattern runs.
    let answer = catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(outer);
    match answer {
        Ok(answer) => answer.map_err(super::failed),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            let detail = words.unwrap_or("it panicked").to_string();
            Err(TokenizerError::Failed { detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        let panics = || -> tokenizers::Result<()> { panic!("gave up at {}", 3) };
        let error = contained(panics).unwrap_err();
        assert_eq!(error.to_string(), "the tokenizer failed: gave up at 3");
    }
}
