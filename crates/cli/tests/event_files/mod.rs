//! Event files, read by the reader that the crate's own tests have, with the sums it checks.

#[path = "../../../track/src/tensorboard/crc.rs"]
mod crc;
#[path = "../../../track/src/tensorboard/reader.rs"]
mod reader;

use std::fs;
use std::path::Path;

use reader::{Field, fields, records};

/// A number at a step: its name, the step, the value as a tracker holds it.
pub type Number = (String, u64, f32);

/// One event file: the step of its session mark, its scalars, its other summaries as records.
#[derive(Debug, Default)]
pub struct EventFile {
    pub first_step: u64,
    pub scalars: Vec<Number>,
    pub texts: Vec<(String, u64, Vec<u8>)>,
}

/// The event files of a folder, oldest first.
pub fn read(folder: &Path) -> Vec<EventFile> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| event_file(&fs::read(path).unwrap())).collect()
}

fn event_file(bytes: &[u8]) -> EventFile {
    let mut file = EventFile::default();
    for (index, record) in records(bytes).unwrap().into_iter().enumerate() {
        let event = fields(record);
        let step = event.iter().find_map(|(number, field)| match field {
            Field::Integer(step) if *number == 2 => Some(*step),
            _ => None,
        });
        let step = step.unwrap_or(0);
        if index == 1 {
            file.first_step = step;
        }
        for (_, summary) in event.iter().filter(|(number, _)| *number == 5) {
            for (_, value) in inner(summary) {
                let value = inner(&value);
                let Field::Bytes(tag) = value[0].1 else { panic!("{value:?}") };
                let tag = String::from_utf8(tag.to_vec()).unwrap();
                match value[1] {
                    (2, Field::Float(number)) => file.scalars.push((tag, step, number)),
                    _ => file.texts.push((tag, step, record.to_vec())),
                }
            }
        }
    }
    file
}

fn inner<'a>(field: &Field<'a>) -> Vec<(u64, Field<'a>)> {
    let Field::Bytes(bytes) = field else { panic!("{field:?} is no message") };
    fields(bytes)
}
