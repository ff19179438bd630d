//! Tensor operations of a decoder language model, each with a reference body in plain tensor
//! operations and a hand-written backward pass.
//!
//! The crate knows tensors and nothing above them: no layers, no models, no losses beyond the
//! cross-entropy of a projection. It chooses no device; its `flex`, `ndarray` and `cube` features
//! mirror the backends a binary has switched on, because Burn's backend types exist only then.
//!
//! Start with [`linear()`] and [`attention()`], the functions models call; [`LlmOps`] is the seam
//! where a backend brings its own bodies, `cpu` the bodies for the Flex backend, `cube` those for
//! GPUs.

pub mod argmax;
pub mod attention;
pub mod cache;
pub mod gated;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod ops;
pub mod pull;
pub mod recompute;
pub mod recorded;
pub mod rms_norm;
pub mod rope;
pub mod self_check;
pub mod shapes;
pub mod threads;

mod autodiff;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod primitive;

pub use argmax::argmax_rows;
pub use attention::{AttentionRule, attention, attention_at};
pub use cache::{Slot, cache_write};
pub use gated::{Activation, activate, gated};
pub use layer_norm::layer_norm;
pub use linear::{linear, lora_linear};
pub use linear_cross_entropy::{CHUNK_LOGITS, CrossEntropy, linear_cross_entropy, token_logps};
pub use ops::LlmOps;
pub use pull::{linear_pull, lora_linear_pull, pull};
pub use recompute::{Keep, Stretch, recomputed};
pub use recorded::Recorded;
pub use rms_norm::rms_norm;
pub use rope::{RopeTable, rope};
pub use self_check::{Check, self_check};
pub use shapes::{in_dtype, length_multiple};
pub use threads::on_compute_threads;
