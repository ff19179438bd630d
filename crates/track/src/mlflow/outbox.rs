//! Sends a spool in order, each line once, and moves the cursor.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::batch::{self, Group, OFFSET_TAG, Parsed};
use super::client::{Client, Fault, text};
use super::cursor::Cursor;
use super::entry::{Entry, Status};
use super::{Lock, spool};
use crate::TrackError;

/// The tag by which a run is found whose making was not answered.
const SPOOL_TAG: &str = "rekindle.spool_id";

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left.
    Idle,
    /// So many records were taken.
    Sent { records: u64 },
}

/// Called with the reason of a refusal.
pub type Rejected<'a> = &'a mut dyn FnMut(String);

/// The sending side of a spool. It holds the lock of the folder.
pub struct Outbox {
    folder: PathBuf,
    client: Client,
    file: File,
    cursor: Cursor,
    /// False while the server may be further than the cursor says.
    verified: bool,
    _lock: Lock,
}

impl Outbox {
    pub fn open(folder: &Path, client: Client, lock: Lock) -> Result<Self, TrackError> {
        let path = spool::path(folder);
        let file = File::open(&path).map_err(TrackError::io("open", &path))?;
        let cursor = Cursor::load(folder)?;
        let folder = folder.to_owned();
        Ok(Self { folder, client, file, cursor, verified: false, _lock: lock })
    }

    /// Bytes that are done with.
    pub fn offset(&self) -> u64 {
        self.cursor.offset
    }

    /// Sends one group of lines.
    pub fn step(&mut self, rejected: Rejected<'_>) -> Result<Step, Fault> {
        let done = self.attempt(rejected);
        if done.is_err() {
            // The request may have been carried out although its answer was lost.
            self.verified = false;
        }
        done
    }

    fn attempt(&mut self, rejected: Rejected<'_>) -> Result<Step, Fault> {
        if self.lines()?.is_empty() {
            return Ok(Step::Idle);
        }
        let run_id = self.run_id()?;
        if !self.verified {
            self.verify(&run_id)?;
        }
        let lines: Vec<Parsed> = self.lines()?.iter().map(Parsed::new).collect();
        let Some(group) = batch::next(&lines) else {
            return Ok(Step::Idle);
        };
        match group {
            Group::Batch(n) => {
                let records = self.deliver(&run_id, &lines[..n], rejected)?;
                return Ok(Step::Sent { records });
            }
            Group::Status(status, time_ms) => self.set_status(&run_id, status, time_ms)?,
            Group::Nothing => {}
            Group::Garbage => {
                rejected(format!("the line at byte {} cannot be read", self.cursor.offset));
                self.cursor.rejected += 1;
            }
        }
        self.advance(lines[0].end)?;
        Ok(Step::Sent { records: u64::from(!matches!(group, Group::Garbage)) })
    }

    fn lines(&mut self) -> Result<Vec<spool::Line>, TrackError> {
        let lines = spool::lines(&mut self.file, self.cursor.offset);
        lines.map_err(TrackError::io("read", &spool::path(&self.folder)))
    }

    fn advance(&mut self, offset: u64) -> Result<(), TrackError> {
        self.cursor.offset = offset;
        self.cursor.save(&self.folder)
    }

    /// Sends lines in one request, or in halves where the server refuses one of them.
    fn deliver(
        &mut self,
        run_id: &str,
        lines: &[Parsed],
        rejected: Rejected<'_>,
    ) -> Result<u64, Fault> {
        let Some(last) = lines.last() else { return Ok(0) };
        let reason = match self.client.post("runs/log-batch", &batch::body(run_id, lines)) {
            Ok(_) => {
                self.advance(last.end)?;
                return Ok(lines.len() as u64);
            }
            Err(Fault::Refused { reason, .. }) => reason,
            Err(fault) => return Err(fault),
        };
        // A deleted run refuses everything; nothing is dropped for that.
        self.run(run_id)?;
        if lines.len() > 1 {
            let (first, second) = lines.split_at(lines.len() / 2);
            return Ok(
                self.deliver(run_id, first, rejected)? + self.deliver(run_id, second, rejected)?
            );
        }
        rejected(reason);
        self.cursor.rejected += 1;
        self.advance(last.end)?;
        Ok(0)
    }

    fn set_status(&self, run_id: &str, status: Status, time_ms: i64) -> Result<(), Fault> {
        let mut body = json!({"run_id": run_id, "status": status});
        if status != Status::Running {
            body["end_time"] = json!(time_ms);
        }
        self.client.post("runs/update", &body).map_err(Fault::into_away)?;
        Ok(())
    }

    /// Asks the server how far it got, and moves the cursor there if that is further.
    fn verify(&mut self, run_id: &str) -> Result<(), Fault> {
        let run = self.run(run_id)?;
        let tags = run.pointer("/run/data/tags").and_then(Value::as_array);
        let tag = tags.and_then(|tags| tags.iter().find(|tag| tag["key"] == OFFSET_TAG));
        let offset = tag.and_then(|tag| tag["value"].as_str()?.parse().ok()).unwrap_or(0);
        let path = spool::path(&self.folder);
        let len = self.file.metadata().map_err(TrackError::io("read", &path))?.len();
        if offset > self.cursor.offset && offset <= len {
            self.advance(offset)?;
        }
        self.verified = true;
        Ok(())
    }

    /// The run as the server has it, unless it is gone.
    fn run(&self, run_id: &str) -> Result<Value, Fault> {
        let run = self.client.get("runs/get", "run_id", run_id).map_err(Fault::into_away)?;
        text(&run, &["run", "info", "run_id"])?;
        if run.pointer("/run/info/lifecycle_stage").is_some_and(|stage| stage == "deleted") {
            return Err(Fault::away(format!("the run {run_id} is deleted; restore it to go on")));
        }
        Ok(run)
    }

    /// The run of this spool, made on first use.
    fn run_id(&mut self) -> Result<String, Fault> {
        if let Some(run_id) = &self.cursor.run_id {
            return Ok(run_id.clone());
        }
        let Entry::Run { spool_id, experiment, run_name, time_ms, tags } = self.first_line()?
        else {
            let problem = "does not begin with the line of a run".to_owned();
            return Err(TrackError::Spool { path: spool::path(&self.folder), problem }.into());
        };
        let experiment_id = self.client.experiment(&experiment)?;
        let made = if self.cursor.creating { self.find(&experiment_id, &spool_id)? } else { None };
        let run_id = match made {
            Some(run_id) => run_id,
            None => {
                self.cursor.creating = true;
                self.cursor.save(&self.folder)?;
                let mut tags = tags;
                tags.push((SPOOL_TAG.to_owned(), spool_id));
                let tags: Vec<Value> =
                    tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
                let body = json!({
                    "experiment_id": experiment_id,
                    "run_name": run_name,
                    "start_time": time_ms,
                    "tags": tags,
                });
                let run = self.client.post("runs/create", &body).map_err(Fault::into_away)?;
                text(&run, &["run", "info", "run_id"])?
            }
        };
        self.cursor.run_id = Some(run_id.clone());
        self.cursor.creating = false;
        self.cursor.save(&self.folder)?;
        Ok(run_id)
    }

    /// A run that an earlier, unanswered request may have made.
    fn find(&self, experiment_id: &str, spool_id: &str) -> Result<Option<String>, Fault> {
        let body = json!({
            "experiment_ids": [experiment_id],
            "filter": format!("tags.`{SPOOL_TAG}` = '{spool_id}'"),
            "max_results": 1,
        });
        let found = self.client.post("runs/search", &body).map_err(Fault::into_away)?;
        match found.pointer("/runs/0") {
            Some(run) => text(run, &["info", "run_id"]).map(Some),
            None => Ok(None),
        }
    }

    fn first_line(&self) -> Result<Entry, TrackError> {
        let path = spool::path(&self.folder);
        let file = File::open(&path).map_err(TrackError::io("open", &path))?;
        let mut line = String::new();
        BufReader::new(file).read_line(&mut line).map_err(TrackError::io("read", &path))?;
        serde_json::from_str(&line).map_err(|error| TrackError::Spool {
            path,
            problem: format!("its first line cannot be read: {error}"),
        })
    }
}
