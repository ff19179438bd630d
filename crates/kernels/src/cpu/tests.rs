//! The loops of this module against the reference bodies, on the same primitives.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;

use super::{floats, tensor};
use crate::ops::LlmOps;
use crate::{attention, linear_cross_entropy, rms_norm, rope, swiglu};

fn random<const D: usize>(seed: u32, shape: [usize; D]) -> FlexTensor {
    let n = shape.iter().product::<usize>() as u32;
    let mixed = (0..n).map(|i| (i * 2_654_435_761 ^ seed * 40_503).wrapping_mul(2_246_822_519));
    let values = mixed.map(|bits| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0);
    tensor(values.collect(), shape)
}

fn ints<const D: usize>(values: Vec<i32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(burn::tensor::TensorData::new(values, shape))
}

#[track_caller]
fn same(ours: FlexTensor, reference: FlexTensor) {
    let (ours, reference) = (ours.to_contiguous(), reference.to_contiguous());
    rekindle_testkit::assert_close(floats(&ours), floats(&reference), 1e-5, 1e-5);
}

#[test]
fn rows_agree_with_the_reference() {
    let (x, g) = (random(1, [70, 50]), random(2, [70, 50]));
    let gamma = random(3, [50]);
    same(
        Flex::rms_norm(x.clone(), gamma.clone(), 1e-5),
        rms_norm::reference::<Flex>(x.clone(), gamma.clone(), 1e-5),
    );
    let ours = Flex::rms_norm_backward(g.clone(), x.clone(), gamma.clone(), 1e-5);
    let wanted = rms_norm::reference_backward::<Flex>(g.clone(), x.clone(), gamma, 1e-5);
    same(ours.0, wanted.0);
    same(ours.1, wanted.1);
    same(Flex::swiglu(x.clone(), g.clone()), swiglu::reference::<Flex>(x.clone(), g.clone()));
    let up = random(4, [70, 50]);
    let ours = Flex::swiglu_backward(g.clone(), x.clone(), up.clone());
    let wanted = swiglu::reference_backward::<Flex>(g, x, up);
    same(ours.0, wanted.0);
    same(ours.1, wanted.1);
}

#[test]
fn a_view_that_is_not_contiguous_is_read_rightly() {
    let x = Flex::float_transpose(random(1, [50, 70]));
    let gamma = random(3, [50]);
    same(
        Flex::rms_norm(x.clone(), gamma.clone(), 1e-5),
        rms_norm::reference::<Flex>(x.clone(), gamma, 1e-5),
    );
    let (b, c, d) = (random(4, [50, 30]), random(5, [70, 8]), random(6, [30, 8]));
    let d = Flex::float_transpose(d);
    same(
        Flex::matmul_sum(x.clone(), b.clone(), c.clone(), d.clone()),
        Flex::float_add(Flex::float_matmul(x, b), Flex::float_matmul(c, d)),
    );
}

#[test]
fn rope_agrees_with_the_reference() {
    let x = random(1, [2, 45, 3, 8]);
    for tables in [1, 2] {
        let (cos, sin) = (random(2, [tables, 45, 1, 4]), random(3, [tables, 45, 1, 4]));
        same(
            Flex::rope(x.clone(), cos.clone(), sin.clone()),
            rope::reference::<Flex>(x.clone(), cos, sin),
        );
    }
}

#[test]
fn attention_agrees_with_the_reference() {
    let (q, g) = (random(1, [2, 150, 6, 8]), random(2, [2, 150, 6, 8]));
    let (k, v) = (random(3, [2, 160, 2, 8]), random(4, [2, 160, 2, 8]));
    let segments = ints((0..320).map(|i| i / 90).collect(), [2, 160]);
    let ours = Flex::attention_forward(q.clone(), k.clone(), v.clone(), segments.clone(), 0.5);
    let wanted =
        attention::reference::<Flex>(q.clone(), k.clone(), v.clone(), segments.clone(), 0.5);
    same(ours.0.clone(), wanted.0);
    same(ours.1.clone(), wanted.1);
    let (out, lse) = ours;
    let ours = Flex::attention_backward(
        g.clone(),
        q.clone(),
        k.clone(),
        v.clone(),
        segments.clone(),
        out.clone(),
        lse.clone(),
        0.5,
    );
    let wanted = attention::reference_backward::<Flex>(g, q, k, v, segments, out, lse, 0.5);
    same(ours.0, wanted.0);
    same(ours.1, wanted.1);
    same(ours.2, wanted.2);
}

#[test]
fn the_loss_agrees_with_the_reference() {
    let (hidden, weight) = (random(1, [30, 16]), random(2, [60, 16]));
    let targets = ints((0..30).map(|i| i * 7 % 60).collect(), [30]);
    let mask = tensor((0..30).map(|i| [1.0, 0.0][i % 2]).collect(), [30]);
    for train_weight in [false, true] {
        let ours = Flex::linear_cross_entropy_grad(
            hidden.clone(),
            weight.clone(),
            targets.clone(),
            mask.clone(),
            train_weight,
        );
        let wanted = linear_cross_entropy::reference_grad::<Flex>(
            hidden.clone(),
            weight.clone(),
            targets.clone(),
            mask.clone(),
            train_weight,
        );
        same(ours.0, wanted.0);
        same(ours.1, wanted.1);
        same(ours.2, wanted.2);
    }
}
