//! The thread that sends, and what it shares with the tracker.

use std::fmt;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Fault;
use super::outbox::{Outbox, Step};
use super::spool::Spool;
use super::{Notice, Notify, Timing};
use crate::{Delivery, TrackError};

/// Lengths of the spool and what is asked of the thread.
#[derive(Debug, Default)]
struct State {
    /// Bytes that have been written.
    written: u64,
    /// Bytes that are done with.
    sent: u64,
    /// An attempt is wanted now.
    urgent: bool,
    /// The thread ends when everything is sent.
    finishing: bool,
    /// The thread ends.
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain numbers: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `until`, or until something is wanted of the thread.
    fn sleep(&self, until: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !state.stop && !state.urgent {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

/// Handle of the sending thread.
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    pub fn start(
        outbox: Outbox,
        spool: &Spool,
        timing: Timing,
        notify: Notify,
    ) -> Result<Self, TrackError> {
        let shared = Arc::new(Shared::default());
        shared.lock().written = spool.len();
        shared.lock().sent = outbox.offset();
        let work = Work {
            shared: Arc::clone(&shared),
            outbox,
            file: spool.handle()?,
            timing,
            notify,
            away: false,
            wait: timing.first_wait,
            next: Instant::now(),
            not_before: Instant::now(),
            synced: 0,
            synced_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("mlflow".to_owned()).spawn(|| work.run());
        let thread = thread.map_err(TrackError::io("start a thread for", "MLflow".as_ref()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The spool is this long now.
    pub fn written(&self, len: u64) {
        self.shared.lock().written = len;
    }

    /// Asks for everything to be sent and waits for it, at most `limit`.
    pub fn finish(&mut self, limit: Duration) -> Delivery {
        let until = Instant::now() + limit;
        let mut state = self.shared.lock();
        state.urgent = true;
        state.finishing = true;
        self.shared.changed.notify_all();
        while state.sent < state.written {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.stop = true;
        let bytes = state.written.saturating_sub(state.sent);
        drop(state);
        self.shared.changed.notify_all();
        if bytes > 0 {
            // The thread may be waiting for an answer; it ends after that, or with the program.
            return Delivery::Pending { bytes };
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been shown by the hook already.
            drop(thread.join());
        }
        Delivery::Complete
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What the thread owns.
struct Work {
    shared: Arc<Shared>,
    outbox: Outbox,
    file: File,
    timing: Timing,
    notify: Notify,
    away: bool,
    /// The wait after the next failure.
    wait: Duration,
    /// When to send again.
    next: Instant,
    /// When the server may be asked again at the earliest.
    not_before: Instant,
    synced: u64,
    synced_at: Instant,
}

impl Work {
    fn run(mut self) {
        loop {
            let mut state = self.shared.sleep(self.next.min(self.next_sync()));
            if state.stop || (state.finishing && state.sent >= state.written) {
                return;
            }
            if std::mem::take(&mut state.urgent) {
                self.wait = self.timing.first_wait;
                self.next = Instant::now().max(self.not_before);
            }
            let (written, sent) = (state.written, state.sent);
            drop(state);
            let due = Instant::now() >= self.next;
            if due || Instant::now() >= self.next_sync() {
                self.sync(written);
            }
            if due && written > sent {
                self.send();
            } else if due {
                self.next = Instant::now() + self.timing.send_every;
            }
        }
    }

    fn next_sync(&self) -> Instant {
        self.synced_at + self.timing.sync_every
    }

    /// What is sent is on disk before, so that the server never knows more than the spool.
    fn sync(&mut self, written: u64) {
        if written > self.synced {
            // A disk that fails shows at the next write and when the run finishes.
            drop(self.file.sync_data());
            self.synced = written;
        }
        self.synced_at = Instant::now();
    }

    fn send(&mut self) {
        let notify = &mut self.notify;
        let step = self.outbox.step(&mut |reason| notify(Notice::Rejected { reason }));
        let now = Instant::now();
        match step {
            Ok(step) => {
                if std::mem::take(&mut self.away) {
                    (self.notify)(Notice::Back);
                }
                self.wait = self.timing.first_wait;
                // A torn line that is being written is not there yet: look again later.
                let more = step != Step::Idle && self.more();
                self.next = if more { now } else { now + self.timing.send_every };
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.away, true) {
                    (self.notify)(Notice::Away { reason: fault.to_string() });
                }
                if let Fault::Away { retry_after: Some(asked), .. } = fault {
                    self.not_before = now + asked.min(self.timing.longest_wait);
                }
                self.next = self.not_before.max(now + self.wait);
                self.wait = (self.wait * 2).min(self.timing.longest_wait);
            }
        }
        self.shared.lock().sent = self.outbox.offset();
        self.shared.changed.notify_all();
    }

    fn more(&self) -> bool {
        self.outbox.offset() < self.shared.lock().written
    }
}
