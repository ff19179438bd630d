//! Gated activations, a block of elements at a time.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::floats;
use super::simd::{dispatch, exp, tanh};
use crate::gated::{Activation, GELU_CUBIC, GELU_SCALE};

/// Elements handed to a thread at a time.
const BLOCK: usize = 1 << 14;

pub(super) fn forward(gate: &FlexTensor, up: &FlexTensor, activation: Activation) -> FlexTensor {
    match activation {
        Activation::Silu => map(gate, up, silu),
        Activation::GeluTanh => map(gate, up, gelu),
    }
}

pub(super) fn backward(
    grad: &FlexTensor,
    gate: &FlexTensor,
    up: &FlexTensor,
    activation: Activation,
) -> (FlexTensor, FlexTensor) {
    match activation {
        Activation::Silu => map_backward(grad, gate, up, silu),
        Activation::GeluTanh => map_backward(grad, gate, up, gelu),
    }
}

/// `silu(z)` and its slope.
#[inline(always)]
fn silu(z: f32) -> (f32, f32) {
    let sigma = 1.0 / (1.0 + exp(-z));
    let value = z * sigma;
    (value, sigma + value * (1.0 - sigma))
}

/// `gelu(z)` in its tanh form and its slope.
#[inline(always)]
fn gelu(z: f32) -> (f32, f32) {
    let square = z * z;
    let bent = tanh(GELU_SCALE * z * (1.0 + GELU_CUBIC * square));
    let (half, above) = (0.5 * z, 1.0 + bent);
    let rest = half * (1.0 - bent * bent) * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * square);
    (half * above, 0.5 * above + rest)
}

#[inline(always)]
fn map(
    gate: &FlexTensor,
    up: &FlexTensor,
    f: impl Fn(f32) -> (f32, f32) + Copy + Sync + Send,
) -> FlexTensor {
    let shape = gate.layout().shape().clone();
    let (gate, up) = (floats(gate), floats(up));
    let mut out = vec![0.0; gate.len()];
    let inputs = gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK));
    out.par_chunks_mut(BLOCK).zip(inputs).for_each(|(out, (gate, up))| {
        dispatch(
            #[inline(always)]
            || {
                for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                    *out = f(gate).0 * up;
                }
            },
        );
    });
    FlexTensor::from_data(burn::tensor::TensorData::new(out, shape))
}

#[inline(always)]
fn map_backward(
    grad: &FlexTensor,
    gate: &FlexTensor,
    up: &FlexTensor,
    f: impl Fn(f32) -> (f32, f32) + Copy + Sync + Send,
) -> (FlexTensor, FlexTensor) {
    let shape = gate.layout().shape().clone();
    let (grad, gate, up) = (floats(grad), floats(gate), floats(up));
    let (mut d_gate, mut d_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
    let inputs = grad.par_chunks(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK));
    let outputs = d_gate.par_chunks_mut(BLOCK).zip(d_up.par_chunks_mut(BLOCK));
    outputs.zip(inputs).for_each(|((d_gate, d_up), ((grad, gate), up))| {
        dispatch(
            #[inline(always)]
            || {
                for i in 0..grad.len() {
                    let (value, slope) = f(gate[i]);
                    d_gate[i] = grad[i] * up[i] * slope;
                    d_up[i] = grad[i] * value;
                }
            },
        );
    });
    let tensor =
        |values| FlexTensor::from_data(burn::tensor::TensorData::new(values, shape.clone()));
    (tensor(d_gate), tensor(d_up))
}
