//! What a run measures, written for the trackers that people read it in.
//!
//! A [`Tracker`] takes settings, scalars by step, and texts. [`TensorBoard`] writes them as event
//! files; [`Mlflow`] appends them to a spool in the run folder, from which a thread of its own
//! sends them to a server, whether it is there now or only later ([`drain()`]). [`Trackers`] holds
//! several and never fails: training does not end because a tracker does.
//!
//! The crate knows no model and no training. It prints nothing and reads no environment: where a
//! server is and how to log in are values that the caller passes, and no error, notice or `Debug`
//! output holds a password or a token.
//!
//! ```
//! use rekindle_track::{RunStatus, TensorBoard, Trackers};
//!
//! let run = tempfile::tempdir()?;
//! let mut trackers = Trackers::new(|name, error| eprintln!("{name} is left out: {error}"));
//! trackers.push("tensorboard", TensorBoard::open(&run.path().join("tensorboard"), 1)?);
//! trackers.params(&[("learning_rate".to_owned(), "1e-4".to_owned())]);
//! trackers.scalars(1, 1_700_000_000.0, &[("train/loss", 2.5)]);
//! assert!(trackers.finish(RunStatus::Finished, 1_700_000_001.0).is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Start reading at [`Tracker`].

pub mod tracker;
pub mod trackers;
pub mod tensorboard;
pub mod mlflow;
pub mod error;

pub use error::TrackError;
pub use mlflow::{Credentials, Drained, Mlflow, Notice, RunInfo, Server, Timing, drain};
pub use tensorboard::TensorBoard;
pub use tracker::{Delivery, RunStatus, Tracker};
pub use trackers::Trackers;
