//! `rms_norm`.

use burn::tensor::Tensor;
use rekindle_kernels::rms_norm;

use crate::comparison::{assert_agrees, check, constant, host, tracked, values};

const EPS: f64 = 1e-5;

fn plain<const D: usize>(x: Tensor<D>, gamma: Tensor<1>) -> Tensor<D> {
    let rms = (x.clone() * x.clone()).mean_dim(D - 1).add_scalar(EPS).sqrt();
    x / rms * gamma.unsqueeze()
}

#[test]
fn rms_norm_divides_by_the_root_mean_square() {
    let x = |x: &Tensor<1>| x.clone().reshape([2, 3, 5]);
    check(
        |v| rms_norm(x(&v[0]), v[1].clone(), EPS).flatten(0, 2),
        |v| plain(x(&v[0]), v[1].clone()).flatten(0, 2),
        &[values(30, 1), values(5, 2)],
        1e-2,
    );
}

#[test]
fn rms_norm_agrees_over_more_rows_than_one_task_takes() {
    let x = |x: &Tensor<1>| x.clone().reshape([77, 19]);
    assert_agrees(
        |v| rms_norm(x(&v[0]), v[1].clone(), EPS).flatten(0, 1),
        |v| plain(x(&v[0]), v[1].clone()).flatten(0, 1),
        &[values(77 * 19, 1), values(19, 2)],
        1e-5,
    );
}

#[test]
fn rms_norm_agrees_with_a_frozen_gain_and_a_transposed_input() {
    let x = |x: &Tensor<1>| x.clone().reshape([5, 6]).transpose();
    let gamma = |x: &Tensor<1>| constant([5], 2, &x.device());
    check(
        |v| rms_norm(x(&v[0]), gamma(&v[0]), EPS).flatten(0, 1),
        |v| plain(x(&v[0]), gamma(&v[0])).flatten(0, 1),
        &[values(30, 1)],
        1e-2,
    );
}

#[test]
fn rms_norm_ignores_the_scale_of_its_input() {
    let device = tracked();
    let (x, gamma) = (constant::<2>([4, 8], 1, &device), constant([8], 2, &device));
    let scaled = rms_norm(x.clone() * 1e3, gamma.clone(), 0.0);
    rekindle_testkit::assert_close(&host(scaled), &host(rms_norm(x, gamma, 0.0)), 1e-5, 1e-7);
}

#[test]
fn rms_norm_of_a_zero_row_is_zero_with_a_finite_gradient() {
    let device = tracked();
    let x = Tensor::<2>::zeros([1, 4], &device).require_grad();
    let gamma = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device);
    let y = rms_norm(x.clone(), gamma, EPS);
    assert_eq!(host(y.clone()), [0.0; 4]);
    let gradient = host(x.grad(&y.sum().backward()).expect("x is a leaf"));
    let expected = [1.0, 2.0, 3.0, 4.0].map(|gamma| gamma / (EPS as f32).sqrt());
    rekindle_testkit::assert_close(&gradient, &expected, 1e-5, 0.0);
}
