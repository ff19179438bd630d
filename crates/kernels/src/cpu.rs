//! Bodies for the Flex backend: plain loops over f32 slices, vectorised by the compiler for the
//! widest instructions that the processor has, rows spread over threads.
//!
//! Tensors of another element type go through the reference bodies.

mod attention;
mod few_rows;
mod gated;
mod gemm;
mod linear_cross_entropy;
mod rows;
mod simd;
#[cfg(test)]
mod view_tests;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape, TensorData};
use burn_flex::FlexTensor;

use crate::attention::AttentionRule;
use crate::gated::Activation;
use crate::linear_cross_entropy::{CrossEntropy, Inputs};
use crate::ops::LlmOps;

/// A new f32 tensor.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

fn is_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|x| x.dtype() == DType::F32)
}

/// The elements of a contiguous f32 tensor.
fn floats(x: &FlexTensor) -> &[f32] {
    x.as_slice::<f32>().expect("the tensor was made contiguous and is f32")
}

/// The elements of an integer tensor of any width.
fn ints(x: &FlexTensor) -> Vec<i64> {
    TensorData::iter::<i64>(&x.clone().into_data()).collect()
}

impl LlmOps for Flex {
    fn project(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        if is_f32(&[&x, &w]) && few_rows::suits(&x, &w) {
            return few_rows::project(&x.to_contiguous(), &w);
        }
        Self::float_matmul(x, Self::float_transpose(w))
    }

    fn matmul_sum(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if is_f32(&[&a, &b, &c, &d]) {
            return gemm::matmul_sum(&a, &b, &c, &d);
        }
        use burn::backend::ops::FloatTensorOps;
        Self::float_add(Self::float_matmul(a, b), Self::float_matmul(c, d))
    }

    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        if is_f32(&[&x, &gamma]) {
            return rows::rms_norm(&x.to_contiguous(), &gamma.to_contiguous(), eps);
        }
        crate::rms_norm::reference::<Self>(x, gamma, eps)
    }

    fn rms_norm_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if is_f32(&[&grad, &x, &gamma]) {
            let (grad, x) = (grad.to_contiguous(), x.to_contiguous());
            return rows::rms_norm_backward(&grad, &x, &gamma.to_contiguous(), eps);
        }
        crate::rms_norm::reference_backward::<Self>(grad, x, gamma, eps)
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if is_f32(&[&x, &cos, &sin]) {
            return rows::rope(&x.to_contiguous(), &cos.to_contiguous(), &sin.to_contiguous());
        }
        crate::rope::reference::<Self>(x, cos, sin)
    }

    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        if is_f32(&[&gate, &up]) {
            return gated::forward(&gate.to_contiguous(), &up.to_contiguous(), activation);
        }
        crate::gated::reference::<Self>(gate, up, activation)
    }

    fn gated_backward(
        grad: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if is_f32(&[&grad, &gate, &up]) {
            let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
            return gated::backward(&grad.to_contiguous(), &gate, &up, activation);
        }
        crate::gated::reference_backward::<Self>(grad, gate, up, activation)
    }

    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if is_f32(&[&q, &k, &v]) {
            return attention::forward(&q, &k, &v, &ints(&segments), rule);
        }
        crate::attention::reference::<Self>(q, k, v, segments, rule)
    }

    fn attention_backward(
        grad: FloatTensor<Self>,
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        rule: AttentionRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if is_f32(&[&grad, &q, &k, &v]) {
            let saved = attention::Saved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
            return attention::backward(&grad, &saved, &ints(&segments), rule);
        }
        crate::attention::reference_backward::<Self>(grad, q, k, v, segments, out, lse, rule)
    }

    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        rule: CrossEntropy,
    ) -> FloatTensor<Self> {
        if is_f32(&[&hidden, &weight, &mask]) {
            let rows = linear_cross_entropy::Rows::new(&hidden, &ints(&targets), &mask, rule);
            return linear_cross_entropy::loss(&rows, &weight);
        }
        let inputs = Inputs { hidden, weight, targets, rule };
        crate::linear_cross_entropy::reference::<Self>(&inputs, mask)
    }

    fn linear_cross_entropy_grad(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        rule: CrossEntropy,
        train_weight: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if is_f32(&[&hidden, &weight, &mask]) {
            let rows = linear_cross_entropy::Rows::new(&hidden, &ints(&targets), &mask, rule);
            return linear_cross_entropy::gradient(&rows, &weight, train_weight);
        }
        let inputs = Inputs { hidden, weight, targets, rule };
        crate::linear_cross_entropy::reference_grad::<Self>(inputs, mask, train_weight)
    }
}
