//! From a record to token ids and the mask of what is trained on.

mod guard;
mod lengths;
mod report;
mod spans;

use std::ops::Range;

use serde_json::Value;

use crate::error::RowError;
use crate::record::{Message, Record, Role};
use crate::template::{ChatTemplate, TemplateError};
use crate::tokenizer::{Encoded, Specials, Tokenizer, TokenizerError};
use guard::Guarded;

pub use lengths::{Pieces, TooLong, UnknownTooLongName};
pub use report::{LengthReport, LongRow, RenderReport, RowSample};

/// One row, ready to be trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Whether each token is to be predicted; as long as `tokens`.
    pub target: Vec<bool>,
    /// Whether the row was cut to the longest length.
    pub truncated: bool,
}

impl Sample {
    /// Targets that can be predicted: those that have a token before them.
    #[must_use]
    pub fn n_targets(&self) -> usize {
        self.target.iter().skip(1).filter(|&&target| target).count()
    }
}

/// Turns records into samples.
///
/// * A **conversation** is rendered by the chat template and encoded once, as a whole. Targets
///   are the assistant's turns: each token that starts in the text that the template writes for
///   the turn, from behind the generation prompt up to and with the end-of-turn token.
/// * A **completion** is encoded with its prompt; the completion and the end-of-text token are
///   targets.
/// * A **text** is a target as a whole and ends with the end-of-text token.
///
/// Completions and texts start with the begin-of-text token if the tokenizer's policy says so;
/// neither token is ever doubled. The names of special tokens inside a row's own text are text
/// like any other: special ids come from the template and from here alone (fault M10).
#[derive(Debug)]
pub struct Renderer {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Conversations to text; without it, conversations are refused.
    pub template: Option<ChatTemplate>,
    /// The longest sample, in tokens.
    pub max_tokens: usize,
    /// What becomes of longer ones.
    pub too_long: TooLong,
}

impl Renderer {
    /// The sample of a record whose length needs at most a cut.
    ///
    /// # Errors
    /// [`RowError`] if the row cannot be rendered, leaves nothing to train on, or is too long to be
    /// one sample, which under [`TooLong::Split`] is the business of [`Renderer::pieces`].
    pub fn render(&self, record: &Record) -> Result<Sample, RowError> {
        let mut pieces = self.pieces(record)?;
        let (tokens, max_tokens) = (pieces.tokens, self.max_tokens);
        match (pieces.samples.pop(), pieces.samples.is_empty()) {
            (Some((_, sample)), true) if !pieces.is_split() => Ok(sample),
            _ => Err(RowError::TooLong { tokens, max_tokens }),
        }
    }

    /// The samples of a record: one, or under [`TooLong::Split`] perhaps several.
    ///
    /// # Errors
    /// [`RowError`] if the row cannot be rendered, is too long, or leaves nothing to train on.
    pub fn pieces(&self, record: &Record) -> Result<Pieces, RowError> {
        lengths::fit(self.whole(record)?, self.too_long, self.max_tokens)
    }

    /// The record's sample, however long it is.
    fn whole(&self, record: &Record) -> Result<Sample, RowError> {
        match record {
            Record::Chat { messages, tools } => self.chat(messages, tools.as_ref()),
            Record::Completion { prompt, completion } => {
                let text = format!("{prompt}{completion}");
                self.document(&text, prompt.len()..text.len())
            }
            Record::Text(text) => {
                let mut sample = self.document(text, 0..text.len())?;
                sample.target.fill(true);
                Ok(sample)
            }
        }
    }

    /// The ids that the assistant's next turn follows: the very ids that training sees there.
    ///
    /// # Errors
    /// [`RowError`] if there is no template, or it or the tokenizer fails.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, RowError> {
        self.prompt_with_tools(messages, None)
    }

    /// As [`Renderer::prompt`], with tools offered to the assistant.
    ///
    /// # Errors
    /// As [`Renderer::prompt`].
    pub fn prompt_with_tools(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>, RowError> {
        let template = self.template.as_ref().ok_or(RowError::NoTemplate)?;
        let specials = self.tokenizer.special_texts();
        let Guarded { messages, tools } = guard::guard(messages, tools, specials)?;
        let rendered = template.render_marked(&messages, tools.as_ref(), true)?;
        Ok(guard::encode(&self.tokenizer, &guard::clean(rendered))?.ids)
    }

    /// Who speaks each token of the record, cut or not, for showing it; `None` where that is unknown.
    ///
    /// A completion's prompt counts as the user's, what follows as the assistant's.
    ///
    /// # Errors
    /// As [`Renderer::render`], except for the length.
    pub fn roles(&self, record: &Record) -> Result<Vec<Option<Role>>, RowError> {
        Ok(match record {
            Record::Chat { messages, tools } => self.chat_roles(messages, tools.as_ref())?,
            Record::Completion { .. } => {
                let sample = self.whole(record)?;
                let first = sample.target.iter().position(|&target| target).unwrap_or(0);
                let role = |place| if place < first { Role::User } else { Role::Assistant };
                (0..sample.tokens.len()).map(|place| Some(role(place))).collect()
            }
            Record::Text(_) => vec![None; self.whole(record)?.tokens.len()],
        })
    }

    fn chat_roles(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<Option<Role>>, RowError> {
        let template = self.template.as_ref().ok_or(RowError::NoTemplate)?;
        let Guarded { messages, tools } =
            guard::guard(messages, tools, self.tokenizer.special_texts())?;
        let whole = guard::clean(template.render_marked(&messages, tools.as_ref(), false)?);
        let turns = spans::of_turns(template, &messages, tools.as_ref(), &whole)?;
        let encoded = guard::encode(&self.tokenizer, &whole)?;
        let ranges: Vec<_> = turns.iter().map(|(_, range)| range.clone()).collect();
        let owners = owners(&encoded, &ranges).into_iter();
        Ok(owners.map(|owner| owner.map(|turn| turns[turn].0)).collect())
    }

    fn chat(&self, messages: &[Message], tools: Option<&Value>) -> Result<Sample, RowError> {
        let template = self.template.as_ref().ok_or(RowError::NoTemplate)?;
        let specials = self.tokenizer.special_texts();
        let Guarded { messages, tools } = guard::guard(messages, tools, specials)?;
        let tools = tools.as_ref();
        let whole = guard::clean(template.render_marked(&messages, tools, false)?);
        if !messages.iter().any(says_something_to_learn) {
            return Err(RowError::NoTarget);
        }
        let spans = spans::of_assistant(template, &messages, tools, &whole, specials)?;
        let encoded = guard::encode(&self.tokenizer, &whole)?;
        let target = targets(&encoded, &spans);
        Ok(Sample { tokens: encoded.ids, target, truncated: false })
    }

    /// A text outside any template: begin and end of text where they belong.
    fn document(&self, text: &str, target: Range<usize>) -> Result<Sample, RowError> {
        let encoded = self.tokenizer.encode_with_offsets(text, Specials::Plain)?;
        let mut targets = targets(&encoded, &[target]);
        let mut tokens = encoded.ids;
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        if let Some(bos) = bos.filter(|&bos| tokens.first() != Some(&bos)) {
            tokens.insert(0, bos);
            targets.insert(0, false);
        }
        // Without any target in the row's own text there is nothing whose end could be learnt.
        let any = targets.contains(&true);
        let eos = self.tokenizer.eos().filter(|_| any);
        if let Some(eos) = eos.filter(|&eos| tokens.last() != Some(&eos)) {
            tokens.push(eos);
            targets.push(true);
        }
        Ok(Sample { tokens, target: targets, truncated: false })
    }
}

/// Whether an assistant turn is trained on and is more than its own end.
fn says_something_to_learn(message: &Message) -> bool {
    let says = !message.content.trim().is_empty() || !message.extra.is_empty();
    message.role == Role::Assistant && message.weight && says
}

/// Which tokens start inside one of the spans (ascending, apart from each other).
fn targets(encoded: &Encoded, spans: &[Range<usize>]) -> Vec<bool> {
    owners(encoded, spans).into_iter().map(|owner| owner.is_some()).collect()
}

/// The span in which each token starts, if there is one; spans ascend and do not overlap.
///
/// Some tokenizers report a token's place without the blank before it, although the blank is part
/// of the token. So a token starts where the one before it ended, if that is earlier.
fn owners(encoded: &Encoded, spans: &[Range<usize>]) -> Vec<Option<usize>> {
    let mut spans = spans.iter().enumerate().peekable();
    let mut covered = 0;
    let mut owners = Vec::with_capacity(encoded.ids.len());
    for offset in &encoded.offsets {
        let start = offset.start.min(covered);
        covered = covered.max(offset.end);
        while spans.next_if(|(_, span)| span.end <= start).is_some() {}
        let inside = spans.peek().filter(|(_, span)| span.contains(&start));
        owners.push(inside.map(|&(index, _)| index));
    }
    owners
}

impl From<TokenizerError> for RowError {
    fn from(error: TokenizerError) -> Self {
        let detail = match error {
            TokenizerError::Failed { detail } => detail,
            other => other.to_string(),
        };
        Self::Tokenizer { detail }
    }
}

impl From<TemplateError> for RowError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::ReservedCharacter { code } => Self::ReservedCharacter { code },
            unusable @ TemplateError::Unusable { .. } => Self::UnusableTemplate(unusable),
            other => Self::Template { detail: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_target_if_it_starts_inside_a_span() {
        let offsets = vec![0..4, 5..9, 9..12, 9..12, 12..13];
        let encoded = Encoded { ids: vec![0; 5], offsets };
        // The second token is reported from 5 but covers the blank at 4.
        assert_eq!(
            targets(&encoded, std::slice::from_ref(&(4..12))),
            [false, true, true, true, false]
        );
        assert_eq!(
            targets(&encoded, std::slice::from_ref(&(5..12))),
            [false, false, true, true, false]
        );
        assert_eq!(targets(&encoded, &[0..1, 12..13]), [true, false, false, false, true]);
    }
}
