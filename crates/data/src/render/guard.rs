//! Keeps what a person wrote from becoming a special token.
//!
//! Where a row's own text holds the text of a special token, a private-use character is put
//! inside it before the template runs. It is taken out of the rendered text again, and tells
//! there which special tokens are the template's and which are only spelled like one.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::error::RowError;
use crate::record::Message;
use crate::template::{BREAK, Rendered};
use crate::tokenizer::{Encoded, Specials, Tokenizer, TokenizerError};

/// A conversation whose own text cannot become a special token.
pub(super) struct Guarded<'a> {
    pub(super) messages: Cow<'a, [Message]>,
    pub(super) tools: Option<Value>,
}

/// A rendered text without private-use characters.
pub(super) struct Clean {
    pub(super) text: String,
    /// What the template marked as the assistant's.
    pub(super) marks: Vec<Range<usize>>,
    /// Where a special token's text was broken.
    breaks: Vec<usize>,
}

/// Breaks every special token's text in a conversation.
pub(super) fn guard<'a>(
    messages: &'a [Message],
    tools: Option<&Value>,
    specials: &[String],
) -> Result<Guarded<'a>, RowError> {
    let mut messages = Cow::Borrowed(messages);
    for i in 0..messages.len() {
        if let Some(content) = broken(&messages[i].content, specials)? {
            messages.to_mut()[i].content = content;
        }
        if let Some(extra) = broken_map(&messages[i].extra, specials)? {
            messages.to_mut()[i].extra = extra;
        }
    }
    let tools = match tools {
        Some(tools) => Some(broken_value(tools, specials)?.unwrap_or_else(|| tools.clone())),
        None => None,
    };
    Ok(Guarded { messages, tools })
}

fn broken_value(value: &Value, specials: &[String]) -> Result<Option<Value>, RowError> {
    match value {
        Value::String(text) => Ok(broken(text, specials)?.map(Value::String)),
        Value::Array(list) => {
            let mut changed = None;
            for (i, item) in list.iter().enumerate() {
                if let Some(item) = broken_value(item, specials)? {
                    changed.get_or_insert_with(|| list.clone())[i] = item;
                }
            }
            Ok(changed.map(Value::Array))
        }
        Value::Object(map) => Ok(broken_map(map, specials)?.map(Value::Object)),
        _ => Ok(None),
    }
}

/// The map with its keys and values broken, in the same order, if any of them is.
fn broken_map(
    map: &Map<String, Value>,
    specials: &[String],
) -> Result<Option<Map<String, Value>>, RowError> {
    let mut changed = false;
    let mut out = Map::new();
    for (key, item) in map {
        let new_key = broken(key, specials)?;
        let new_item = broken_value(item, specials)?;
        changed |= new_key.is_some() || new_item.is_some();
        out.insert(
            new_key.unwrap_or_else(|| key.clone()),
            new_item.unwrap_or_else(|| item.clone()),
        );
    }
    Ok(changed.then_some(out))
}

/// The text with every special token in it broken behind its first character, if there is one.
fn broken(text: &str, specials: &[String]) -> Result<Option<String>, RowError> {
    if let Some(code) = crate::template::reserved_character(text) {
        return Err(RowError::ReservedCharacter { code });
    }
    let mut out: Option<String> = None;
    for special in specials {
        let now = out.as_deref().unwrap_or(text);
        if now.contains(special.as_str()) {
            let mut chars = special.chars();
            let first = chars.next().expect("special tokens are not empty");
            let broken = format!("{first}{BREAK}{}", chars.as_str());
            out = Some(now.replace(special.as_str(), &broken));
        }
    }
    Ok(out)
}

/// Takes the breaks out of a rendered text, and notes where they were.
pub(super) fn clean(rendered: Rendered) -> Clean {
    let Rendered { text, mut marks } = rendered;
    if !text.contains(BREAK) {
        return Clean { text, marks, breaks: Vec::new() };
    }
    let places: Vec<usize> = text.match_indices(BREAK).map(|(at, _)| at).collect();
    let shift = |at: usize| places.partition_point(|&place| place < at) * BREAK.len_utf8();
    for mark in &mut marks {
        *mark = mark.start - shift(mark.start)..mark.end - shift(mark.end);
    }
    let breaks = places.iter().map(|&place| place - shift(place)).collect();
    Clean { text: text.replace(BREAK, ""), marks, breaks }
}

/// Token ids of a rendered text, with special ids only where the template wrote them.
///
/// Without breaks this is one call. With them, the stretches between the template's special
/// tokens are encoded apart, which changes nothing: the tokenizer cuts the text there anyway.
pub(super) fn encode(tokenizer: &Tokenizer, clean: &Clean) -> Result<Encoded, TokenizerError> {
    let Clean { text, breaks, .. } = clean;
    if breaks.is_empty() {
        return tokenizer.encode_with_offsets(text, Specials::Parse);
    }
    let mut out = Encoded::default();
    let mut add = |range: Range<usize>, specials| -> Result<(), TokenizerError> {
        if !range.is_empty() {
            let part = tokenizer.encode_with_offsets(&text[range.clone()], specials)?;
            out.ids.extend(part.ids);
            let shifted = part.offsets.into_iter();
            out.offsets.extend(shifted.map(|o| o.start + range.start..o.end + range.start));
        }
        Ok(())
    };
    let (mut parsed_from, mut stretch_from) = (0, 0);
    let ours = template_specials(text, breaks, tokenizer.special_texts());
    for special in ours.into_iter().chain(std::iter::once(text.len()..text.len())) {
        let stretch = stretch_from..special.start;
        if breaks.iter().any(|at| stretch.contains(at)) {
            add(parsed_from..stretch.start, Specials::Parse)?;
            add(stretch.clone(), Specials::Plain)?;
            parsed_from = stretch.end;
        }
        stretch_from = special.end;
    }
    add(parsed_from..text.len(), Specials::Parse)?;
    Ok(out)
}

/// Where special tokens stand that were not broken: leftmost first, the longest at each place.
fn template_specials(text: &str, breaks: &[usize], specials: &[String]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let longest = specials.iter().filter(|s| rest.starts_with(s.as_str())).map(String::len);
        match longest.max() {
            Some(len) if breaks.binary_search(&(at + first)).is_err() => {
                found.push(at..at + len);
                at += len;
            }
            _ => at += first,
        }
    }
    found
}
