//! Who shows a run while it goes on: lines, a bar or the dashboard, and events as JSON beside them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rekindle_recipe::{Event, History, Record};

use crate::dashboard::Session;
use crate::host;
use crate::progress::Progress;
use crate::words;

/// What shows the events of a run.
pub struct Watcher {
    surface: Surface,
    /// Standard output as a stream of events, until nobody reads it any more.
    stream: bool,
    /// What a dashboard would take with it when it closes: warnings and the end.
    last_words: Vec<String>,
}

enum Surface {
    Lines(Progress),
    Dashboard(Session),
}

impl Watcher {
    /// Lines on standard error, or a bar if that is a terminal and `plain` is not asked for.
    pub fn lines(plain: bool) -> Self {
        Self {
            surface: Surface::Lines(Progress::new(plain)),
            stream: false,
            last_words: Vec::new(),
        }
    }

    /// The dashboard; `resumed` is the folder of a run that goes on.
    ///
    /// # Errors
    /// The terminal cannot be had.
    pub fn dashboard(stop: Arc<AtomicUsize>, resumed: Option<&Path>) -> Result<Self> {
        // A log that cannot be read is the run's to complain about.
        let earlier = resumed.and_then(|dir| History::read(dir.join("events.jsonl")).ok());
        let session = Session::start(earlier.unwrap_or_default(), stop, host::wants_color())?;
        Ok(Self { surface: Surface::Dashboard(session), stream: false, last_words: Vec::new() })
    }

    /// Prints every event on standard output too, as a line of JSON.
    pub fn with_stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// Gives the terminal back and says what the dashboard has taken with it.
    pub fn close(self) {
        drop(self.surface);
        for line in self.last_words {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match &mut self.surface {
            Surface::Lines(progress) => progress.event(event),
            Surface::Dashboard(session) => {
                session.event(event);
                if matches!(event, Event::Warning { .. } | Event::Finished { .. }) {
                    self.last_words.extend(words::event(event));
                }
            }
        }
        if self.stream {
            // A reader that has gone away must not end the run.
            self.stream = print(event).is_ok();
        }
    }
}

fn print(event: &Event) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let record = Record { time: now.map_or(0.0, |it| it.as_secs_f64()), event: event.clone() };
    let mut out = std::io::stdout().lock();
    out.write_all(record.line()?.as_bytes())?;
    out.flush()
}
