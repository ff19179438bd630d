//! Hand-written gradients against central finite differences.

use burn::tensor::Tensor;
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_testkit::{device, gradcheck};

use crate::plain::{ints, values};

/// A sum with different weights, so that no gradient hides in a symmetry.
fn weighted<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let n = y.dims().iter().product();
    let weights = Tensor::<1>::from_floats(values(42, n).as_slice(), &y.device());
    (y.reshape([n]) * weights).sum()
}

#[test]
fn linear_maps() {
    let (x, w, a, b) = (values(1, 3 * 5), values(2, 4 * 5), values(3, 2 * 5), values(4, 4 * 2));
    gradcheck(
        |t| weighted(kernels::linear(t[0].clone().reshape([3, 5]), t[1].clone().reshape([4, 5]))),
        &[x.clone(), w.clone()],
        1e-2,
        1e-3,
    );
    let weight = || Tensor::<1>::from_floats(w.as_slice(), &device()).reshape([4, 5]);
    gradcheck(
        |t| {
            let x = t[0].clone().reshape([3, 5]);
            let (a, b) = (t[1].clone().reshape([2, 5]), t[2].clone().reshape([4, 2]));
            weighted(kernels::lora_linear(x, weight(), a, b, 1.5))
        },
        &[x, a, b],
        1e-2,
        1e-3,
    );
}

#[test]
fn rowwise_operations() {
    gradcheck(
        |t| weighted(kernels::rms_norm(t[0].clone().reshape([3, 6]), t[1].clone(), 1e-5)),
        &[values(1, 18), values(2, 6)],
        1e-2,
        2e-3,
    );
    gradcheck(
        |t| weighted(kernels::swiglu(t[0].clone(), t[1].clone())),
        &[values(1, 9), values(2, 9)],
        1e-2,
        1e-3,
    );
    let table = RopeTable::new(&[vec![0, 1, 5]], &[1.0, 0.2], &device());
    gradcheck(
        |t| weighted(kernels::rope(t[0].clone().reshape([1, 3, 2, 4]), &table)),
        &[values(1, 24)],
        1e-2,
        1e-3,
    );
}

#[test]
fn attention_with_groups_and_two_segments() {
    let segments = ints(&[1, 1, 1, 2, 2], [1, 5]);
    gradcheck(
        |t| {
            let q = t[0].clone().reshape([1, 5, 4, 2]);
            let k = t[1].clone().reshape([1, 5, 2, 2]);
            let v = t[2].clone().reshape([1, 5, 2, 2]);
            weighted(kernels::attention(q, k, v, segments.clone(), 0.7))
        },
        &[values(1, 40), values(2, 20), values(3, 20)],
        1e-2,
        2e-3,
    );
}

#[test]
fn losses() {
    let targets = || ints(&[2, 0, 5, 1], [4]);
    let mask = Tensor::<1>::from_floats([1.0, 0.0, 1.0, 1.0], &device());
    let inputs = [values(1, 4 * 3), values(2, 6 * 3)];
    gradcheck(
        |t| {
            let (h, w) = (t[0].clone().reshape([4, 3]), t[1].clone().reshape([6, 3]));
            kernels::linear_cross_entropy(h, w, targets(), mask.clone())
        },
        &inputs,
        1e-2,
        1e-3,
    );
    gradcheck(
        |t| {
            let (h, w) = (t[0].clone().reshape([4, 3]), t[1].clone().reshape([6, 3]));
            weighted(kernels::token_logps(h, w, targets()))
        },
        &inputs,
        1e-2,
        1e-3,
    );
}
