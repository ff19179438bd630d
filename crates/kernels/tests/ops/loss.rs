//! `linear_cross_entropy` and `token_logps`.

use burn::tensor::{Tensor, activation};
use rekindle_kernels::{CrossEntropy, linear_cross_entropy, token_logps};
use rekindle_testkit::{Golden, assert_close, device};

use crate::comparison::{assert_agrees, check, constant, host, ints, tracked, values};

const N: usize = 6;
const WIDTH: usize = 3;
const VOCAB: usize = 7;
const TARGETS: [i64; N] = [0, 6, 3, 3, 1, 5];
/// Holes, and weights other than one.
const MASK: [f32; N] = [1.0, 0.0, 1.0, 0.5, 0.0, 2.0];

fn hidden(x: &Tensor<1>) -> Tensor<2> {
    x.clone().reshape([N, WIDTH])
}

fn weight(w: &Tensor<1>) -> Tensor<2> {
    w.clone().reshape([VOCAB, WIDTH])
}

fn frozen(x: &Tensor<1>) -> Tensor<2> {
    constant([VOCAB, WIDTH], 2, &x.device())
}

fn mask(x: &Tensor<1>) -> Tensor<1> {
    Tensor::from_floats(MASK, &x.device())
}

fn plain_logps(hidden: Tensor<2>, weight: Tensor<2>, targets: &[i64]) -> Tensor<1> {
    let n = targets.len();
    let logps = activation::log_softmax(hidden.matmul(weight.transpose()), 1);
    let targets = ints(targets, [n, 1], &logps.device());
    logps.gather(1, targets).reshape([n])
}

fn plain_loss(hidden: Tensor<2>, weight: Tensor<2>, mask: Tensor<1>) -> Tensor<1> {
    (plain_logps(hidden, weight, &TARGETS) * mask).sum().neg()
}

fn fused_loss(hidden: Tensor<2>, weight: Tensor<2>, mask: Tensor<1>) -> Tensor<1> {
    let targets = ints(&TARGETS, [N], &hidden.device());
    linear_cross_entropy(hidden, weight, targets, mask, CrossEntropy::default())
}

fn fused_logps(hidden: Tensor<2>, weight: Tensor<2>) -> Tensor<1> {
    let targets = ints(&TARGETS, [N], &hidden.device());
    token_logps(hidden, weight, targets, None)
}

#[test]
fn the_loss_with_a_trained_head_is_masked_cross_entropy() {
    check(
        |v| fused_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])),
        |v| plain_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])),
        &[values(N * WIDTH, 1), values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

#[test]
fn the_loss_with_a_frozen_head_is_masked_cross_entropy() {
    check(
        |v| fused_loss(hidden(&v[0]), frozen(&v[0]), mask(&v[0])),
        |v| plain_loss(hidden(&v[0]), frozen(&v[0]), mask(&v[0])),
        &[values(N * WIDTH, 1)],
        2e-2,
    );
}

#[test]
fn the_loss_of_untracked_states_still_trains_the_head() {
    let states = |w: &Tensor<1>| constant([N, WIDTH], 1, &w.device());
    check(
        |v| fused_loss(states(&v[0]), weight(&v[0]), mask(&v[0])),
        |v| plain_loss(states(&v[0]), weight(&v[0]), mask(&v[0])),
        &[values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

#[test]
fn the_loss_agrees_on_transposed_states_and_head() {
    let hidden = |x: &Tensor<1>| x.clone().reshape([WIDTH, N]).transpose();
    let weight = |w: &Tensor<1>| w.clone().reshape([WIDTH, VOCAB]).transpose();
    check(
        |v| fused_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])),
        |v| plain_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])),
        &[values(N * WIDTH, 1), values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

#[test]
fn the_losss_gradient_follows_what_is_done_with_the_loss() {
    check(
        |v| fused_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])).div_scalar(3.5).exp() * 0.1,
        |v| plain_loss(hidden(&v[0]), weight(&v[1]), mask(&v[0])).div_scalar(3.5).exp() * 0.1,
        &[values(N * WIDTH, 1), values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

#[test]
fn token_logps_with_a_trained_head_are_log_softmax() {
    check(
        |v| fused_logps(hidden(&v[0]), weight(&v[1])),
        |v| plain_logps(hidden(&v[0]), weight(&v[1]), &TARGETS),
        &[values(N * WIDTH, 1), values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

#[test]
fn token_logps_with_a_frozen_head_are_log_softmax() {
    check(
        |v| fused_logps(hidden(&v[0]), frozen(&v[0])),
        |v| plain_logps(hidden(&v[0]), frozen(&v[0]), &TARGETS),
        &[values(N * WIDTH, 1)],
        2e-2,
    );
}

const SOFTCAP: f64 = 0.8;

fn plain_capped(v: &[Tensor<1>]) -> Tensor<1> {
    let logits = hidden(&v[0]).matmul(weight(&v[1]).transpose());
    let logps = activation::log_softmax((logits / SOFTCAP).tanh() * SOFTCAP, 1);
    logps.gather(1, ints(&TARGETS, [N, 1], &v[0].device())).reshape([N])
}

#[test]
fn capped_logits_are_capped_in_loss_and_logps() {
    let ids = |x: &Tensor<1>| ints(&TARGETS, [N], &x.device());
    let inputs = [values(N * WIDTH, 1), values(VOCAB * WIDTH, 2)];
    check(
        |v| {
            let (hidden, weight) = (hidden(&v[0]), weight(&v[1]));
            let rule = CrossEntropy { softcap: Some(SOFTCAP), ..CrossEntropy::default() };
            linear_cross_entropy(hidden, weight, ids(&v[0]), mask(&v[0]), rule)
        },
        |v| (plain_capped(v) * mask(&v[0])).sum().neg(),
        &inputs,
        1e-2,
    );
    check(
        |v| token_logps(hidden(&v[0]), weight(&v[1]), ids(&v[0]), Some(SOFTCAP)),
        plain_capped,
        &inputs,
        1e-2,
    );
}

/// Smoothed labels and the square of the normaliser, with and without a cap, head trained or not.
#[test]
fn smoothed_and_squared_losses_and_their_gradients_equal_pytorch() {
    let golden = Golden::open("kernels/cross_entropy.safetensors");
    let cap = Some(f64::from(golden.floats("softcap")[0]));
    for (case, softcap, label_smoothing, z_loss) in [
        ("smooth", None, 0.1, 0.0),
        ("z", None, 0.0, 0.05),
        ("both", None, 0.2, 0.02),
        ("capped", cap, 0.2, 0.02),
    ] {
        let device = tracked();
        let rule = CrossEntropy { softcap, label_smoothing, z_loss };
        for train_head in [true, false] {
            let hidden = golden.tensor::<2>("hidden", &device).require_grad();
            let weight = golden.tensor::<2>("weight", &device);
            let weight = if train_head { weight.require_grad() } else { weight };
            let targets = ints(&golden.ints("targets"), [golden.shape("targets")[0]], &device);
            let mask = golden.tensor::<1>("mask", &device);
            let loss = linear_cross_entropy(hidden.clone(), weight.clone(), targets, mask, rule);
            let wanted = |name: &str| golden.floats(&format!("{case}.{name}"));
            assert_close(&host(loss.clone()), &wanted("loss"), 1e-5, 0.0);
            let grads = loss.backward();
            let grad = |x: &Tensor<2>| x.grad(&grads).map(host);
            assert_close(&grad(&hidden).expect("a leaf"), &wanted("hidden"), 1e-5, 1e-6);
            match grad(&weight) {
                Some(grad) => assert_close(&grad, &wanted("weight"), 1e-5, 1e-6),
                None => assert!(!train_head),
            }
        }
    }
}

#[test]
fn token_logps_of_untracked_states_still_train_the_head() {
    let states = |w: &Tensor<1>| constant([N, WIDTH], 1, &w.device());
    check(
        |v| fused_logps(states(&v[0]), weight(&v[0])),
        |v| plain_logps(states(&v[0]), weight(&v[0]), &TARGETS),
        &[values(VOCAB * WIDTH, 2)],
        2e-2,
    );
}

/// Ten rows of 2²⁰ logits: two chunks of at most 2²³.
#[test]
fn loss_and_logps_agree_across_chunks_of_logits() {
    let (n, vocab, width) = (10, 1 << 20, 2);
    let targets: Vec<i64> = (0..n).map(|row| row * 104_729 + 1).collect();
    let n = n as usize;
    let shaped =
        |v: &[Tensor<1>]| (v[0].clone().reshape([n, width]), v[1].clone().reshape([vocab, width]));
    let mask = |x: &Tensor<1>| Tensor::ones([n], &x.device());
    let inputs = [values(n * width, 1), values(vocab * width, 2)];
    let plain = |v: &[Tensor<1>]| plain_logps(shaped(v).0, shaped(v).1, &targets);
    let ids = |x: &Tensor<1>| ints(&targets, [n], &x.device());
    let logps = |v: &[Tensor<1>]| token_logps(shaped(v).0, shaped(v).1, ids(&v[0]), None);
    assert_agrees(logps, plain, &inputs, 1e-7);
    let loss = |v: &[Tensor<1>]| {
        linear_cross_entropy(
            shaped(v).0,
            shaped(v).1,
            ids(&v[0]),
            mask(&v[0]),
            CrossEntropy::default(),
        )
    };
    assert_agrees(loss, |v| plain(v).sum().neg(), &inputs, 1e-7);
}

#[test]
fn a_loss_without_a_counted_token_is_zero_with_zero_gradients() {
    let device = tracked();
    let hidden = constant([N, WIDTH], 1, &device).require_grad();
    let weight = constant([VOCAB, WIDTH], 2, &device).require_grad();
    let loss = fused_loss(hidden.clone(), weight.clone(), Tensor::zeros([N], &device));
    assert_eq!(host(loss.clone()), [0.0]);
    let grads = loss.backward();
    let of = |x: &Tensor<2>| host(x.grad(&grads).expect("a leaf"));
    assert!(of(&hidden).iter().chain(&of(&weight)).all(|&x| x == 0.0));
}

#[test]
fn a_masked_token_has_no_influence() {
    let device = device();
    let hidden = constant::<2>([N, WIDTH], 1, &device);
    let weight = constant::<2>([VOCAB, WIDTH], 2, &device);
    let loss = |hidden: Tensor<2>, second: i64| {
        let mut targets = TARGETS;
        targets[1] = second;
        let mask = Tensor::from_floats(MASK, &device);
        let targets = ints(&targets, [N], &device);
        host(linear_cross_entropy(hidden, weight.clone(), targets, mask, CrossEntropy::default()))
    };
    let other = hidden.clone().slice_assign([1..2, 0..WIDTH], Tensor::ones([1, WIDTH], &device));
    assert_eq!(loss(hidden, 6), loss(other, 0));
}

#[test]
fn the_loss_is_finite_for_logits_far_beyond_the_range_of_exp() {
    let device = device();
    let hidden = Tensor::<2>::from_floats([[300.0, 0.0], [-300.0, 0.0]], &device);
    let weight = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], &device);
    let targets = ints(&[1, 1], [2], &device);
    let mask = Tensor::ones([2], &device);
    let logps = host(token_logps(hidden.clone(), weight.clone(), targets.clone(), None));
    assert_close(&logps, &[-600.0, 0.0], 1e-6, 1e-6);
    let loss = host(linear_cross_entropy(hidden, weight, targets, mask, CrossEntropy::default()));
    assert_close(&loss, &[600.0], 1e-6, 0.0);
}
