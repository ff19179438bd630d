//! What can be wrong with an adapter's configuration.

use thiserror::Error;

/// A configuration that fits no model, or not this one.
#[derive(Debug, Error, PartialEq)]
pub enum PeftError {
    /// A target names no linear map of the model.
    #[error(
        "no linear layer matches target `{target}`; the model has {available}; \
         use `all-linear` or names from that list"
    )]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// The distinct last parts of the names of the model's linear maps.
        available: String,
    },
    /// A regular expression that does not parse.
    #[error("target_modules `{pattern}` is not a regular expression: {reason}")]
    BadPattern {
        /// The expression.
        pattern: String,
        /// What the parser said.
        reason: String,
    },
    /// A number outside its range.
    #[error("`{key}` is {found}, but must be {wanted}")]
    OutOfRange {
        /// The key's name in a PEFT configuration.
        key: &'static str,
        /// The value found.
        found: String,
        /// The range allowed.
        wanted: String,
    },
}
