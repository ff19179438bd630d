//! Inputs, and the comparison of an operation with its plain form.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_testkit::{assert_close, device, gradcheck};

/// `n` fixed values spread over `[−1, 1)`; other seeds give other values.
pub fn values(n: usize, seed: u64) -> Vec<f32> {
    // SplitMix64.
    let mut state = seed.wrapping_mul(0xa076_1d64_78bd_642f);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A constant tensor of [`values`].
pub fn constant<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let values = values(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A tensor of the given integers.
pub fn ints<const D: usize>(values: &[i64], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// The elements, row by row.
pub fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().convert::<f32>().try_to_vec().expect("just converted to f32")
}

/// The device of the tests, tracked.
pub fn tracked() -> Device {
    device().autodiff()
}

/// One number that depends on every element of `y`, on each with another weight.
fn weighted(y: Tensor<1>) -> Tensor<1> {
    let weights = constant(y.dims(), 99, &y.device());
    (y * weights).sum()
}

/// The result of `f` on tracked leaves, and the gradient of [`weighted`] to each of them.
fn run(f: impl Fn(&[Tensor<1>]) -> Tensor<1>, inputs: &[Vec<f32>]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = tracked();
    let leaf = |input: &Vec<f32>| Tensor::from_floats(input.as_slice(), &device).require_grad();
    let leaves: Vec<Tensor<1>> = inputs.iter().map(leaf).collect();
    let y = f(&leaves);
    let grads = weighted(y.clone()).backward();
    let gradient = |leaf: &Tensor<1>| host(leaf.grad(&grads).expect("every input is used"));
    (host(y), leaves.iter().map(gradient).collect())
}

/// Asserts that `op` and `plain` agree in their values to 1e-5 and in all gradients to a relative
/// 1e-4; below `atol` a gradient counts as zero.
#[track_caller]
pub fn assert_agrees(
    op: impl Fn(&[Tensor<1>]) -> Tensor<1>,
    plain: impl Fn(&[Tensor<1>]) -> Tensor<1>,
    inputs: &[Vec<f32>],
    atol: f64,
) {
    let ((actual, actual_grads), (expected, expected_grads)) =
        (run(op, inputs), run(plain, inputs));
    assert_close(&actual, &expected, 1e-5, 1e-5);
    for (actual, expected) in actual_grads.iter().zip(&expected_grads) {
        assert_close(actual, expected, 1e-4, atol);
    }
}

/// [`assert_agrees`], and the gradients of `op` agree with central differences of step `eps`.
#[track_caller]
pub fn check(
    op: impl Fn(&[Tensor<1>]) -> Tensor<1>,
    plain: impl Fn(&[Tensor<1>]) -> Tensor<1>,
    inputs: &[Vec<f32>],
    eps: f32,
) {
    assert_agrees(&op, plain, inputs, 1e-6);
    gradcheck(|x| weighted(op(x)), inputs, eps, 1e-4);
}
