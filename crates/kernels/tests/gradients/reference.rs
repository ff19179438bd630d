//! Values and gradients of every operation against plain tensor operations under Burn's autodiff.

use burn::tensor::Tensor;
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_testkit::{assert_close, device};

use crate::plain::{self, ints, values};

type Inputs<'a> = &'a [Tensor<1>];

/// Both functions on the same inputs: equal results, and equal gradients of a weighted sum.
fn check<const D: usize>(
    shapes: &[usize],
    ours: impl Fn(Inputs<'_>) -> Tensor<D>,
    plain: impl Fn(Inputs<'_>) -> Tensor<D>,
) {
    let tracked = device().autodiff();
    let run = |f: &dyn Fn(Inputs<'_>) -> Tensor<D>| {
        let inputs: Vec<Tensor<1>> = shapes
            .iter()
            .enumerate()
            .map(|(i, &n)| values(i as u64 + 1, n))
            .map(|v| Tensor::from_floats(v.as_slice(), &tracked).require_grad())
            .collect();
        let y = f(&inputs);
        let n = y.dims().iter().product();
        let weights = Tensor::<1>::from_floats(values(99, n).as_slice(), &tracked);
        let grads = (y.clone().reshape([n]) * weights).sum().backward();
        let grads: Vec<Vec<f32>> = inputs
            .iter()
            .map(|x| x.grad(&grads).expect("a gradient").into_data().try_to_vec().unwrap())
            .collect();
        (y.into_data().try_to_vec::<f32>().unwrap(), grads)
    };
    let ((y, grads), (wanted, wanted_grads)) = (run(&ours), run(&plain));
    assert_close(&y, &wanted, 1e-5, 1e-5);
    for (grad, wanted) in grads.iter().zip(&wanted_grads) {
        let largest = wanted.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        assert_close(grad, wanted, 1e-5, 1e-5 * f64::from(largest.max(1.0)));
    }
}

#[test]
fn linear_with_a_trained_weight() {
    let (n, k, m) = (33, 20, 17);
    check(
        &[n * k, m * k],
        |x| kernels::linear(x[0].clone().reshape([3, 11, k]), x[1].clone().reshape([m, k])),
        |x| {
            let y = x[0].clone().reshape([n, k]).matmul(x[1].clone().reshape([m, k]).transpose());
            y.reshape([3, 11, m])
        },
    );
}

#[test]
fn linear_gives_a_weight_made_from_trained_tensors_its_gradient() {
    let (n, k, m) = (5, 6, 7);
    check(
        &[n * k, m * k],
        |x| kernels::linear(x[0].clone().reshape([n, k]), x[1].clone().exp().reshape([m, k])),
        |x| {
            let w = x[1].clone().exp().reshape([m, k]);
            x[0].clone().reshape([n, k]).matmul(w.transpose())
        },
    );
}

#[test]
fn lora_linear_adds_the_low_rank_update() {
    let (n, k, m, r) = (40, 24, 30, 4);
    let weight = || Tensor::<1>::from_floats(values(7, m * k).as_slice(), &device());
    let parts = |x: Inputs<'_>| {
        let (x, a, b) = (x[0].clone(), x[1].clone(), x[2].clone());
        (x.reshape([n, k]), a.reshape([r, k]), b.reshape([m, r]))
    };
    check(
        &[n * k, r * k, m * r],
        |x| {
            let (x, a, b) = parts(x);
            kernels::lora_linear(x, weight().reshape([m, k]), a, b, 2.0)
        },
        |x| {
            let (x, a, b) = parts(x);
            plain::lora_linear(x, weight().reshape([m, k]), a, b, 2.0)
        },
    );
}

#[test]
fn rms_norm_over_many_rows() {
    let (n, h) = (70, 48);
    check(
        &[n * h, h],
        |x| kernels::rms_norm(x[0].clone().reshape([n, h]), x[1].clone(), 1e-5),
        |x| plain::rms_norm(x[0].clone().reshape([n, h]), x[1].clone(), 1e-5),
    );
}

#[test]
fn swiglu_gates() {
    let shape = [37, 29];
    check(
        &[37 * 29, 37 * 29],
        |x| kernels::swiglu(x[0].clone().reshape(shape), x[1].clone().reshape(shape)),
        |x| plain::swiglu(x[0].clone().reshape(shape), x[1].clone().reshape(shape)),
    );
}

#[test]
fn rope_turns_every_row_by_its_own_positions() {
    let (seq, heads, d) = (40, 3, 8);
    let frequencies = [1.0, 0.3, 0.1, 0.03];
    for positions in [
        vec![(0..seq as u32).collect::<Vec<_>>()],
        vec![(0..seq as u32).collect(), (5..5 + seq as u32).collect()],
    ] {
        let table = RopeTable::new(&positions, &frequencies, &device());
        let shape = [2, seq, heads, d];
        check(
            &[2 * seq * heads * d],
            |x| kernels::rope(x[0].clone().reshape(shape), &table),
            |x| plain::rope(x[0].clone().reshape(shape), table.cos.clone(), table.sin.clone()),
        );
    }
}

/// `segments` has one row for each sequence; its length is the number of keys.
fn check_attention(segments: &[Vec<i32>], seq: usize, heads: usize, kv_heads: usize) {
    let (batch, keys, d) = (segments.len(), segments[0].len(), 8);
    let flat = ints(&segments.concat(), [batch, keys]);
    let parts = |x: Inputs<'_>| {
        let keys = [batch, keys, kv_heads, d];
        let q = x[0].clone().reshape([batch, seq, heads, d]);
        (q, x[1].clone().reshape(keys), x[2].clone().reshape(keys))
    };
    check(
        &[batch * seq * heads * d, batch * keys * kv_heads * d, batch * keys * kv_heads * d],
        |x| {
            let (q, k, v) = parts(x);
            kernels::attention(q, k, v, flat.clone(), 0.4)
        },
        |x| {
            let (q, k, v) = parts(x);
            plain::attention(q, k, v, segments, 0.4)
        },
    );
}

#[test]
fn attention_over_chunks_groups_and_segments() {
    let packed = |first: usize, second: usize, padding: usize| {
        [vec![1; first], vec![2; second], vec![0; padding]].concat()
    };
    check_attention(&[packed(7, 0, 0)], 7, 4, 4);
    check_attention(&[packed(90, 60, 20), packed(170, 0, 0)], 170, 6, 2);
    check_attention(&[packed(20, 0, 0), packed(20, 0, 0)], 5, 3, 1);
}

#[test]
fn linear_cross_entropy_with_holes_in_the_mask() {
    let (n, h, v) = (21, 12, 40);
    let targets: Vec<i32> = (0..n as i32).map(|i| (i * 7) % v as i32).collect();
    let mask: Vec<f32> = (0..n).map(|i| [1.0, 0.0, 0.5][i % 3]).collect();
    let mask = || Tensor::<1>::from_floats(mask.as_slice(), &device());
    check(
        &[n * h, v * h],
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            kernels::linear_cross_entropy(hidden, weight, ints(&targets, [n]), mask())
        },
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            (plain::token_logps(hidden, weight, ints(&targets, [n])) * mask()).sum().neg()
        },
    );
}

#[test]
fn token_logps_of_every_token() {
    let (n, h, v) = (19, 12, 40);
    let targets: Vec<i32> = (0..n as i32).map(|i| (i * 11) % v as i32).collect();
    check(
        &[n * h, v * h],
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            kernels::token_logps(hidden, weight, ints(&targets, [n]))
        },
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            plain::token_logps(hidden, weight, ints(&targets, [n]))
        },
    );
}

#[test]
fn a_large_vocabulary_is_cut_into_chunks() {
    // 2²³ logits at a time are 209 rows of this vocabulary.
    let (n, h, v) = (300, 4, 40_000);
    let targets: Vec<i32> = (0..n as i32).map(|i| (i * 131) % v as i32).collect();
    let mask = || Tensor::<1>::ones([n], &device());
    check(
        &[n * h, v * h],
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            kernels::linear_cross_entropy(hidden, weight, ints(&targets, [n]), mask())
                .div_scalar(n as f32)
        },
        |x| {
            let (hidden, weight) = (x[0].clone().reshape([n, h]), x[1].clone().reshape([v, h]));
            let logps = plain::token_logps(hidden, weight, ints(&targets, [n]));
            (logps * mask()).sum().neg().div_scalar(n as f32)
        },
    );
}
