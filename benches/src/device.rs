//! From a device's name to the device.

use anyhow::{Result, bail};
use burn::tensor::Device;

/// The names that [`parse`] knows; each is there only if its feature is built in.
pub const NAMES: &str = "flex, ndarray, cuda:N, vulkan:N or wgpu:N";

const KNOWN: [&str; 5] = ["flex", "ndarray", "cuda", "vulkan", "wgpu"];

/// The plain (not autodiff) device that `name` means, such as `flex` or `cuda:0`.
///
/// # Errors
/// A name that is unknown or whose backend is not in this build.
pub fn parse(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let Ok(index) = index.parse::<usize>() else {
        bail!("device `{name}`: `{index}` is no number; wanted {NAMES}");
    };
    match kind {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok(ndarray()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(gpu(index))),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(gpu(index))),
        _ if KNOWN.contains(&kind) => bail!(
            "device `{name}` (index {index}) is not in this build; build with `--features {kind}`"
        ),
        _ => bail!("device `{name}` is unknown; wanted {NAMES}"),
    }
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn gpu(index: usize) -> burn::tensor::DeviceKind {
    match index {
        0 => burn::tensor::DeviceKind::DefaultDevice,
        index => burn::tensor::DeviceKind::DiscreteGpu(index),
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "offered by name for those who ask for it")]
fn ndarray() -> Device {
    Device::ndarray()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_is_answered_with_the_known_ones() {
        let error = parse("abacus").unwrap_err().to_string();
        assert!(error.contains("`abacus` is unknown") && error.contains("cuda:N"), "{error}");
        assert!(parse("flex:first").unwrap_err().to_string().contains("`first` is no number"));
    }
}
