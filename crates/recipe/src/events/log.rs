//! The log as a file: begun, added to, cut back when a run goes on, read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Event, Record};

/// A way in which the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The system refused.
    #[error("cannot {action} `{path}`: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The log.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line before the last is not an event.
    #[error("`{path}` line {line} is no event ({reason}); move the file away to go on without it",
        path = path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the JSON reader found.
        reason: String,
    },
}

/// The log of a run, open for more lines.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    /// Whether it tells of the checkpoint that the run goes on from.
    tells_of_checkpoint: bool,
}

impl EventLog {
    /// Begins a log.
    ///
    /// # Errors
    /// The file exists, or cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, EventsError> {
        let path = path.into();
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self { file, path, length: 0, tells_of_checkpoint: false }),
            Err(source) => Err(EventsError::Io { action: "create", path, source }),
        }
    }

    /// A log in a file of a test's.
    #[cfg(test)]
    pub(crate) fn on(file: File) -> Self {
        Self { file, path: "events.jsonl".into(), length: 0, tells_of_checkpoint: false }
    }

    /// Opens the log of a run that goes on after `step`; makes it if it is missing.
    ///
    /// A last line torn by a crash and the events of later steps are dropped, so that no step
    /// stands in the log twice; so are evaluations after the checkpoint of `step`, which does not
    /// know of them. The new file takes the old one's place in one move.
    ///
    /// # Errors
    /// The log cannot be read or replaced, or a line before the last is damaged.
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self, EventsError> {
        let path = path.into();
        if !path.exists() {
            return Self::create(path);
        }
        let bytes = bytes(&path)?;
        let mut lines = lines(&path, &bytes)?;
        let saved = lines.iter().rposition(
            |(_, it)| matches!(it.event, Event::Checkpoint { step: of, .. } if of == step),
        );
        let mut index = 0;
        lines.retain(|(line, record)| {
            index += 1;
            let measured = matches!(record.event, Event::Eval { .. } | Event::Sample { .. });
            // At step 0 the base model is told of again, measured anew or not.
            let again = measured && (step == 0 || saved.is_some_and(|saved| index > saved));
            step_of(line, record).is_none_or(|of| of < step || (of == step && !again))
        });
        let length = lines.iter().map(|(line, _)| line.len() as u64 + 1).sum();
        replace(&path, lines.iter().map(|(line, _)| *line))
            .and_then(|()| OpenOptions::new().append(true).open(&path))
            .map(|file| Self {
                file,
                path: path.clone(),
                length,
                tells_of_checkpoint: saved.is_some(),
            })
            .map_err(|source| EventsError::Io { action: "rewrite", path, source })
    }

    /// Whether the log of a run that goes on tells of the checkpoint it goes on from; a process that
    /// was killed may have saved it without a word.
    pub(crate) fn tells_of_checkpoint(&self) -> bool {
        self.tells_of_checkpoint
    }

    /// Adds a line; `time` is in seconds since 1970-01-01 UTC. The line is whole on return, or not
    /// there: what a full disk has taken of it is cut off again.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn append(&mut self, time: f64, event: &Event) -> Result<(), EventsError> {
        let record = Record { time, event: event.clone() };
        // One write call a line: readers never see half a line of a process that lives.
        let written = record.line().map_err(io::Error::from).and_then(|line| {
            self.file.write_all(line.as_bytes())?;
            self.file.flush()?;
            Ok(line.len() as u64)
        });
        match written {
            Ok(length) => self.length += length,
            Err(source) => {
                // A line torn here would have others behind it once the disk has room.
                let _cut = self.file.set_len(self.length);
                let path = self.path.clone();
                return Err(EventsError::Io { action: "append to", path, source });
            }
        }
        Ok(())
    }
}

/// The update that a line belongs to; an event that is not known may still say it.
fn step_of(line: &[u8], record: &Record) -> Option<u64> {
    match record.event {
        Event::Unknown => serde_json::from_slice::<serde_json::Value>(line).ok()?["step"].as_u64(),
        _ => record.event.step(),
    }
}

/// Lines are kept as they stand: they may hold what only a newer version knows.
fn replace<'l>(path: &Path, lines: impl Iterator<Item = &'l [u8]>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(crate::run::folder::WRITING)
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    for line in lines {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// All events of a log; a last line torn by a crash is left out.
///
/// Events of a newer version come as [`Event::Unknown`].
///
/// # Errors
/// The file cannot be read, or a line before the last is not an event.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Record>, EventsError> {
    let path = path.as_ref();
    let bytes = bytes(path)?;
    Ok(lines(path, &bytes)?.into_iter().map(|(_, record)| record).collect())
}

fn bytes(path: &Path) -> Result<Vec<u8>, EventsError> {
    std::fs::read(path).map_err(|source| EventsError::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

fn lines<'b>(path: &Path, bytes: &'b [u8]) -> Result<Vec<(&'b [u8], Record)>, EventsError> {
    let lines: Vec<_> = bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    let mut records = Vec::with_capacity(lines.len());
    for (position, (index, line)) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(record) => records.push((*line, record)),
            Err(_) if position + 1 == lines.len() => {}
            Err(error) => {
                let reason = error.to_string();
                return Err(EventsError::Line { path: path.into(), line: index + 1, reason });
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, tests::step};

    fn log_of_three() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::create(&path).unwrap();
        for number in 1..=3 {
            log.append(number as f64, &step(number, 2.0)).unwrap();
        }
        log.append(4.0, &Event::Warning { message: "a \"b\"\nc".into() }).unwrap();
        (folder, path)
    }

    fn steps(path: &Path) -> Vec<Option<u64>> {
        read(path).unwrap().iter().map(|record| record.event.step()).collect()
    }

    #[test]
    fn a_torn_last_line_is_dropped_at_every_length() {
        let (_folder, path) = log_of_three();
        let whole = std::fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for length in last..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(steps(&path), [Some(1), Some(2), Some(3)], "{length}");
        }
    }

    #[test]
    fn resuming_drops_later_steps_and_goes_on_with_whole_lines() {
        let (_folder, path) = log_of_three();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"time\":5,\"ev").unwrap();
        let mut log = EventLog::resume(&path, 1).unwrap();
        log.append(6.0, &step(2, 1.0)).unwrap();
        assert_eq!(steps(&path), [Some(1), None, Some(2)]);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_evaluation_after_the_checkpoint_is_made_again_and_does_not_stand_in_the_log_twice() {
        let (_folder, path) = log_of_three();
        let eval = |step| Event::Eval {
            step,
            split: "validation".into(),
            loss: 1.0,
            perplexity: 2.0,
            tokens: 7,
            exact_match: None,
        };
        let mut log = EventLog::resume(&path, 3).unwrap();
        log.append(5.0, &eval(2)).unwrap();
        log.append(6.0, &eval(3)).unwrap();
        let evals = |path: &Path| -> Vec<Option<u64>> {
            let records = read(path).unwrap().into_iter();
            let evals = records.filter(|it| matches!(it.event, Event::Eval { .. }));
            evals.map(|it| it.event.step()).collect()
        };
        let mut log = EventLog::resume(&path, 3).unwrap();
        assert_eq!(evals(&path), [Some(2), Some(3)]);
        log.append(7.0, &Event::Checkpoint { step: 3, path: "3".into() }).unwrap();
        log.append(8.0, &eval(3)).unwrap();
        EventLog::resume(&path, 3).unwrap();
        assert_eq!(evals(&path), [Some(2), Some(3)]);
        assert_eq!(steps(&path)[..3], [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_clock_that_is_set_back_changes_neither_order_nor_what_resuming_drops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::create(&path).unwrap();
        for (number, time) in [(1, 900.0), (2, 100.0), (3, -5.0)] {
            log.append(time, &step(number, 2.0)).unwrap();
        }
        assert_eq!(steps(&path), [Some(1), Some(2), Some(3)]);
        let mut log = EventLog::resume(&path, 2).unwrap();
        log.append(0.0, &step(3, 1.0)).unwrap();
        assert_eq!(steps(&path), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn resuming_keeps_what_only_a_newer_version_knows() {
        let (_folder, path) = log_of_three();
        let newer = [
            "{\"time\":5.0,\"event\":\"moon_phase\",\"step\":1,\"phase\":\"new\"}\n",
            "{\"time\":6.0,\"event\":\"moon_phase\",\"step\":3}\n",
        ];
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(newer.concat().as_bytes()).unwrap();
        EventLog::resume(&path, 2).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(newer[0]) && !text.contains(newer[1]), "{text}");
    }

    #[test]
    fn damage_before_the_last_line_is_an_error_and_changes_nothing() {
        let (_folder, path) = log_of_three();
        let text = std::fs::read_to_string(&path).unwrap().replacen("{\"time\":2", "\u{0}", 1);
        std::fs::write(&path, &text).unwrap();
        let error = EventLog::resume(&path, 1).unwrap_err();
        assert!(matches!(error, EventsError::Line { line: 2, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_log_is_not_begun_over_another() {
        let (_folder, path) = log_of_three();
        assert!(matches!(EventLog::create(&path), Err(EventsError::Io { .. })));
        assert_eq!(read(&path).unwrap().len(), 4);
    }
}
