//! From a recipe file to a finished run.
//!
//! A [`Recipe`] is what the user typed. Reading it refuses unknown keys, wrong types and repeated
//! keys with a [`SourceError`] that shows the place; [`Recipe::validate`] names every value that
//! cannot be used. A [`Plan`] is a recipe with every default filled in, and [`run()`] carries it
//! out. This is the one crate that names every method; it knows no arguments and no terminal.
//! Start reading at [`run`](mod@run).

pub mod recipe;

pub mod source_error;

mod explain;
mod position;
mod spelling;

pub mod schema;
pub mod set;

pub mod curve;
pub mod events;
pub mod history;
pub mod runs;

pub mod dataset;
pub mod demo;
pub mod error;
pub mod fingerprint;
pub mod finite;
pub mod forecast;
pub mod invariance;
pub mod model;
pub mod plan;
pub mod prepared;
pub mod reproduce;
pub mod run;

pub use error::RunError;
pub use events::{Event, EventLog, Record};
pub use finite::NonFinite;
pub use forecast::Forecast;
pub use history::History;
pub use invariance::Invariance;
pub use model::{OpenModel, TextSide};
pub use plan::Plan;
pub use prepared::Prepared;
pub use recipe::{Method, Problem, Recipe};
pub use rekindle_track::{Credentials, Drained};
pub use run::{Host, Measured, Resume, RunOptions, RunSummary, run};
pub use source_error::SourceError;
