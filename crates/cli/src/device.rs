//! From `--device` to a device: the one place where a device is chosen.

use anyhow::{Result, bail};
use burn::tensor::Device;

/// What `--device` accepts, for help texts.
pub const HELP: &str = "auto, cpu, flex, ndarray, cuda:N, vulkan:N, wgpu:N or metal:N";

const KNOWN: [&str; 6] = ["cuda", "metal", "vulkan", "wgpu", "flex", "ndarray"];

/// Names of the backends in this build, best first.
pub fn backends() -> Vec<&'static str> {
    let mut names = Vec::new();
    for (built, name) in [
        (cfg!(feature = "cuda"), "cuda"),
        (cfg!(feature = "metal"), "metal"),
        (cfg!(feature = "vulkan"), "vulkan"),
        (cfg!(feature = "wgpu"), "wgpu"),
        (cfg!(feature = "flex"), "flex"),
        (cfg!(feature = "ndarray"), "ndarray"),
    ] {
        if built {
            names.push(name);
        }
    }
    names
}

/// The device that `name` means.
///
/// `auto` is the first of [`backends`], `cpu` the first that runs on the processor.
pub fn parse(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => match index.parse::<usize>() {
            Ok(index) => (kind, index),
            Err(_) => bail!("device `{name}`: `{index}` is no number; wanted {HELP}"),
        },
        None => (name, 0),
    };
    let built = backends();
    let kind = match kind {
        "auto" => built.first().copied().unwrap_or("none"),
        "cpu" => {
            built.iter().copied().find(|it| matches!(*it, "flex" | "ndarray")).unwrap_or("flex")
        }
        other => other,
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
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(gpu(index))),
        _ if KNOWN.contains(&kind) => bail!(
            "device `{name}` is not in this build, which has {}; build with `--features {kind}` \
             (index {index})",
            built.join(", ")
        ),
        _ => bail!("device `{name}` is unknown; wanted {HELP}"),
    }
}

#[cfg(any(feature = "vulkan", feature = "wgpu", feature = "metal"))]
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
