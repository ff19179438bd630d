//! Golden files, tolerances, gradient checks and the test device.
//!
//! For tests only: no crate depends on it outside `[dev-dependencies]`, so it panics where a
//! library would return an error. It refuses to know any model, loss or file format but
//! safetensors. Start reading at [`Golden`].

mod device;
mod golden;
mod gradcheck;
mod tolerance;

pub use device::device;
pub use golden::Golden;
pub use gradcheck::gradcheck;
pub use tolerance::assert_close;
