//! Conversations as they stand in a file, without any check of who speaks when.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::{Map, Value};

use super::parse;
use super::rows::{Layout, Rows};
use super::{ReadOptions, parse::wrong};
use crate::error::{DataError, RowError};

/// A conversation whose messages are kept as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Line number in the file, from 1.
    pub line: usize,
    /// The messages; their roles and keys are whatever the file says.
    pub messages: Vec<Map<String, Value>>,
    /// Tools offered to the assistant, as JSON schemas.
    pub tools: Option<Value>,
    /// Whether the text goes on to where the assistant starts.
    pub add_generation_prompt: bool,
}

/// The conversations of a file: a row is an object with `messages`, a list of objects, and perhaps
/// `tools`, a list or null, and `add_generation_prompt`; other keys are ignored.
///
/// # Errors
/// [`DataError::Row`] at the first row that is no such object; [`DataError::Io`];
/// [`DataError::Empty`] if there is no row.
pub fn conversations(path: &Path) -> Result<Vec<Conversation>, DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let limit = ReadOptions::default().max_row_bytes;
    let mut rows = Rows::new(BufReader::new(file), limit, Layout::Json).map_err(io)?;
    let mut conversations = Vec::new();
    while let Some(raw) = rows.next_row().map_err(io)? {
        let at =
            |line, reason| DataError::Row { path: path.into(), line, reason: Box::new(reason) };
        let row = raw.bytes.map_err(|reason| at(raw.line, reason))?;
        let value =
            parse::json(&row).map_err(|(reason, place)| at(raw.line + place.lines, reason))?;
        let conversation = conversation(raw.line, value);
        conversations.push(conversation.map_err(|reason| at(raw.line, reason))?);
    }
    if conversations.is_empty() {
        return Err(DataError::Empty { path: path.into(), bytes });
    }
    Ok(conversations)
}

fn conversation(line: usize, row: Value) -> Result<Conversation, RowError> {
    let Value::Object(mut row) = row else {
        return Err(wrong("row".into(), &row, "an object with `messages`"));
    };
    let messages = match row.shift_remove("messages").unwrap_or_default() {
        Value::Array(messages) => messages,
        other => return Err(wrong("messages".into(), &other, "an array of objects")),
    };
    let messages = messages.into_iter().enumerate().map(|(i, message)| match message {
        Value::Object(message) => Ok(message),
        other => Err(wrong(format!("messages[{i}]"), &other, "an object")),
    });
    let messages = messages.collect::<Result<_, _>>()?;
    let tools = match row.shift_remove("tools").unwrap_or_default() {
        Value::Null => None,
        tools @ Value::Array(_) => Some(tools),
        other => return Err(wrong("tools".into(), &other, "an array or null")),
    };
    let add_generation_prompt = match row.shift_remove("add_generation_prompt").unwrap_or_default()
    {
        Value::Null => false,
        Value::Bool(prompt) => prompt,
        other => return Err(wrong("add_generation_prompt".into(), &other, "true or false")),
    };
    Ok(Conversation { line, messages, tools, add_generation_prompt })
}
