//! Adapters and merged models in the formats other tools read.
//!
//! A folder appears under its final name only when it is whole, and every file of weights is read
//! back and compared before that. The crate knows Hugging Face's and PEFT's layouts and nothing of
//! training. Start with [`write_adapter`] and [`write_merged`]; [`read_adapter`] is the way back.

mod companions;
mod error;
mod folder;
mod merged;
mod peft;
mod weights;

pub use companions::Companions;
pub use error::ExportError;
pub use merged::{MergedDtype, write_merged};
pub use peft::{adapter_notes, read_adapter, write_adapter};
