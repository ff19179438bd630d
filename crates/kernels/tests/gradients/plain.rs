//! Every operation once more, in plain tensor operations that Burn differentiates itself.

use burn::tensor::activation::{log_softmax, silu, softmax};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_testkit::device;

/// Values in `±1` that depend on `seed` alone.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

pub fn ints<const D: usize>(values: &[i32], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device())
}

pub fn lora_linear(x: Tensor<2>, w: Tensor<2>, a: Tensor<2>, b: Tensor<2>, s: f64) -> Tensor<2> {
    x.clone().matmul(w.transpose()) + x.matmul(a.transpose()).matmul(b.transpose()).mul_scalar(s)
}

pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    let rms = x.clone().square().mean_dim(1).add_scalar(eps).sqrt();
    x / rms * gamma.unsqueeze()
}

pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

pub fn rope(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [batch, seq, heads, d] = x.dims();
    let half = d / 2;
    let low = x.clone().slice([0..batch, 0..seq, 0..heads, 0..half]);
    let high = x.clone().slice([0..batch, 0..seq, 0..heads, half..d]);
    let turned = Tensor::cat(vec![high.neg(), low], 3);
    let cos = Tensor::cat(vec![cos.clone(), cos], 3);
    let sin = Tensor::cat(vec![sin.clone(), sin], 3);
    x * cos + turned * sin
}

/// Whole scores, an explicit mask, keys repeated for their group.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    segments: &[Vec<i32>],
    scale: f64,
) -> Tensor<4> {
    let [batch, seq, heads, d] = q.dims();
    let [_, keys, kv_heads, _] = k.dims();
    let group = heads / kv_heads;
    let repeat = |x: Tensor<4>| {
        let x = x.reshape([batch, keys, kv_heads, 1, d]).repeat_dim(3, group);
        x.reshape([batch, keys, heads, d]).swap_dims(1, 2)
    };
    let mut mask = Vec::new();
    for row in segments {
        for i in keys - seq..keys {
            mask.extend((0..keys).map(|j| if j <= i && row[j] == row[i] { 0.0 } else { -1e9 }));
        }
    }
    let mask = Tensor::<1>::from_floats(mask.as_slice(), &device()).reshape([batch, 1, seq, keys]);
    let scores = q.swap_dims(1, 2).matmul(repeat(k).swap_dims(2, 3)).mul_scalar(scale) + mask;
    softmax(scores, 3).matmul(repeat(v)).swap_dims(1, 2)
}

pub fn token_logps(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let n = hidden.dims()[0];
    let logits = hidden.matmul(weight.transpose());
    log_softmax(logits, 1).gather(1, targets.reshape([n, 1])).reshape([n])
}
