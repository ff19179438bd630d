//! Parameter-efficient adapters for Burn programs.
//!
//! A [`Projection`] is a linear map: a base weight, an optional bias and an optional [`Adapter`].
//! Adapters act on activations (`y = W x + s B A x`), never on the weight while training, and every
//! one obeys `forward(adapted) == forward(merged)`. Names and file layouts are those of Hugging
//! Face PEFT.
//!
//! The crate knows no model, no loss and no file system. Start with [`LoraConfig`], which says what
//! to adapt, and [`Projection::attach`], which does it.

pub mod adapter;
pub mod error;
pub mod init;
pub mod projection;
pub mod targets;

pub use adapter::lora::{Lora, LoraConfig, LoraInit};
pub use adapter::{Adapter, AdapterMath, PeftName};
pub use error::PeftError;
pub use projection::Projection;
pub use targets::Targets;
