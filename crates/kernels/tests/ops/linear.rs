//! `linear` and `lora_linear`.

use burn::tensor::Tensor;
use rekindle_kernels::{linear, lora_linear};
use rekindle_testkit::{assert_close, device};

use crate::comparison::{check, constant, host, tracked, values};

const BATCH: usize = 2;
const SEQ: usize = 3;
const D_IN: usize = 5;
const D_OUT: usize = 4;
const RANK: usize = 2;
const SCALE: f64 = 1.5;

fn x3(x: &Tensor<1>) -> Tensor<3> {
    x.clone().reshape([BATCH, SEQ, D_IN])
}

/// `x · wᵀ` in Burn's operations.
fn plain(x: Tensor<3>, w: Tensor<2>) -> Tensor<3> {
    x.matmul(w.transpose().unsqueeze())
}

fn plain_lora(x: Tensor<3>, w: Tensor<2>, a: Tensor<2>, b: Tensor<2>) -> Tensor<3> {
    plain(x.clone(), w) + plain(plain(x, a), b) * SCALE
}

#[test]
fn linear_with_a_trained_weight_is_a_matrix_product() {
    let w = |w: &Tensor<1>| w.clone().reshape([D_OUT, D_IN]);
    let inputs = [values(BATCH * SEQ * D_IN, 1), values(D_OUT * D_IN, 2)];
    check(
        |v| linear(x3(&v[0]), w(&v[1])).flatten(0, 2),
        |v| plain(x3(&v[0]), w(&v[1])).flatten(0, 2),
        &inputs,
        1e-1,
    );
}

#[test]
fn linear_with_a_frozen_weight_is_a_matrix_product() {
    let w = |x: &Tensor<1>| constant([D_OUT, D_IN], 2, &x.device());
    check(
        |v| linear(x3(&v[0]), w(&v[0])).flatten(0, 2),
        |v| plain(x3(&v[0]), w(&v[0])).flatten(0, 2),
        &[values(BATCH * SEQ * D_IN, 1)],
        1e-1,
    );
}

#[test]
fn linear_of_an_untracked_input_still_trains_its_weight() {
    let x = |w: &Tensor<1>| constant([BATCH, SEQ, D_IN], 1, &w.device());
    let w = |w: &Tensor<1>| w.clone().reshape([D_OUT, D_IN]);
    check(
        |v| linear(x(&v[0]), w(&v[0])).flatten(0, 2),
        |v| plain(x(&v[0]), w(&v[0])).flatten(0, 2),
        &[values(D_OUT * D_IN, 2)],
        1e-1,
    );
}

#[test]
fn linear_on_a_transposed_input_and_weight_is_a_matrix_product() {
    let x = |x: &Tensor<1>| x.clone().reshape([D_IN, BATCH * SEQ]).transpose();
    let w = |w: &Tensor<1>| w.clone().reshape([D_IN, D_OUT]).transpose();
    check(
        |v| linear(x(&v[0]), w(&v[1])).flatten(0, 1),
        |v| x(&v[0]).matmul(w(&v[1]).transpose()).flatten(0, 1),
        &[values(BATCH * SEQ * D_IN, 1), values(D_OUT * D_IN, 2)],
        1e-1,
    );
}

#[test]
fn linear_passes_the_gradient_through_a_computed_weight() {
    let device = tracked();
    let leaf = constant([D_OUT, D_IN], 2, &device).require_grad();
    let x = constant::<2>([SEQ, D_IN], 1, &device);
    // The gradient of Σ x · (3 w)ᵀ to every row of w is 3 · Σ rows of x.
    let grads = linear(x.clone(), leaf.clone() * 3.0).sum().backward();
    let expected = (x.sum_dim(0) * 3.0).repeat_dim(0, D_OUT);
    let actual = leaf.grad(&grads).expect("the leaf made the weight");
    assert_close(&host(actual), &host(expected), 1e-5, 1e-6);
}

#[test]
fn linear_off_the_autodiff_device_gives_the_same_values() {
    let (x, w) = ([BATCH, SEQ, D_IN], [D_OUT, D_IN]);
    let on = |device| host(linear(constant(x, 1, &device), constant(w, 2, &device)));
    assert_eq!(on(device()), on(tracked()));
}

#[test]
fn lora_linear_is_the_sum_of_its_two_branches() {
    let w = |x: &Tensor<1>| constant([D_OUT, D_IN], 2, &x.device());
    let a = |a: &Tensor<1>| a.clone().reshape([RANK, D_IN]);
    let b = |b: &Tensor<1>| b.clone().reshape([D_OUT, RANK]);
    let inputs = [values(BATCH * SEQ * D_IN, 1), values(RANK * D_IN, 3), values(D_OUT * RANK, 4)];
    check(
        |v| lora_linear(x3(&v[0]), w(&v[0]), a(&v[1]), b(&v[2]), SCALE).flatten(0, 2),
        |v| plain_lora(x3(&v[0]), w(&v[0]), a(&v[1]), b(&v[2])).flatten(0, 2),
        &inputs,
        1e-1,
    );
}

#[test]
fn lora_linear_of_an_untracked_input_still_trains_the_pair() {
    let x = |a: &Tensor<1>| constant([BATCH, SEQ, D_IN], 1, &a.device());
    let w = |a: &Tensor<1>| constant([D_OUT, D_IN], 2, &a.device());
    let a = |a: &Tensor<1>| a.clone().reshape([RANK, D_IN]);
    let b = |b: &Tensor<1>| b.clone().reshape([D_OUT, RANK]);
    check(
        |v| lora_linear(x(&v[0]), w(&v[0]), a(&v[0]), b(&v[1]), SCALE).flatten(0, 2),
        |v| plain_lora(x(&v[0]), w(&v[0]), a(&v[0]), b(&v[1])).flatten(0, 2),
        &[values(RANK * D_IN, 3), values(D_OUT * RANK, 4)],
        1e-1,
    );
}

#[test]
fn lora_linear_gives_its_weight_no_gradient() {
    let device = tracked();
    let w = constant([D_OUT, D_IN], 2, &device).require_grad();
    let a = constant([RANK, D_IN], 3, &device).require_grad();
    let (x, b) = (constant::<2>([SEQ, D_IN], 1, &device), constant([D_OUT, RANK], 4, &device));
    let grads = lora_linear(x, w.clone(), a.clone(), b, SCALE).sum().backward();
    assert!(w.grad(&grads).is_none(), "the base weight is frozen by definition");
    assert!(a.grad(&grads).is_some());
}
