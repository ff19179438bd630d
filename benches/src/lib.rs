//! What the benchmarks share: model shapes with their FLOP counts, devices by name, and whole
//! training steps on random weights and tokens.
//!
//! The crate measures the library's own public functions and refuses to know any of its
//! internals; nothing is downloaded, nothing depends on it. What each benchmark measures, in
//! which unit and against what, is in the package's README. Start reading at [`Workload`].

#[path = "../../crates/cli/src/device.rs"]
pub mod device;
pub mod dtype;
pub mod report;
pub mod shape;
pub mod workload;

pub use dtype::Dtype;
pub use shape::Shape;
pub use workload::{Method, Workload};
