//! From a recipe file to a finished run.
//!
//! A [`Recipe`] is what the user typed. Reading it refuses unknown keys, wrong types and repeated
//! keys with a [`SourceError`] that shows the place; [`Recipe::validate`] names every value that
//! cannot be used. Start reading at [`recipe`].

pub mod recipe;

pub mod source_error;

mod explain;
mod position;
mod spelling;

pub mod schema;
pub mod set;

pub mod curve;
pub mod events;

pub use events::{Event, EventLog, Record};
pub use recipe::{Method, Problem, Recipe};
pub use source_error::SourceError;
