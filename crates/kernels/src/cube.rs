//! Bodies for devices driven by CubeCL: CUDA, Vulkan, Metal and WebGPU.
//!
//! Each is one launch where plain tensor operations would be many. Numbers are read in the
//! tensors' format and computed in f32; where a tensor is laid out in a way a kernel cannot read,
//! it is copied first.

#![expect(unsafe_code, reason = "kernels are launched without CubeCL's checks of every index")]

mod attention;
mod cache;
mod elementwise;
mod few_rows;
mod matmul;
mod reduce;
mod rms_norm;
mod tiles;

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::CubeCount;
use burn_cubecl::cubecl::ir::{AddressType, ElemType, FloatKind, IntKind};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::attention::AttentionRule;
use crate::gated::Activation;
use crate::ops::LlmOps;

impl LlmOps for CubeBackend {
    fn project_few(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        if tiles::fits(&x, &w) { tiles::project(x, w) } else { few_rows::project(x, w) }
    }

    fn project_many(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul::project(x, w)
    }

    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        rms_norm::forward(x, gamma, eps)
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        elementwise::rope(x, cos, sin)
    }

    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        elementwise::gated(gate, up, activation)
    }

    fn attention_few(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        attention::forward(q, k, v, segments, None, rule)
    }

    fn attention_at(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        slot: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        attention::forward(q, k, v, segments, Some(slot), rule)
    }

    fn cache_write(
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        new_keys: FloatTensor<Self>,
        new_values: FloatTensor<Self>,
        slot: IntTensor<Self>,
        _first: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cache::write(keys, values, new_keys, new_values, slot)
    }

    fn argmax_rows(x: FloatTensor<Self>) -> IntTensor<Self> {
        reduce::argmax(x)
    }

    fn overwrite(x: FloatTensor<Self>, bytes: Vec<u8>) -> FloatTensor<Self> {
        cache::overwrite(x, bytes)
    }

    fn overwrite_int(x: IntTensor<Self>, bytes: Vec<u8>) -> IntTensor<Self> {
        cache::overwrite(x, bytes)
    }
}

/// CubeCL's name of a number format.
fn element(dtype: DType) -> ElemType {
    match dtype {
        DType::F16 => ElemType::Float(FloatKind::F16),
        DType::BF16 => ElemType::Float(FloatKind::BF16),
        DType::F64 => ElemType::Float(FloatKind::F64),
        DType::I64 => ElemType::Int(IntKind::I64),
        DType::I32 => ElemType::Int(IntKind::I32),
        DType::F32 => ElemType::Float(FloatKind::F32),
        other => unreachable!("models hold no {other:?}"),
    }
}

/// A tensor for a kernel to fill, beside `like`, its rows without gaps. CUDA's own choice leaves
/// some between rows of odd lengths.
fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape), dtype)
}

/// How wide addresses must be to reach every element of the tensors.
fn addresses(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|it| it.required_address_type()).max().unwrap_or_default()
}

/// The most elements that one load can take from a tensor like this one, whose rows start at
/// multiples of `width`.
fn vector_size(like: &CubeTensor, width: usize) -> usize {
    let sizes = like.client.io_optimized_vector_sizes(like.dtype.size());
    sizes.filter(|size| width.is_multiple_of(*size)).max().unwrap_or(1)
}

/// `x` with its last dimension laid out without gaps.
fn with_dense_rows(x: CubeTensor) -> CubeTensor {
    let rank = x.rank();
    if x.meta.strides()[rank - 1] == 1 { x } else { into_contiguous(x) }
}

/// At least `n` cubes, in rows where a device takes no more than 65,535 side by side.
fn cubes(n: usize) -> CubeCount {
    const MOST: usize = 65_535;
    match n.div_ceil(MOST) {
        0 | 1 => CubeCount::new_1d(n as u32),
        rows => CubeCount::new_2d(n.div_ceil(rows) as u32, rows as u32),
    }
}

/// The greatest common divisor.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
