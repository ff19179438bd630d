//! Decoding one id at a time, as generation needs it.

use super::{Tokenizer, TokenizerError};

/// A decoder that gives text as soon as it is whole.
///
/// A character may be spread over several tokens; nothing of it is given until all are there.
/// The pieces together are what decoding all ids at once gives.
#[derive(Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// The ids that the text not yet given depends on.
    window: Vec<u32>,
    /// How many of those have been given already.
    given: usize,
}

impl<'t> DecodeStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, window: Vec::new(), given: 0 }
    }

    /// Takes the next id and gives the text that became whole by it, often none.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        self.window.push(id);
        self.advance(false)
    }

    /// The text still held back at the end; a broken character in it becomes U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn finish(mut self) -> Result<Option<String>, TokenizerError> {
        self.advance(true)
    }

    fn advance(&mut self, last: bool) -> Result<Option<String>, TokenizerError> {
        // The tokens given before stay in the window: whether a space is written before a token
        // depends on there being one in front of it.
        let before = self.tokenizer.decode(&self.window[..self.given], self.skip_special)?;
        let now = self.tokenizer.decode(&self.window, self.skip_special)?;
        if now.ends_with('\u{FFFD}') && !last {
            return Ok(None);
        }
        let Some(new) = now.strip_prefix(before.as_str()).filter(|new| !new.is_empty()) else {
            return Ok(None);
        };
        let new = new.to_string();
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(Some(new))
    }
}
