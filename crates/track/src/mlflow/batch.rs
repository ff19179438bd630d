//! Which lines go into one request, and the request.

use serde_json::{Value, json};

use super::entry::{Entry, Status};
use super::spool::Line;

/// MLflow's limits of `runs/log-batch`: entries of each kind, of all kinds, and bytes.
const METRICS: usize = 1000;
const PARAMS: usize = 100;
const TAGS: usize = 100;
const ENTRIES: usize = 1000;
const BYTES: usize = 1_000_000;

/// What a metric gets beside its key and value, and what surrounds the lists, in bytes.
const METRIC_FRAME: usize = 96;
const FRAME: usize = 1024;

/// The tag in which the server keeps how far it got.
pub const OFFSET_TAG: &str = "rekindle.spool_offset";

/// A line that has been read; `None` if it is none of ours.
#[derive(Debug)]
pub struct Parsed {
    pub entry: Option<Entry>,
    pub end: u64,
    bytes: usize,
}

impl Parsed {
    pub fn new(line: &Line) -> Self {
        let entry = serde_json::from_slice(&line.text).ok();
        Self { entry, end: line.end, bytes: line.text.len() }
    }
}

/// What the next lines ask for.
#[derive(Debug, PartialEq)]
pub enum Group {
    /// So many lines in one `log-batch`.
    Batch(usize),
    /// One line that changes the state of the run.
    Status(Status, i64),
    /// One line that asks for nothing.
    Nothing,
    /// One line that cannot be read.
    Garbage,
}

/// The longest run of lines that one request can hold.
pub fn next(lines: &[Parsed]) -> Option<Group> {
    match &lines.first()?.entry {
        None => return Some(Group::Garbage),
        Some(Entry::Run { .. }) => return Some(Group::Nothing),
        Some(Entry::Status { status, time_ms }) => return Some(Group::Status(*status, *time_ms)),
        Some(_) => {}
    }
    // One tag is for the offset.
    let (mut metrics, mut params, mut tags, mut bytes) = (0, 0, 1, FRAME);
    let mut n = 0;
    for line in lines {
        match &line.entry {
            Some(Entry::Metrics { values, .. }) => {
                metrics += values.len();
                bytes += values.len() * METRIC_FRAME;
            }
            Some(Entry::Params { values }) => params += values.len(),
            Some(Entry::Tags { values }) => tags += values.len(),
            _ => break,
        }
        // A pair of a list takes less than the frame of a metric beyond its own text.
        bytes += line.bytes + METRIC_FRAME;
        let fits = metrics <= METRICS
            && params <= PARAMS
            && tags <= TAGS
            && metrics + params + tags <= ENTRIES
            && bytes <= BYTES;
        // A line that is too long by itself goes alone, and the server says what is wrong with it.
        if !fits && n > 0 {
            break;
        }
        n += 1;
    }
    Some(Group::Batch(n))
}

/// The body of `runs/log-batch` for lines of one [`Group::Batch`].
pub fn body(run_id: &str, lines: &[Parsed]) -> Value {
    let (mut metrics, mut params) = (Vec::new(), Vec::new());
    let mut tags: Vec<(&str, String)> = Vec::new();
    for entry in lines.iter().filter_map(|line| line.entry.as_ref()) {
        match entry {
            Entry::Metrics { step, time_ms, values } => {
                metrics.extend(values.iter().map(
                    |(key, value)| json!({"key": key, "value": value, "timestamp": time_ms, "step": step}),
                ));
            }
            Entry::Params { values } => {
                params
                    .extend(values.iter().map(|(key, value)| json!({"key": key, "value": value})));
            }
            Entry::Tags { values } => {
                for (key, value) in values {
                    // A tag holds one value, so only the last one of a batch is sent.
                    tags.retain(|(other, _)| other != key);
                    tags.push((key, value.clone()));
                }
            }
            Entry::Run { .. } | Entry::Status { .. } => {}
        }
    }
    if let Some(last) = lines.last() {
        tags.push((OFFSET_TAG, last.end.to_string()));
    }
    let tags: Vec<Value> =
        tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"run_id": run_id, "metrics": metrics, "params": params, "tags": tags})
}

#[cfg(test)]
mod tests {
    use super::super::entry::{METRICS_A_LINE, Number, PARAMS_A_LINE};
    use super::*;

    fn lines(entries: &[Entry]) -> Vec<Parsed> {
        let parse = |(at, entry): (usize, &Entry)| {
            let text = serde_json::to_vec(entry).unwrap();
            Parsed::new(&Line { text, end: at as u64 + 1 })
        };
        entries.iter().enumerate().map(parse).collect()
    }

    fn metrics(n: usize) -> Entry {
        let values = (0..n).map(|at| (format!("{at:0>250}"), Number(1.0 / 3.0))).collect();
        Entry::Metrics { step: u64::MAX >> 1, time_ms: i64::MAX, values }
    }

    #[test]
    fn a_request_keeps_every_limit() {
        let full = lines(&vec![metrics(METRICS_A_LINE); 8]);
        let Some(Group::Batch(n)) = next(&full) else { panic!() };
        // The 1000th place is the tag's.
        assert_eq!(n, 4);
        let params =
            Entry::Params { values: vec![("k".repeat(250), "\"".repeat(6000)); PARAMS_A_LINE] };
        let full = lines(&vec![params; 9]);
        let Some(Group::Batch(n)) = next(&full) else { panic!() };
        assert!(n * PARAMS_A_LINE <= PARAMS);
        assert!(body("r", &full[..n]).to_string().len() <= BYTES);
        let tags = Entry::Tags { values: vec![("k".to_owned(), "v".to_owned())] };
        assert_eq!(next(&lines(&vec![tags; 300])), Some(Group::Batch(TAGS - 1)));
    }

    #[test]
    fn a_change_of_state_ends_a_batch_and_stands_alone() {
        let state = Entry::Status { status: Status::Finished, time_ms: 5 };
        let lines = lines(&[metrics(1), metrics(1), state, metrics(1)]);
        assert_eq!(next(&lines), Some(Group::Batch(2)));
        assert_eq!(next(&lines[2..]), Some(Group::Status(Status::Finished, 5)));
        assert_eq!(next(&lines[3..]), Some(Group::Batch(1)));
        assert_eq!(next(&[]), None);
    }

    #[test]
    fn the_last_value_of_a_tag_and_the_offset_are_sent() {
        let tag = |value: &str| Entry::Tags { values: vec![("a".to_owned(), value.to_owned())] };
        let body = body("r", &lines(&[tag("1"), tag("2")]));
        assert_eq!(
            body["tags"],
            json!([{"key": "a", "value": "2"}, {"key": OFFSET_TAG, "value": "2"}])
        );
    }
}
