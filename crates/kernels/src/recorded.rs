//! Launches that are recorded once and repeated as one.
//!
//! A step of generation is hundreds of small launches, and on a GPU the processor takes longer to
//! ask for them than the device to do them. CUDA can record them as a graph and repeat the whole
//! of it at one call.

#![expect(unsafe_code, reason = "a recorded graph is repeated on memory that nothing checks")]

use core::marker::PhantomData;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Graph, Int, Tensor, capture};

use crate::ops::LlmOps;
use crate::shapes::compiles_kernels;

/// Whether steps on `device` may be recorded: not where a graph of gradients grows.
pub fn can_record(device: &Device) -> bool {
    !device.is_autodiff() && compiles_kernels(device)
}

/// A computation recorded once and repeated.
///
/// What changes between repetitions lies in tensors that the step reads and the caller overwrites
/// in place: [`overwrite_floats`], [`overwrite_ints`], [`crate::Slot::move_to`]. State that the
/// step itself changes must be changed in place too, as [`crate::cache_write`] does with a cache
/// that nothing else holds. The step must not read a tensor to the host.
pub struct Recorded<T, F> {
    graph: Graph<T, F>,
    /// It stays on the thread whose stream it was recorded on.
    _thread: PhantomData<*const ()>,
}

impl<T, F: FnMut() -> T> Recorded<T, F> {
    /// Runs `step` a few times and records it. `None` if the device cannot repeat it; what `step`
    /// writes to must then be made anew.
    ///
    /// # Panics
    /// If `step` does; the thread's stream is then left recording, and the device should not be
    /// used from it again.
    pub fn new(device: &Device, step: F) -> Option<Self> {
        let graph = capture(device, step);
        graph.is_hardware().then_some(Self { graph, _thread: PhantomData })
    }

    /// Repeats it on what its inputs hold now.
    pub fn repeat(&mut self) -> &T {
        // SAFETY: the step owns or borrows every tensor it reads, so that they live as long as
        // `self`; results of one run are overwritten by the next, and all of it is asked for on
        // one thread's stream, in order.
        unsafe { self.graph.replay() }
    }
}

/// Replaces the elements of `x`, for every tensor that shares its memory where the device can
/// record.
///
/// # Panics
/// If there are not as many values as elements.
pub fn overwrite_floats<const D: usize>(x: &mut Tensor<D>, values: &[f32]) {
    assert_eq!(x.dims().iter().product::<usize>(), values.len(), "values of {:?}", x.dims());
    assert_eq!(x.dtype(), DType::F32, "only single precision is overwritten");
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let written = <Dispatch as LlmOps>::overwrite(x.clone().into_dispatch(), bytes);
    *x = Tensor::from_dispatch(written);
}

/// [`overwrite_floats`] for integers.
///
/// # Panics
/// If there are not as many values as elements.
pub fn overwrite_ints<const D: usize>(x: &mut Tensor<D, Int>, values: &[i32]) {
    assert_eq!(x.dims().iter().product::<usize>(), values.len(), "values of {:?}", x.dims());
    let bytes = match x.dtype() {
        DType::I64 => values.iter().flat_map(|&value| i64::from(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let written = <Dispatch as LlmOps>::overwrite_int(x.clone().into_dispatch(), bytes);
    *x = Tensor::from_dispatch(written);
}
