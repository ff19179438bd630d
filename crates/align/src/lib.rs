//! Objectives for language models: what a method minimises, and where its batches come from.
//!
//! It knows models, data and the loop's traits, and nothing of files, recipes or optimizers. There
//! is no trainer here: every objective goes through [`rekindle_train::fit`]. Start with [`Sft`].

pub mod sft;

pub use sft::{Sft, SftSource};
