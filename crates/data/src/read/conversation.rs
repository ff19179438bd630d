//! Turns of conversations, as OpenAI and as ShareGPT write them.

use serde_json::{Map, Value, json};

use super::parse::{optional_string, string, wrong};
use crate::error::RowError;
use crate::record::{Message, Record, Role};

const OPENAI_ROLES: &str = "`system`, `developer`, `user`, `assistant` or `tool`";
const SHAREGPT_ROLES: &str = "`system`, `human`, `user`, `gpt`, `assistant`, `function_call`, \
                              `observation` or `tool`";

/// A row with `messages` and perhaps `tools`.
pub(super) fn openai(row: &Map<String, Value>) -> Result<Record, RowError> {
    let messages = turns(&row["messages"], "messages")?;
    check_order(&messages)?;
    Ok(Record::Chat { messages, tools: tools(row)? })
}

/// A row with `conversations` and perhaps `system` and `tools`.
pub(super) fn sharegpt(row: &Map<String, Value>) -> Result<Record, RowError> {
    let list = &row["conversations"];
    let list = list.as_array().ok_or_else(|| wrong("conversations".into(), list, "an array"))?;
    let mut messages = Vec::with_capacity(list.len() + 1);
    let system = optional_string(row, "system")?;
    if !system.is_empty() {
        messages.push(Message::new(Role::System, system));
    }
    for (i, item) in list.iter().enumerate() {
        let key = format!("conversations[{i}]");
        let item = item.as_object().ok_or_else(|| wrong(key.clone(), item, "an object"))?;
        let from = string(item, "from").map_err(|error| inside(&key, error))?;
        let value = string(item, "value").map_err(|error| inside(&key, error))?;
        messages.push(match from.as_str() {
            "system" => Message::new(Role::System, value),
            "human" | "user" => Message::new(Role::User, value),
            "gpt" | "assistant" => Message::new(Role::Assistant, value),
            "observation" | "tool" => Message::new(Role::Tool, value),
            "function_call" => function_call(value),
            _ => {
                let (turn, wanted) = (i + 1, SHAREGPT_ROLES);
                return Err(RowError::UnknownRole { turn, role: from, wanted });
            }
        });
    }
    check_order(&messages)?;
    Ok(Record::Chat { messages, tools: tools(row)? })
}

/// A list of turns with `role` and `content`.
pub(super) fn turns(value: &Value, key: &str) -> Result<Vec<Message>, RowError> {
    let list = value.as_array().ok_or_else(|| wrong(key.into(), value, "an array"))?;
    list.iter().enumerate().map(|(i, item)| turn(item, i + 1, &format!("{key}[{i}]"))).collect()
}

fn turn(item: &Value, turn: usize, key: &str) -> Result<Message, RowError> {
    let item = item.as_object().ok_or_else(|| wrong(key.into(), item, "an object"))?;
    let role = string(item, "role").map_err(|error| inside(key, error))?;
    let role = match role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(RowError::UnknownRole { turn, role, wanted: OPENAI_ROLES }),
    };
    let mut extra = item.clone();
    for own in ["role", "content", "weight"] {
        extra.shift_remove(own);
    }
    let calls = normalised_calls(extra.get("tool_calls"));
    let content = match item.get("content") {
        None | Some(Value::Null) if calls.is_some() => String::new(),
        Some(Value::Array(parts)) => text_parts(parts, key)?,
        _ => string(item, "content").map_err(|error| inside(key, error))?,
    };
    if let Some(calls) = calls {
        extra.insert("tool_calls".into(), calls);
    }
    let weight = match item.get("weight") {
        None | Some(Value::Null) => true,
        Some(value) => match value.as_f64() {
            Some(0.0) => false,
            Some(1.0) => true,
            _ => return Err(wrong(format!("{key}.weight"), value, "0 or 1")),
        },
    };
    Ok(Message { role, content, extra, weight })
}

/// Calls whose arguments are an object even where they were written as a string of JSON: chat
/// templates write them out with `tojson`, which would quote the string a second time.
fn normalised_calls(calls: Option<&Value>) -> Option<Value> {
    let mut calls = calls?.as_array().filter(|calls| !calls.is_empty())?.clone();
    for call in &mut calls {
        let function = if call.get("function").is_some() { &mut call["function"] } else { call };
        let text = function.get("arguments").and_then(Value::as_str);
        let parsed = text.and_then(|text| serde_json::from_str(text).ok());
        if let Some(parsed @ Value::Object(_)) = parsed {
            function["arguments"] = parsed;
        }
    }
    Some(Value::Array(calls))
}

fn text_parts(parts: &[Value], key: &str) -> Result<String, RowError> {
    let texts = parts.iter().enumerate().map(|(i, part)| {
        let text = part.get("text").and_then(Value::as_str);
        let is_text = part.get("type").is_none_or(|kind| kind == "text");
        text.filter(|_| is_text)
            .ok_or_else(|| wrong(format!("{key}.content[{i}]"), part, "a part of type `text`"))
    });
    texts.collect()
}

/// ShareGPT's call of a tool: JSON of one call or of a list, else the text as it is.
fn function_call(value: String) -> Message {
    let calls = match serde_json::from_str(&value) {
        Ok(Value::Array(calls)) => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        _ => return Message::new(Role::Assistant, value),
    };
    if calls.is_empty() || calls.iter().any(|call| call.get("name").is_none()) {
        return Message::new(Role::Assistant, value);
    }
    let calls = calls.into_iter().map(|call| json!({"type": "function", "function": call}));
    let mut message = Message::new(Role::Assistant, "");
    let calls = normalised_calls(Some(&Value::Array(calls.collect())));
    message.extra.insert("tool_calls".into(), calls.unwrap_or(Value::Null));
    message
}

/// The tools of a row: a JSON array, or a string of JSON.
pub(super) fn tools(row: &Map<String, Value>) -> Result<Option<Value>, RowError> {
    const WANTED: &str = "an array, or a string of a JSON array";
    let list = match row.get("tools") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(written @ Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| wrong("tools".into(), written, WANTED))?
        }
        Some(value) => value.clone(),
    };
    match list {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(_) => Ok(Some(list)),
        other => Err(wrong("tools".into(), &other, WANTED)),
    }
}

/// Refuses what no template has a meaning for: no turns, an answer before any question, two
/// questions in a row.
pub(super) fn check_order(messages: &[Message]) -> Result<(), RowError> {
    if messages.is_empty() {
        return Err(RowError::NoTurns);
    }
    let first = messages.iter().position(|message| message.role != Role::System);
    if let Some(first) = first.filter(|&first| messages[first].role == Role::Assistant) {
        return Err(RowError::AssistantFirst { turn: first + 1 });
    }
    let twice = messages.windows(2).position(|two| two.iter().all(|m| m.role == Role::User));
    twice.map_or(Ok(()), |i| Err(RowError::UserTwice { turn: i + 2 }))
}

fn inside(outer: &str, error: RowError) -> RowError {
    match error {
        RowError::WrongType { key, found, wanted } => {
            RowError::WrongType { key: format!("{outer}.{key}"), found, wanted }
        }
        other => other,
    }
}
