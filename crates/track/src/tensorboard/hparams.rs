//! Settings and the end of a run, as the plugin `hparams` reads them.

use super::event::{event, plugin};
use super::wire::Message;

/// `DataType::DT_FLOAT`.
const DT_FLOAT: u64 = 1;

/// `Status` of the plugin.
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;

/// Whole numbers up to here are the same as `f64`: 2⁵³.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The settings; numbers and truth values become such, so that columns can be sorted.
pub fn session_start(time: f64, params: &[(String, String)]) -> Vec<u8> {
    let entry = |info: Message, (key, value): &(String, String)| {
        info.message(1, Message::new().bytes(1, key.as_bytes()).message(2, setting(value)))
    };
    let info = params.iter().fold(Message::new(), entry).double(5, time);
    summary(time, "_hparams_/session_start_info", Message::new().message(3, info))
}

/// How the run ended.
pub fn session_end(time: f64, success: bool) -> Vec<u8> {
    let status = if success { SUCCESS } else { FAILURE };
    let info = Message::new().integer(1, status).double(2, time);
    summary(time, "_hparams_/session_end_info", Message::new().message(4, info))
}

/// `google.protobuf.Value`. A number that `f64` would change stays text.
fn setting(value: &str) -> Message {
    match (value, value.parse::<f64>()) {
        ("true", _) => Message::new().integer(4, 1),
        ("false", _) => Message::new().integer(4, 0),
        (_, Ok(number)) if number.abs() <= EXACT => Message::new().double(2, number),
        _ => Message::new().bytes(3, value.as_bytes()),
    }
}

/// The plugin reads the metadata alone; the tensor beside it is empty, as its own writer has it.
fn summary(time: f64, tag: &str, data: Message) -> Vec<u8> {
    let empty = Message::new().message(2, Message::new().integer(1, 0));
    let tensor = Message::new().integer(1, DT_FLOAT).message(2, empty);
    let content = data.integer(1, 0).into_bytes();
    let metadata = Message::new().message(1, plugin("hparams", &content));
    let value = Message::new().bytes(1, tag.as_bytes()).message(8, tensor).message(9, metadata);
    event(time, 0).message(5, Message::new().message(1, value)).into_bytes()
}
