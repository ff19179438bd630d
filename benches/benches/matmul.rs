//! The matrix products of a SmolLM2 135M step over 1024 tokens; one element is one FLOP.

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use rekindle_kernels as kernels;

const TOKENS: usize = 1024;

/// Names of linear maps and `[d_out, d_in]`.
const SHAPES: [(&str, [usize; 2]); 5] = [
    ("q_proj", [576, 576]),
    ("k_proj", [192, 576]),
    ("up_proj", [1536, 576]),
    ("down_proj", [576, 1536]),
    ("lm_head", [49152, 576]),
];

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    products(&mut criterion);
    criterion.final_summary();
}

/// `x · Wᵀ`, the forward product, and `x · W`, the product of the input's gradient.
fn products(criterion: &mut Criterion) {
    let device = Device::flex();
    for (name, [d_out, d_in]) in SHAPES {
        let mut group = criterion.benchmark_group("matmul");
        group.throughput(Throughput::Elements((2 * TOKENS * d_out * d_in) as u64));
        let weight = random([d_out, d_in], &device);
        let input = random([TOKENS, d_in], &device);
        group.bench_function(BenchmarkId::new("x_wt", name), |bencher| {
            bencher.iter(|| finished(kernels::linear(input.clone(), weight.clone()), &device));
        });
        let grad = random([TOKENS, d_out], &device);
        group.bench_function(BenchmarkId::new("x_w", name), |bencher| {
            bencher.iter(|| finished(grad.clone().matmul(weight.clone()), &device));
        });
        group.finish();
    }
}

fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// The tensor, once the device has computed it.
fn finished(tensor: Tensor<2>, device: &Device) -> Tensor<2> {
    device.sync().expect("the processor computes while it is called");
    tensor
}
