//! The device tests run on.

use burn::tensor::Device;

/// Environment variable that picks the test device: `flex` (default), `ndarray`, `cuda` or `wgpu`.
const VARIABLE: &str = "REKINDLE_TEST_DEVICE";

/// The plain (untracked) device tests run on; the one place that reads the environment.
///
/// # Panics
///
/// If the variable names a device whose feature is not switched on.
#[expect(clippy::disallowed_methods, reason = "the test device is chosen outside the tests")]
pub fn device() -> Device {
    let name = std::env::var(VARIABLE).unwrap_or_else(|_| "flex".to_string());
    named(&name).unwrap_or_else(|| {
        panic!("{VARIABLE} is `{name}`; wanted flex, ndarray, cuda or wgpu, with its feature on")
    })
}

fn named(name: &str) -> Option<Device> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Some(ndarray()),
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::cuda(0)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => None,
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "upstream deprecates ndarray; users still ask for it by name")]
fn ndarray() -> Device {
    Device::ndarray()
}
