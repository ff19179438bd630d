//! From the bytes of a row to a record, by the format of the file.

use serde_json::{Map, Value};

use super::{Format, conversation};
use crate::error::{NameList, RowError};
use crate::record::{Message, Record, Role};

/// A place inside a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct At {
    pub(super) lines: usize,
    pub(super) bytes: u64,
}

impl At {
    fn of(bytes: &[u8], offset: usize) -> Self {
        let offset = offset.min(bytes.len());
        let lines = bytes[..offset].iter().filter(|&&b| b == b'\n').count();
        Self { lines, bytes: offset as u64 }
    }
}

/// The text of a row.
pub(super) fn text(bytes: &[u8]) -> Result<&str, (RowError, At)> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        (RowError::NotUtf8 { found: bytes[offset] }, At::of(bytes, offset))
    })?;
    match bytes.iter().position(|&b| b == 0) {
        Some(offset) => Err((RowError::Nul, At::of(bytes, offset))),
        None => Ok(text),
    }
}

/// The JSON value of a row.
pub(super) fn json(bytes: &[u8]) -> Result<Value, (RowError, At)> {
    serde_json::from_str(text(bytes)?).map_err(|error| {
        let start: usize = bytes
            .split_inclusive(|&b| b == b'\n')
            .take(error.line().max(1) - 1)
            .map(<[u8]>::len)
            .sum();
        let at = At::of(bytes, start + error.column().saturating_sub(1));
        let words = error.to_string();
        let detail = words.split(" at line ").next().unwrap_or(&words).to_string();
        (RowError::NotJson { detail }, at)
    })
}

/// The format that the keys of a row speak of, or [`Format::Auto`] if none.
pub(super) fn detect(value: &Value) -> Format {
    let has = |key: &str| value.get(key).is_some();
    if has("messages") {
        Format::Messages
    } else if has("conversations") {
        Format::ShareGpt
    } else if has("instruction") && has("output") {
        Format::Alpaca
    } else if has("prompt") && has("completion") {
        Format::PromptCompletion
    } else if has("text") {
        Format::Text
    } else {
        Format::Auto
    }
}

/// The record of a row.
pub(super) fn record(value: Value, format: Format) -> Result<Record, RowError> {
    let Value::Object(row) = value else {
        let found = type_name(&value);
        return Err(RowError::WrongType { key: "row".into(), found, wanted: "an object" });
    };
    let wanted = match format {
        Format::Messages => "`messages`",
        Format::ShareGpt => "`conversations`",
        Format::Alpaca => "`instruction` and `output`",
        Format::PromptCompletion => "`prompt` and `completion`",
        Format::Text | Format::Auto => "`text`",
    };
    let needed: &[&str] = match format {
        Format::Messages => &["messages"],
        Format::ShareGpt => &["conversations"],
        Format::Alpaca => &["instruction", "output"],
        Format::PromptCompletion => &["prompt", "completion"],
        Format::Text | Format::Auto => &["text"],
    };
    if needed.iter().any(|key| !row.contains_key(*key)) {
        let found = NameList(row.keys().cloned().collect());
        return Err(RowError::WrongKeys { format, found, wanted });
    }
    match format {
        Format::Messages => conversation::openai(&row),
        Format::ShareGpt => conversation::sharegpt(&row),
        Format::Alpaca => alpaca(&row),
        Format::PromptCompletion => prompt_completion(&row),
        Format::Text | Format::Auto => Ok(Record::Text(string(&row, "text")?)),
    }
}

/// LLaMA-Factory's reading: the question is the instruction, a newline, and the input if any;
/// answers of the history are trained on too.
fn alpaca(row: &Map<String, Value>) -> Result<Record, RowError> {
    let mut messages = Vec::new();
    let system = optional_string(row, "system")?;
    if !system.is_empty() {
        messages.push(Message::new(Role::System, system));
    }
    match row.get("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(turns)) => {
            for (i, turn) in turns.iter().enumerate() {
                let key = || format!("history[{i}]");
                let pair = turn.as_array().filter(|pair| pair.len() == 2);
                let pair = pair.ok_or_else(|| wrong(key(), turn, "a pair of strings"))?;
                for (role, text) in [Role::User, Role::Assistant].into_iter().zip(pair) {
                    let text = text.as_str().ok_or_else(|| wrong(key(), text, "a string"))?;
                    messages.push(Message::new(role, text));
                }
            }
        }
        Some(other) => return Err(wrong("history".into(), other, "an array of pairs")),
    }
    let mut question = string(row, "instruction")?;
    let input = optional_string(row, "input")?;
    if !input.is_empty() {
        question = format!("{question}\n{input}");
    }
    messages.push(Message::new(Role::User, question));
    messages.push(Message::new(Role::Assistant, string(row, "output")?));
    Ok(Record::Chat { messages, tools: None })
}

fn prompt_completion(row: &Map<String, Value>) -> Result<Record, RowError> {
    if !row["prompt"].is_array() {
        let (prompt, completion) = (string(row, "prompt")?, string(row, "completion")?);
        return Ok(Record::Completion { prompt, completion });
    }
    let mut messages = conversation::turns(&row["prompt"], "prompt")?;
    for message in &mut messages {
        message.weight = false;
    }
    messages.extend(conversation::turns(&row["completion"], "completion")?);
    conversation::check_order(&messages)?;
    Ok(Record::Chat { messages, tools: conversation::tools(row)? })
}

/// The string under a key that must be there.
pub(super) fn string(row: &Map<String, Value>, key: &str) -> Result<String, RowError> {
    let value = row.get(key).unwrap_or(&Value::Null);
    value.as_str().map(Into::into).ok_or_else(|| wrong(key.into(), value, "a string"))
}

/// The string under a key that may be absent or null: then empty.
pub(super) fn optional_string(row: &Map<String, Value>, key: &str) -> Result<String, RowError> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => string(row, key),
    }
}

/// The fault that a value has another type than it should.
pub(super) fn wrong(key: String, value: &Value, wanted: &'static str) -> RowError {
    RowError::WrongType { key, found: type_name(value), wanted }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing or null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
