//! What every tracker can be told.

use crate::TrackError;

/// Takes what a run measures and brings it where people look at it.
///
/// Times are seconds since 1970. No method waits for a network; an error means that the local
/// file could not be written, and the tracker may be asked again.
pub trait Tracker: Send {
    /// The settings of the run, once, before the first scalars.
    fn params(&mut self, params: &[(String, String)]) -> Result<(), TrackError>;

    /// Values measured at one step. Values that are not finite are kept as such.
    fn scalars(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<(), TrackError>;

    /// A text of one step: a sample, a note.
    fn text(&mut self, step: u64, time: f64, tag: &str, text: &str) -> Result<(), TrackError>;

    /// Brings what is buffered to the operating system.
    fn flush(&mut self) -> Result<(), TrackError>;

    /// Ends the run. What is told after that belongs to a run that goes on.
    fn finish(&mut self, status: RunStatus, time: f64) -> Result<Delivery, TrackError>;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// It did all it was asked to do.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
    /// It ended by an error.
    Failed,
}

/// How much of what was told has arrived when a tracker finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Everything.
    Complete,
    /// Some of it lies in the run folder still and can be sent later.
    Pending {
        /// What is left, in bytes of the spool.
        bytes: u64,
    },
}
