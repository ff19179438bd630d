//! Where the assistant's turns stand in a rendered conversation.

use std::ops::Range;

use serde_json::Value;

use super::guard::{self, Clean};
use crate::error::RowError;
use crate::record::{Message, Role};
use crate::template::{ChatTemplate, TemplateError};

/// Byte ranges in `whole` of the assistant's turns that are trained on, in order.
///
/// A turn's range is found by rendering the conversation up to it: what the template writes for
/// the turns before it and the generation prompt is where it starts, what it writes with the turn
/// is where it ends. Both must be what the whole conversation starts with. Where they are not
/// (some templates rewrite earlier turns), the template's own generation marks are taken, if it
/// has one for every assistant turn.
pub(super) fn of_assistant(
    template: &ChatTemplate,
    messages: &[Message],
    tools: Option<&Value>,
    whole: &Clean,
    specials: &[String],
) -> Result<Vec<Range<usize>>, RowError> {
    let is_assistant = |message: &Message| message.role == Role::Assistant;
    let n_turns = messages.iter().filter(|message| is_assistant(message)).count();
    let mut spans = Vec::with_capacity(n_turns);
    let turns = messages.iter().enumerate().filter(|(_, message)| is_assistant(message));
    for (nth, (i, message)) in turns.enumerate() {
        if !message.weight {
            continue;
        }
        let marked = || {
            let mark = whole.marks.get(nth).filter(|_| whole.marks.len() == n_turns)?;
            let start = mark.start;
            Some(start..end_of_turn(&whole.text[..mark.end], start, specials))
        };
        let span = by_prefix(template, messages, i, tools, whole, specials)?.or_else(marked);
        spans.push(span.ok_or(RowError::TurnNotFound { turn: i + 1 })?);
    }
    if spans.windows(2).any(|two| two[0].end > two[1].start) {
        return Err(RowError::TurnNotFound { turn: messages.len() });
    }
    Ok(spans)
}

/// Byte ranges in `whole` of the turns of any role, for those that can be told apart.
///
/// A turn is what the template writes for the conversation up to it and not for the one before
/// it. Turns that the template rewrites once others follow are left out.
pub(super) fn of_turns(
    template: &ChatTemplate,
    messages: &[Message],
    tools: Option<&Value>,
    whole: &Clean,
) -> Result<Vec<(Role, Range<usize>)>, RowError> {
    let mut spans = Vec::with_capacity(messages.len());
    let mut start = Some(0);
    for (i, message) in messages.iter().enumerate() {
        let end = if i + 1 == messages.len() {
            Some(whole.text.len())
        } else {
            let upto = text_of(template, &messages[..=i], tools, false)?;
            upto.filter(|upto| whole.text.starts_with(upto.as_str())).map(|upto| upto.len())
        };
        if let (Some(start), Some(end)) = (start, end)
            && start <= end
        {
            spans.push((message.role, start..end));
        }
        start = end;
    }
    Ok(spans)
}

fn by_prefix(
    template: &ChatTemplate,
    messages: &[Message],
    turn: usize,
    tools: Option<&Value>,
    whole: &Clean,
    specials: &[String],
) -> Result<Option<Range<usize>>, RowError> {
    let Some(before) = text_of(template, &messages[..turn], tools, true)? else {
        return Ok(None);
    };
    let with_turn = if turn + 1 == messages.len() {
        Some(whole.text.clone())
    } else {
        text_of(template, &messages[..=turn], tools, false)?
    };
    let start = before.len();
    Ok(with_turn.filter(|with_turn| with_turn.starts_with(&before)).and_then(|with_turn| {
        let end = end_of_turn(&with_turn, start, specials);
        whole.text.starts_with(&with_turn[..end]).then_some(start..end)
    }))
}

/// The text of a part of a conversation, or nothing where the template refuses the part.
fn text_of(
    template: &ChatTemplate,
    messages: &[Message],
    tools: Option<&Value>,
    add_generation_prompt: bool,
) -> Result<Option<String>, RowError> {
    match template.render_marked(messages, tools, add_generation_prompt) {
        Ok(rendered) => Ok(Some(guard::clean(rendered).text)),
        Err(error @ TemplateError::Unusable { .. }) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Where a turn that starts at `start` ends: behind its last special token if only blanks follow
/// that, else at the end of the text.
fn end_of_turn(text: &str, start: usize, specials: &[String]) -> usize {
    let turn = &text[start..];
    let ends = specials
        .iter()
        .filter_map(|special| turn.rfind(special.as_str()).map(|at| start + at + special.len()));
    match ends.max() {
        Some(end) if text[end..].trim().is_empty() => end,
        _ => text.len(),
    }
}
