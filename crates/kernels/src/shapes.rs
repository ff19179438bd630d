//! Shapes that suit a device, and tensors in the number format that is computed in.

use burn::tensor::{DType, Device, FloatDType, Tensor};

/// Step of lengths on a device that compiles its kernels while the program runs.
const COMPILED_STEP: usize = 64;

/// The number to whose multiples lengths of batches and caches should be rounded up on `device`.
///
/// 64 where kernels are compiled while the program runs: there each new shape can cost a
/// compilation, and tiles of the products are multiples of 16. 1 on a processor, where padding is
/// nothing but work.
pub fn length_multiple(device: &Device) -> usize {
    if compiles_kernels(device) { COMPILED_STEP } else { 1 }
}

/// `x` in the number format `dtype`: itself, or a cast through which gradients flow back in its own.
///
/// What is trained in f32 goes through it where products are of halves.
pub fn in_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(FloatDType::from(dtype)) }
}

#[cfg(feature = "cube")]
pub(crate) fn compiles_kernels(device: &Device) -> bool {
    use burn::backend::DispatchDevice;

    matches!(device.as_dispatch().clone().inner(), DispatchDevice::Cube(_))
}

#[cfg(not(feature = "cube"))]
pub(crate) fn compiles_kernels(_device: &Device) -> bool {
    false
}
