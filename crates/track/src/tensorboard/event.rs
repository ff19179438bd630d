//! `tensorboard.Event` and what stands in it. Numbers of fields are those of its `.proto` files.

use super::wire::Message;

/// What readers look for in the first record; version 2 has session marks.
const FILE_VERSION: &str = "brain.Event:2";

/// `DataType::DT_STRING`.
const DT_STRING: u64 = 7;

/// `SessionLog::START`.
const SESSION_START: u64 = 1;

/// `DataClass::DATA_CLASS_TENSOR`.
const CLASS_TENSOR: u64 = 2;

/// The record that every file begins with.
pub fn version(time: f64) -> Vec<u8> {
    event(time, 0).bytes(3, FILE_VERSION.as_bytes()).into_bytes()
}

/// From here on, `first_step` and later ones count anew.
pub fn session_start(time: f64, first_step: u64) -> Vec<u8> {
    event(time, first_step).message(7, Message::new().integer(1, SESSION_START)).into_bytes()
}

/// Values of one step.
pub fn scalars(time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let summary = values.iter().fold(Message::new(), |summary, (tag, value)| {
        summary.message(1, Message::new().bytes(1, tag.as_bytes()).float(2, *value as f32))
    });
    event(time, step).message(5, summary).into_bytes()
}

/// A text of one step, shown as Markdown.
pub fn text(time: f64, step: u64, tag: &str, text: &str) -> Vec<u8> {
    let one = Message::new().message(2, Message::new().integer(1, 1));
    let tensor = Message::new().integer(1, DT_STRING).message(2, one).bytes(8, text.as_bytes());
    let metadata = Message::new().message(1, plugin("text", &[])).integer(4, CLASS_TENSOR);
    let value = Message::new().bytes(1, tag.as_bytes()).message(8, tensor).message(9, metadata);
    event(time, step).message(5, Message::new().message(1, value)).into_bytes()
}

/// `SummaryMetadata.PluginData`.
pub fn plugin(name: &str, content: &[u8]) -> Message {
    Message::new().bytes(1, name.as_bytes()).bytes(2, content)
}

/// The two fields of every event.
pub fn event(time: f64, step: u64) -> Message {
    Message::new().double(1, time).integer(2, step)
}
