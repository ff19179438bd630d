//! Decoder language models from Hugging Face folders and GGUF files.
//!
//! The crate reads a model's numbers ([`Arch`]) and weights ([`WeightSource`]), checks them before
//! anything is allocated for them, and builds a [`Decoder`] whose field names are Hugging Face's.
//! It refuses to know optimisers, losses, tokenizers and data, opens no pickle, and runs no code
//! that a model brings along.
//!
//! Start with [`load::open`] and [`Decoder::load`]; [`CausalLm`] is what the rest of the program
//! asks of a model.

pub mod arch;
pub mod load;

pub mod error;

pub mod build;

pub mod block;
pub mod cache;
pub mod causal_lm;
pub mod classifier;
pub mod cost;
pub mod decoder;
pub mod generate;
pub mod recompute;
pub mod tokens;

pub use arch::Arch;
pub use cache::Cache;
pub use causal_lm::{CausalLm, Smoothing};
pub use classifier::SequenceClassifier;
pub use decoder::{Decoder, MergedTensor};
pub use error::ModelError;
pub use generate::{Finish, Generated, Generation, Sampling, Step};
pub use load::{ModelFiles, WeightSource};
pub use recompute::Recompute;
pub use tokens::Tokens;
