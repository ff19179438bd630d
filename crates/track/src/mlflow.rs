//! Runs in MLflow, by way of a spool in the run folder.
//!
//! What is told is appended to `spool.jsonl` and nothing else happens on the caller's thread. A
//! thread of its own reads the spool from a cursor, sends batches through the REST API of MLflow
//! and moves the cursor, so that memory is bounded by one batch whether the server is there or
//! not. Every batch sets the tag `rekindle.spool_offset`: after an answer was lost or the program
//! ended in between, the server itself says how far it got, and nothing is sent twice.

mod address;
mod batch;
mod client;
mod credentials;
mod cursor;
mod entry;
mod names;
mod outbox;
mod sender;
mod spool;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Delivery, RunStatus, TrackError, Tracker};
use address::Address;
use client::{Client, Fault};
use entry::{Entry, Number, Status};
use outbox::{Outbox, Step};
use sender::Sender;
use spool::Spool;

pub use credentials::Credentials;

/// Where a tracking server is and how it is asked.
#[derive(Clone, Debug)]
pub struct Server {
    address: Address,
    credentials: Credentials,
    timing: Timing,
}

impl Server {
    /// `tracking_uri` is `http://host:port`, with a path where the server has one.
    ///
    /// Errors: an address of another kind, one that holds a password, and `https://` in a build
    /// without the feature `https`.
    pub fn new(tracking_uri: &str, credentials: Credentials) -> Result<Self, TrackError> {
        let address = Address::parse(tracking_uri)?;
        Ok(Self { address, credentials, timing: Timing::default() })
    }

    /// The same server asked at another pace.
    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }
}

/// How often and how long a server is asked.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time from one batch to the next while the server answers.
    pub send_every: Duration,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
    /// Wait after the first failure; it doubles with each further one.
    pub first_wait: Duration,
    /// Longest wait between two attempts, also where the server asks for more.
    pub longest_wait: Duration,
    /// Time between two syncs of the spool to disk while nothing can be sent.
    pub sync_every: Duration,
    /// Longest time that [`Tracker::finish`] waits for the rest to arrive.
    pub finish_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            send_every: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            sync_every: Duration::from_secs(5),
            finish_timeout: Duration::from_secs(10),
        }
    }
}

/// What a run is called in MLflow.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The experiment, which is made if the server has none of this name.
    pub experiment: String,
    /// The name of the run.
    pub run_name: String,
    /// Tags beside those that MLflow sets.
    pub tags: Vec<(String, String)>,
}

/// What the sending thread has to say. It never holds a password or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The server does not take records; they wait in the spool. Said once until it is back.
    Away {
        /// What happened.
        reason: String,
    },
    /// The server takes records again.
    Back,
    /// The server refused one record for good; it stays in the spool and the next ones are sent.
    Rejected {
        /// What the server said.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { reason } => {
                write!(f, "MLflow does not take records ({reason}); they wait in the run folder")
            }
            Self::Back => f.write_str("MLflow takes records again"),
            Self::Rejected { reason } => write!(f, "MLflow refused a record for good: {reason}"),
        }
    }
}

/// Writes a run for MLflow into a spool and sends it from a thread of its own.
///
/// Names that MLflow does not allow are changed to ones that it does, and values beyond its
/// lengths are cut. A setting that is told again with another value, which MLflow forbids, becomes
/// the tag `changed.<name>`. A text becomes a tag that holds the latest one.
#[derive(Debug)]
pub struct Mlflow {
    spool: Spool,
    sender: Sender,
    finish_timeout: Duration,
}

impl Mlflow {
    /// Opens the spool in `folder`, which is made if it is missing, and starts to send.
    ///
    /// Where the folder holds a spool already, its run goes on: values of a metric at steps that
    /// the spool holds are not told again, because MLflow would keep both. `notify` is called from
    /// the sending thread. The server need not be there: only files can make this fail.
    pub fn open(
        folder: &Path,
        server: Server,
        run: &RunInfo,
        notify: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, TrackError> {
        let lock = spool::lock(folder)?;
        let spool = Spool::open(folder, run)?;
        let outbox = Outbox::open(folder, Client::new(&server), lock)?;
        let finish_timeout = server.timing.finish_timeout;
        let sender = Sender::start(outbox, &spool, server.timing, Box::new(notify))?;
        Ok(Self { spool, sender, finish_timeout })
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), TrackError> {
        let written = self.spool.append(entries);
        self.sender.written(self.spool.len());
        written
    }
}

impl Tracker for Mlflow {
    fn params(&mut self, params: &[(String, String)]) -> Result<(), TrackError> {
        let entries = self.spool.params(params);
        self.append(&entries)
    }

    fn scalars(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<(), TrackError> {
        let new = self.spool.new_values(step, values);
        let new: Vec<(String, Number)> = new.map(|(key, value)| (key, Number(value))).collect();
        let time_ms = entry::milliseconds(time);
        let chunks = new.chunks(entry::METRICS_A_LINE);
        let entries: Vec<Entry> = chunks
            .map(|values| Entry::Metrics { step, time_ms, values: values.to_vec() })
            .collect();
        self.append(&entries)
    }

    fn text(&mut self, _: u64, _: f64, tag: &str, text: &str) -> Result<(), TrackError> {
        self.append(&[Entry::Tags { values: vec![names::tag(tag, text)] }])
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        // Every record was handed to the operating system when it was told.
        Ok(())
    }

    fn finish(&mut self, status: RunStatus, time: f64) -> Result<Delivery, TrackError> {
        let status = match status {
            RunStatus::Finished => Status::Finished,
            RunStatus::Stopped => Status::Killed,
            RunStatus::Failed => Status::Failed,
        };
        self.append(&[Entry::Status { status, time_ms: entry::milliseconds(time) }])?;
        self.spool.sync()?;
        Ok(self.sender.finish(self.finish_timeout))
    }
}

/// What [`drain()`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records that the server took.
    pub sent: u64,
    /// Records that it refused for good.
    pub rejected: u64,
}

/// Sends what an earlier run left in the spool of `folder`, on the caller's thread.
///
/// Errors: [`TrackError::InUse`] while a run or another process sends from it, and
/// [`TrackError::Unsent`] at the first failure or when `limit` is over; what was sent until then
/// is not sent again.
pub fn drain(folder: &Path, server: &Server, limit: Duration) -> Result<Drained, TrackError> {
    let until = Instant::now() + limit;
    let lock = spool::lock_existing(folder)?;
    let mut outbox = Outbox::open(folder, Client::new(server), lock)?;
    let mut drained = Drained::default();
    loop {
        match outbox.step(&mut |_| drained.rejected += 1) {
            Ok(Step::Idle) => return Ok(drained),
            Ok(Step::Sent { records }) => drained.sent += records,
            Err(Fault::Local(error)) => return Err(error),
            Err(fault) => return Err(TrackError::Unsent { reason: fault.to_string() }),
        }
        if Instant::now() >= until {
            let reason = format!("the limit of {} s is over", limit.as_secs());
            return Err(TrackError::Unsent { reason });
        }
    }
}

/// Bytes of a spool that have not been sent; 0 where there is none.
pub fn pending(folder: &Path) -> Result<u64, TrackError> {
    spool::pending(folder)
}

/// Shared by the thread and the tracker.
type Notify = Box<dyn FnMut(Notice) + Send>;
type Lock = Arc<std::fs::File>;
