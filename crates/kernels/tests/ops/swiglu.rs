//! `swiglu`.

use burn::tensor::{Tensor, activation};
use rekindle_kernels::swiglu;
use rekindle_testkit::assert_close;

use crate::comparison::{assert_agrees, check, host, tracked, values};

fn plain<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gate.clone() * activation::sigmoid(gate) * up
}

#[test]
fn swiglu_is_a_gated_silu() {
    let shape = [2, 3, 4];
    check(
        |v| swiglu(v[0].clone().reshape(shape), v[1].clone().reshape(shape)).flatten(0, 2),
        |v| plain(v[0].clone(), v[1].clone()),
        &[values(24, 1).iter().map(|x| 3.0 * x).collect(), values(24, 2)],
        1e-2,
    );
}

#[test]
fn swiglu_agrees_over_more_elements_than_one_task_takes() {
    let n = (1 << 14) + 100;
    assert_agrees(
        |v| swiglu(v[0].clone(), v[1].clone()),
        |v| plain(v[0].clone(), v[1].clone()),
        &[values(n, 1).iter().map(|x| 8.0 * x).collect(), values(n, 2)],
        1e-6,
    );
}

#[test]
fn swiglu_agrees_on_a_transposed_gate_and_a_sliced_up() {
    let gate = |x: &Tensor<1>| x.clone().reshape([4, 3]).transpose();
    let up = |x: &Tensor<1>| x.clone().reshape([5, 4]).slice([1..4, 0..4]);
    check(
        |v| swiglu(gate(&v[0]), up(&v[1])).flatten(0, 1),
        |v| plain(gate(&v[0]), up(&v[1])).flatten(0, 1),
        &[values(12, 1), values(20, 2)],
        1e-2,
    );
}

#[test]
fn swiglu_saturates_without_nan() {
    let device = tracked();
    let gate = Tensor::<1>::from_floats([-1e4, -100.0, 100.0, 1e4], &device).require_grad();
    let up = Tensor::<1>::from_floats([2.0; 4], &device).require_grad();
    let y = swiglu(gate.clone(), up.clone());
    assert_close(&host(y.clone()), &[0.0, 0.0, 200.0, 2e4], 1e-6, 1e-20);
    let grads = y.sum().backward();
    let of = |x: &Tensor<1>| host(x.grad(&grads).expect("a leaf"));
    assert_close(&of(&gate), &[0.0, 0.0, 2.0, 2.0], 1e-6, 1e-20);
    assert_close(&of(&up), &[0.0, 0.0, 100.0, 1e4], 1e-6, 1e-20);
}
