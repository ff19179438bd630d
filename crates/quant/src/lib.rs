//! Weight formats: what a weight is stored as, and how to compute with it.
//!
//! [`gguf`] reads GGUF files and unpacks their block formats bit for bit as gguf-py does;
//! [`floats`] widens stored floats; [`BaseWeight`] is the weight under a linear map. The crate
//! knows no model: it does not know what a tensor's name means. Start with [`gguf::GgufFile`].

pub mod base_weight;
pub mod floats;
pub mod gguf;
pub mod read_file;

pub use base_weight::BaseWeight;
pub use gguf::{GgufError, GgufFile};
pub use read_file::ReadFile;
