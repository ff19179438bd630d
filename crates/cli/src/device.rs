//! From `--device` to a device: the one place where a device is chosen.
//!
//! The command and the step bench both compile this file.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, Tensor};

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

/// The device that `name` means, once it has computed something.
///
/// `auto` is the first of [`backends`] that can be used; those passed over are named on standard
/// error, with the reason.
///
/// # Errors
/// A name that is unknown or not in this build, or a device that cannot be used: no such card, no
/// driver.
pub fn open(name: &str) -> Result<Device> {
    if name != "auto" {
        return usable(name);
    }
    let mut last = anyhow!("this build has no backend; build with `--features flex`");
    for backend in backends() {
        match usable(backend) {
            Ok(device) => return Ok(device),
            Err(error) => {
                eprintln!("note: {error:#}");
                last = error;
            }
        }
    }
    Err(last)
}

fn usable(name: &str) -> Result<Device> {
    let device = parse(name)?;
    probe(&device).map_err(|cause| {
        let built = backends().join(", ");
        anyhow!(
            "device `{name}` cannot be used: {}; check the driver, or choose another of this \
             build's backends ({built}) with `--device`",
            shortened(&cause)
        )
    })?;
    Ok(device)
}

/// The beginning of a cause: some list every file name that was tried.
fn shortened(cause: &str) -> String {
    const LONGEST: usize = 160;
    match cause.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &cause[..end]),
        None => cause.to_owned(),
    }
}

/// Adds one and one on `device`.
///
/// Burn's runtimes panic, in threads of their own too, where a device cannot be had. The first
/// panic's words are the cause, the others follow from it.
fn probe(device: &Device) -> Result<(), String> {
    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut seen) = seen.lock() {
            let words = info.payload_as_str().unwrap_or("no reason given");
            seen.get_or_insert_with(|| words.replace('\n', " "));
        }
    }));
    let sum = || (Tensor::<1>::ones([1], device) + 1.0).try_into_scalar::<f32>();
    let outcome = panic::catch_unwind(AssertUnwindSafe(sum));
    panic::set_hook(earlier);
    let cause = first.lock().ok().and_then(|mut first| first.take());
    match (outcome, cause) {
        (Ok(Ok(2.0)), _) => Ok(()),
        (_, Some(cause)) => Err(cause),
        (Ok(Ok(other)), None) => Err(format!("it says that one and one are {other}")),
        (Ok(Err(error)), None) => Err(error.to_string()),
        (Err(_), None) => Err("no reason given".to_owned()),
    }
}

/// As [`usable`], before anything is computed.
///
/// `cpu` is the first of [`backends`] that runs on the processor.
fn parse(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => match index.parse::<usize>() {
            Ok(index) => (kind, index),
            Err(_) => bail!("device `{name}`: `{index}` is no number; wanted {HELP}"),
        },
        None => (name, 0),
    };
    let built = backends();
    let kind = match kind {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_is_answered_with_the_known_ones() {
        let error = open("abacus").unwrap_err().to_string();
        assert!(error.contains("`abacus` is unknown") && error.contains("cuda:N"), "{error}");
        assert!(open("flex:first").unwrap_err().to_string().contains("`first` is no number"));
    }

    #[test]
    fn the_processor_can_be_used() {
        open("cpu").unwrap();
        open("auto").unwrap();
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        assert_eq!(shortened("no driver"), "no driver");
        let cut = shortened(&"é".repeat(200));
        assert_eq!(cut.chars().count(), 161);
        assert!(cut.ends_with('…'));
    }
}
