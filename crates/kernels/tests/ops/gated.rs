//! `gated` and `activate`.

use burn::tensor::{Tensor, activation};
use rekindle_kernels::{Activation, activate, gated};
use rekindle_testkit::assert_close;

use crate::comparison::{assert_agrees, check, host, tracked, values};

const ALL: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

fn plain<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Silu => gate.clone() * activation::sigmoid(gate) * up,
        Activation::GeluTanh => {
            let inner = gate.clone() + gate.clone().powi_scalar(3) * 0.044715;
            gate * ((inner * (2.0 / std::f64::consts::PI).sqrt()).tanh() + 1.0) * 0.5 * up
        }
    }
}

#[test]
fn a_gate_is_bent_and_multiplied() {
    let shape = [2, 3, 4];
    let shaped = |x: &Tensor<1>| x.clone().reshape(shape);
    for f in ALL {
        check(
            |v| gated(shaped(&v[0]), shaped(&v[1]), f).flatten(0, 2),
            |v| plain(v[0].clone(), v[1].clone(), f),
            &[values(24, 1).iter().map(|x| 3.0 * x).collect(), values(24, 2)],
            1e-2,
        );
    }
}

#[test]
fn without_a_gate_the_activation_stands_alone() {
    for f in ALL {
        check(
            |v| activate(v[0].clone(), f),
            |v| plain(v[0].clone(), v[0].ones_like(), f),
            &[values(24, 1).iter().map(|x| 3.0 * x).collect()],
            1e-2,
        );
    }
}

#[test]
fn gates_agree_over_more_elements_than_one_task_takes() {
    let n = (1 << 14) + 100;
    for f in ALL {
        assert_agrees(
            |v| gated(v[0].clone(), v[1].clone(), f),
            |v| plain(v[0].clone(), v[1].clone(), f),
            &[values(n, 1).iter().map(|x| 8.0 * x).collect(), values(n, 2)],
            2e-6,
        );
    }
}

#[test]
fn gates_agree_on_a_transposed_gate_and_a_sliced_up() {
    let gate = |x: &Tensor<1>| x.clone().reshape([4, 3]).transpose();
    let up = |x: &Tensor<1>| x.clone().reshape([5, 4]).slice([1..4, 0..4]);
    for f in ALL {
        check(
            |v| gated(gate(&v[0]), up(&v[1]), f).flatten(0, 1),
            |v| plain(gate(&v[0]), up(&v[1]), f).flatten(0, 1),
            &[values(12, 1), values(20, 2)],
            1e-2,
        );
    }
}

#[test]
fn gates_saturate_without_nan() {
    for f in ALL {
        let device = tracked();
        let gate = Tensor::<1>::from_floats([-1e4, -100.0, 100.0, 1e4], &device).require_grad();
        let up = Tensor::<1>::from_floats([2.0; 4], &device).require_grad();
        let y = gated(gate.clone(), up.clone(), f);
        assert_close(&host(y.clone()), &[0.0, 0.0, 200.0, 2e4], 1e-6, 1e-20);
        let grads = y.sum().backward();
        let of = |x: &Tensor<1>| host(x.grad(&grads).expect("a leaf"));
        assert_close(&of(&gate), &[0.0, 0.0, 2.0, 2.0], 1e-6, 1e-20);
        assert_close(&of(&up), &[0.0, 0.0, 100.0, 1e4], 1e-6, 1e-20);
    }
}
