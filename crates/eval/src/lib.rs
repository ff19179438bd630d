//! Evaluation: loss, perplexity and exact match of a model on held-out samples.
//!
//! Metrics are streamed: no logits and no generated text beyond the report are kept. The crate
//! trains nothing and reads no files. Start with [`loss()`] and [`exact_match()`].

pub mod exact_match;
pub mod loss;

pub use exact_match::{Answer, ExactMatch, Question, exact_match, exact_match_while};
pub use loss::{Interrupted, Loss, loss, loss_while};
