//! Rotation and gate, a unit for each element.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{addresses, element, empty};
use crate::gated::{Activation, GELU_CUBIC, GELU_SCALE};

#[cube(launch_unchecked, address_type = "dynamic")]
fn rope_kernel<E: Float, T: Float>(
    x: &Tensor<E>,
    cos: &Tensor<T>,
    sin: &Tensor<T>,
    out: &mut Tensor<E>,
    #[define(E, T)] _formats: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let (seq, heads, head_dim) = (x.shape(1), x.shape(2), x.shape(3));
    let half = cos.shape(3);
    let column = at % head_dim;
    let token = at / (head_dim * heads);
    // A table of one row serves every sequence.
    let line = if cos.shape(0) == 1 { token % seq } else { token };
    let here = f32::cast_from(x[at]);
    if column < half {
        let angle = line * half + column;
        let other = f32::cast_from(x[at + half]);
        let turned = here * f32::cast_from(cos[angle]) - other * f32::cast_from(sin[angle]);
        out[at] = E::cast_from(turned);
    } else if column < 2 * half {
        let angle = line * half + column - half;
        let other = f32::cast_from(x[at - half]);
        let turned = here * f32::cast_from(cos[angle]) + other * f32::cast_from(sin[angle]);
        out[at] = E::cast_from(turned);
    } else {
        out[at] = x[at];
    }
}

/// `x [batch, seq, heads, head_dim]`, tables `[batch or 1, seq, 1, rotated / 2]`.
pub(super) fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor) -> CubeTensor {
    let (x, cos, sin) = (into_contiguous(x), into_contiguous(cos), into_contiguous(sin));
    let shape: [usize; 4] = x.shape().dims();
    let out = empty(&x, shape);
    let n = shape.iter().product();
    let cube_dim = CubeDim::new(&out.client, n);
    let formats = [element(x.dtype), element(cos.dtype)];
    // SAFETY: a unit past the last element ends at once; `at ± half` stays in the same head, and
    // the tables have a line of `half` columns for each token.
    unsafe {
        rope_kernel::launch_unchecked(
            &out.client,
            calculate_cube_count_elemwise(&out.client, n, cube_dim),
            cube_dim,
            addresses(&[&x, &cos, &out]),
            x.into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            formats,
        );
    }
    out
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gated_kernel<E: Float>(
    gate: &Tensor<E>,
    up: &Tensor<E>,
    out: &mut Tensor<E>,
    #[comptime] activation: Activation,
    #[define(E)] _format: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let z = f32::cast_from(gate[at]);
    let one = f32::new(1.0);
    let bent = match comptime!(activation) {
        Activation::Silu => z / (one + (-z).exp()),
        Activation::GeluTanh => {
            let inner = (one + z * z * f32::new(GELU_CUBIC)) * z * f32::new(GELU_SCALE);
            // `(1 + tanh t) / 2 = 1 / (1 + exp(−2t))`.
            z / (one + (f32::new(-2.0) * inner).exp())
        }
    };
    out[at] = E::cast_from(bent * f32::cast_from(up[at]));
}

/// `f(gate) ⊙ up`.
pub(super) fn gated(gate: CubeTensor, up: CubeTensor, activation: Activation) -> CubeTensor {
    let (gate, up) = (into_contiguous(gate), into_contiguous(up));
    let shape = gate.shape();
    let n = shape.num_elements();
    let out = empty(&gate, [n]);
    let cube_dim = CubeDim::new(&out.client, n);
    let format = element(gate.dtype);
    // SAFETY: a unit past the last element ends at once, and the three tensors have the same
    // number of elements.
    unsafe {
        gated_kernel::launch_unchecked(
            &out.client,
            calculate_cube_count_elemwise(&out.client, n, cube_dim),
            cube_dim,
            addresses(&[&gate, &up, &out]),
            gate.into_tensor_arg(),
            up.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            activation,
            format,
        );
    }
    burn_cubecl::ops::reshape(out, shape)
}
