//! Rotation and gate, a unit for each element.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{addresses, element, empty, gcd, vector_size};
use crate::gated::{Activation, GELU_CUBIC, GELU_SCALE};

/// In vectors, of which a head has `columns`, and a half of what is rotated `half`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn rope_kernel<E: Float, T: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    cos: &Tensor<Vector<T, N>>,
    sin: &Tensor<Vector<T, N>>,
    out: &mut Tensor<Vector<E, N>>,
    columns: usize,
    half: usize,
    #[define(E, T)] _formats: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let (seq, heads) = (x.shape(1), x.shape(2));
    let column = at % columns;
    let token = at / (columns * heads);
    // A table of one row serves every sequence.
    let line = if cos.shape(0) == 1 { token % seq } else { token };
    if column >= 2 * half {
        out[at] = x[at];
        terminate!();
    }
    let low = column < half;
    let angle = line * half + select(low, column, column - half);
    let here = Vector::<f32, N>::cast_from(x[at]);
    let other = Vector::<f32, N>::cast_from(x[select(low, at + half, at - half)]);
    let turned = Vector::<f32, N>::cast_from(cos[angle]) * here;
    let across = Vector::<f32, N>::cast_from(sin[angle]) * other;
    out[at] = Vector::cast_from(if low { turned - across } else { turned + across });
}

/// `x [batch, seq, heads, head_dim]`, tables `[batch or 1, seq, 1, rotated / 2]`.
pub(super) fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor) -> CubeTensor {
    let (x, cos, sin) = (into_contiguous(x), into_contiguous(cos), into_contiguous(sin));
    let shape: [usize; 4] = x.shape().dims();
    let [_, _, _, half] = cos.shape().dims();
    let out = empty(&x, shape, x.dtype);
    let vector = vector_size(&cos, gcd(shape[3], half));
    let loads = shape.iter().product::<usize>() / vector;
    let cube_dim = CubeDim::new(&out.client, loads);
    let formats = [element(x.dtype), element(cos.dtype)];
    // SAFETY: a unit past the last element ends at once; `at ± half` stays in the same head, and
    // the tables have a line of `half` columns for each token.
    unsafe {
        rope_kernel::launch_unchecked(
            &out.client,
            calculate_cube_count_elemwise(&out.client, loads, cube_dim),
            cube_dim,
            addresses(&[&x, &cos, &out]),
            vector,
            x.into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            shape[3] / vector,
            half / vector,
            formats,
        );
    }
    out
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gated_kernel<E: Float, N: Size>(
    gate: &Tensor<Vector<E, N>>,
    up: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    #[comptime] activation: Activation,
    #[define(E)] _format: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let z = Vector::<f32, N>::cast_from(gate[at]);
    let one = Vector::<f32, N>::new(f32::new(1.0));
    let bent = match comptime!(activation) {
        Activation::Silu => z / (one + (-z).exp()),
        Activation::GeluTanh => {
            let cubic = Vector::<f32, N>::new(f32::new(GELU_CUBIC));
            let inner = (one + z * z * cubic) * z * Vector::new(f32::new(GELU_SCALE));
            // `(1 + tanh t) / 2 = 1 / (1 + exp(−2t))`.
            z / (one + (inner * Vector::new(f32::new(-2.0))).exp())
        }
    };
    out[at] = Vector::cast_from(bent * Vector::cast_from(up[at]));
}

/// `f(gate) ⊙ up`.
pub(super) fn gated(gate: CubeTensor, up: CubeTensor, activation: Activation) -> CubeTensor {
    let (gate, up) = (into_contiguous(gate), into_contiguous(up));
    let shape = gate.shape();
    let n = shape.num_elements();
    let out = empty(&gate, [n], gate.dtype);
    let vector = vector_size(&gate, n);
    let loads = n / vector;
    let cube_dim = CubeDim::new(&out.client, loads);
    let format = element(gate.dtype);
    // SAFETY: a unit past the last element ends at once, and the three tensors have the same
    // number of elements.
    unsafe {
        gated_kernel::launch_unchecked(
            &out.client,
            calculate_cube_count_elemwise(&out.client, loads, cube_dim),
            cube_dim,
            addresses(&[&gate, &up, &out]),
            vector,
            gate.into_tensor_arg(),
            up.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            activation,
            format,
        );
    }
    burn_cubecl::ops::reshape(out, shape)
}
