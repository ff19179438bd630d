//! The bodies of this backend against the reference bodies, on views as well as on dense tensors.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape, Slice, TensorData};
use burn_flex::FlexTensor;

use super::{floats, tensor};
use crate::attention::AttentionRule;
use crate::gated::Activation;
use crate::linear_cross_entropy::{CrossEntropy, Inputs};
use crate::ops::LlmOps;

/// Fixed values in `[−1, 1]`, not periodic in any of the sizes used here.
fn random<const D: usize>(shape: [usize; D], seed: usize) -> FlexTensor {
    let n: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729) as f32 * 0.618_034).sin();
    tensor((0..n).map(value).collect(), shape)
}

fn ids<const D: usize>(values: Vec<i64>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

/// The same numbers seen through swapped dimensions `a` and `b` of another layout.
fn swapped(x: &FlexTensor, a: usize, b: usize) -> FlexTensor {
    let stored = Flex::float_swap_dims(x.clone(), a, b).to_contiguous();
    let view = Flex::float_swap_dims(stored, a, b);
    let turned = [a, b].iter().all(|&dim| x.shape()[dim] > 1);
    assert_eq!(view.is_contiguous(), !turned, "the view must not be dense");
    view
}

/// The same numbers as the inner part of a tensor that is larger by one on both sides of `dim`.
fn sliced(x: &FlexTensor, dim: usize) -> FlexTensor {
    let shape = x.shape();
    let len = shape[dim];
    let mut slices = vec![Slice::full(); shape.num_dims()];
    slices[dim] = Slice::from(0..1);
    let edge = Flex::float_slice(x.clone(), &slices);
    let larger = Flex::float_cat(vec![edge.clone(), x.clone(), edge], dim);
    slices[dim] = Slice::from(1..len + 1);
    Flex::float_slice(larger, &slices)
}

#[track_caller]
fn assert_same(actual: &FlexTensor, expected: &FlexTensor) {
    assert_eq!(actual.shape(), expected.shape());
    let (actual, expected) = (actual.to_contiguous(), expected.to_contiguous());
    let largest = floats(&expected).iter().fold(1.0f32, |max, x| max.max(x.abs()));
    for (i, (a, e)) in floats(&actual).iter().zip(floats(&expected)).enumerate() {
        assert!((a - e).abs() <= 2e-6 * largest, "element {i} is {a}, the reference has {e}");
    }
}

#[track_caller]
fn assert_same_pair(actual: (FlexTensor, FlexTensor), expected: (FlexTensor, FlexTensor)) {
    assert_same(&actual.0, &expected.0);
    assert_same(&actual.1, &expected.1);
}

#[track_caller]
fn assert_same_triple(
    actual: (FlexTensor, FlexTensor, FlexTensor),
    expected: (FlexTensor, FlexTensor, FlexTensor),
) {
    assert_same(&actual.0, &expected.0);
    assert_same(&actual.1, &expected.1);
    assert_same(&actual.2, &expected.2);
}

#[test]
fn matmul_sum_is_two_products() {
    for [m, k, n, r] in [[3, 5, 4, 2], [1, 1, 1, 1], [130, 96, 120, 8]] {
        let (a, b) = (random([m, k], 1), random([k, n], 2));
        let (c, d) = (random([m, r], 3), random([r, n], 4));
        let expected = Flex::float_add(
            Flex::float_matmul(a.clone(), b.clone()),
            Flex::float_matmul(c.clone(), d.clone()),
        );
        let run = |b, c| <Flex as LlmOps>::matmul_sum(a.clone(), b, c, d.clone());
        assert_same(&run(b.clone(), c.clone()), &expected);
        if m > 1 {
            assert_same(&run(swapped(&b, 0, 1), sliced(&c, 1)), &expected);
            assert_same(&run(sliced(&b, 0), swapped(&c, 0, 1)), &expected);
        }
    }
}

#[test]
fn rms_norm_and_its_gradient_are_the_reference() {
    for [n, hidden] in [[1, 1], [3, 17], [70, 48]] {
        let (x, gamma, grad) =
            (random([n, hidden], 1), random([hidden], 2), random([n, hidden], 3));
        let mut views = vec![(x.clone(), grad.clone())];
        if hidden > 1 {
            views.push((swapped(&x, 0, 1), sliced(&grad, 1)));
            views.push((sliced(&x, 1), swapped(&grad, 0, 1)));
        }
        for (x_view, grad_view) in views {
            assert_same(
                &<Flex as LlmOps>::rms_norm(x_view.clone(), sliced(&gamma, 0), 1e-5),
                &crate::rms_norm::reference::<Flex>(x.clone(), gamma.clone(), 1e-5),
            );
            assert_same_pair(
                <Flex as LlmOps>::rms_norm_backward(grad_view, x_view, gamma.clone(), 1e-5),
                crate::rms_norm::reference_backward::<Flex>(
                    grad.clone(),
                    x.clone(),
                    gamma.clone(),
                    1e-5,
                ),
            );
        }
    }
}

#[test]
fn rope_is_the_reference_with_one_table_and_with_many() {
    let (batch, seq, heads, head_dim) = (2, 37, 3, 8);
    let x = random([batch, seq, heads, head_dim], 1);
    for tables in [1, batch] {
        let shape = [tables, seq, 1, head_dim / 2];
        let (cos, sin) = (random(shape, 2), random(shape, 3));
        let expected = crate::rope::reference::<Flex>(x.clone(), cos.clone(), sin.clone());
        for view in [x.clone(), swapped(&x, 1, 2), sliced(&x, 3)] {
            let actual = <Flex as LlmOps>::rope(view, swapped(&cos, 1, 3), sliced(&sin, 1));
            assert_same(&actual, &expected);
        }
    }
}

#[test]
fn gates_and_their_gradients_are_the_reference() {
    for (shape, f) in [([3, 5], Activation::Silu), ([130, 150], Activation::GeluTanh)] {
        let [gate, up, grad] = [1, 2, 3].map(|seed| random(shape, seed));
        let gate = Flex::float_mul_scalar(gate, burn::backend::Scalar::from(6.0f32));
        let dense = (gate.clone(), up.clone(), grad.clone());
        let views = (swapped(&gate, 0, 1), sliced(&up, 1), swapped(&grad, 0, 1));
        let expected = crate::gated::reference::<Flex>(gate.clone(), up.clone(), f);
        let gradients = crate::gated::reference_backward::<Flex>(grad, gate, up, f);
        for (g, u, d) in [dense, views] {
            assert_same(&<Flex as LlmOps>::gated(g.clone(), u.clone(), f), &expected);
            assert_same_pair(<Flex as LlmOps>::gated_backward(d, g, u, f), gradients.clone());
        }
    }
}

/// Attention forward and backward for `[batch, seq, keys, heads, kv_heads, head_dim]`.
#[track_caller]
fn check_attention(sizes: [usize; 6], segments: Vec<i64>) {
    let plain = AttentionRule::scaled(0.4);
    let windowed = AttentionRule { window: Some(70), ..plain };
    let capped = AttentionRule { window: Some(3), softcap: Some(0.3), ..plain };
    for rule in [plain, windowed, capped] {
        check_rule(sizes, segments.clone(), rule);
    }
}

#[track_caller]
fn check_rule(
    [batch, seq, keys, heads, kv_heads, d]: [usize; 6],
    segments: Vec<i64>,
    rule: AttentionRule,
) {
    let q = random([batch, seq, heads, d], 1);
    let [k, v] = [2, 3].map(|seed| random([batch, keys, kv_heads, d], seed));
    let grad = random([batch, seq, heads, d], 4);
    let ids = ids(segments, [batch, keys]);
    let (out, lse) =
        crate::attention::reference::<Flex>(q.clone(), k.clone(), v.clone(), ids.clone(), rule);
    let gradients = crate::attention::reference_backward::<Flex>(
        grad.clone(),
        q.clone(),
        k.clone(),
        v.clone(),
        ids.clone(),
        out.clone(),
        lse.clone(),
        rule,
    );
    let dense = (q.clone(), k.clone(), v.clone(), grad.clone());
    let views = (swapped(&q, 1, 2), swapped(&k, 1, 3), sliced(&v, 2), sliced(&grad, 3));
    for (q, k, v, grad) in [dense, views] {
        let run = <Flex as LlmOps>::attention_forward;
        let actual = run(q.clone(), k.clone(), v.clone(), ids.clone(), rule);
        assert_same_pair(actual.clone(), (out.clone(), lse.clone()));
        let (out, lse) = actual;
        let backward = <Flex as LlmOps>::attention_backward;
        let actual = backward(grad, q, k, v, ids.clone(), out, swapped(&lse, 1, 2), rule);
        assert_same_triple(actual, gradients.clone());
    }
}

#[test]
fn attention_and_its_gradient_are_the_reference() {
    check_attention([1, 5, 5, 2, 2, 4], vec![1; 5]);
    check_attention([2, 7, 7, 4, 2, 3], vec![1, 1, 2, 2, 2, 0, 0, 1, 1, 1, 1, 2, 3, 3]);
}

#[test]
fn attention_over_a_cache_is_the_reference() {
    for seq in [3, 1] {
        let segments = [vec![0; 2], vec![1; 7], vec![1; 9]].concat();
        check_attention([2, seq, 9, 6, 2, 4], segments);
    }
}

#[test]
fn attention_across_blocks_is_the_reference() {
    let row = |cut: usize| (0..200).map(move |i| i64::from(i >= cut) + 1);
    check_attention([2, 200, 200, 4, 2, 16], row(64).chain(row(131)).collect());
    check_attention([1, 150, 200, 2, 1, 8], row(90).collect());
}

#[test]
fn products_of_few_rows_are_those_of_many() {
    for (n, d_in, d_out) in [(1, 37, 5), (3, 16, 130), (6, 100, 70), (32, 64, 65), (33, 20, 3)] {
        let (x, w) = (random([n, d_in], 1), random([d_out, d_in], 2));
        let wanted = Flex::float_matmul(x.clone(), Flex::float_transpose(w.clone()));
        assert_same(&<Flex as LlmOps>::project(x.clone(), w.clone()), &wanted);
        let views = (swapped(&x, 0, 1), swapped(&w, 0, 1));
        assert_same(&<Flex as LlmOps>::project(views.0, views.1), &wanted);
        assert_same(&<Flex as LlmOps>::project(sliced(&x, 0), sliced(&w, 0)), &wanted);
    }
}

#[test]
fn the_projected_cross_entropy_and_its_gradients_are_the_reference() {
    let smooth = CrossEntropy { softcap: Some(0.6), label_smoothing: 0.1, z_loss: 1e-2 };
    for ([n, vocab, width], rule) in [([6, 7, 3], CrossEntropy::default()), ([33, 300, 20], smooth)]
    {
        let (hidden, weight) = (random([n, width], 1), random([vocab, width], 2));
        let targets = ids((0..n).map(|i| (i * 31 % vocab) as i64).collect(), [n]);
        // Holes, halves and ones.
        let mask = tensor((0..n).map(|i| (i % 3) as f32 / 2.0).collect(), [n]);
        let inputs = || {
            let (hidden, weight, targets) = (hidden.clone(), weight.clone(), targets.clone());
            Inputs::<Flex> { hidden, weight, targets, rule }
        };
        let dense = (hidden.clone(), weight.clone());
        let views = (swapped(&hidden, 0, 1), sliced(&weight, 1));
        for (h, w) in [dense, views] {
            let (ids, mask) = (targets.clone(), mask.clone());
            let run = <Flex as LlmOps>::linear_cross_entropy;
            let actual = run(h.clone(), w.clone(), ids.clone(), sliced(&mask, 0), rule);
            let expected = crate::linear_cross_entropy::reference::<Flex>(&inputs(), mask.clone());
            assert_same(&actual, &expected);
            for train in [true, false] {
                let run = <Flex as LlmOps>::linear_cross_entropy_grad;
                let actual = run(h.clone(), w.clone(), ids.clone(), mask.clone(), rule, train);
                let reference = crate::linear_cross_entropy::reference_grad::<Flex>;
                assert_same_triple(actual, reference(inputs(), mask.clone(), train));
            }
        }
    }
}

#[test]
fn other_float_types_take_the_reference_path() {
    let cast = |x: FlexTensor| Flex::float_cast(x, FloatDType::F16);
    let [gate, up] = [1, 2].map(|seed| cast(random([4, 6], seed)));
    let silu = Activation::Silu;
    let actual = <Flex as LlmOps>::gated(gate.clone(), up.clone(), silu);
    assert_eq!(actual.dtype(), DType::F16);
    let wide = |x| Flex::float_cast(x, FloatDType::F32);
    let expected = crate::gated::reference::<Flex>(wide(gate), wide(up), silu);
    let actual = wide(actual).to_contiguous();
    for (a, e) in floats(&actual).iter().zip(floats(&expected.to_contiguous())) {
        assert!((a - e).abs() <= 2e-3, "{a} against {e}");
    }
}
