//! Causal attention, forward and backward, of a SmolLM2 135M layer; one element is one FLOP.

use burn::tensor::{Device, Distribution, Int, Tensor};
use criterion::{Criterion, Throughput};
use rekindle_kernels as kernels;

const BATCH: usize = 4;
const SEQ: usize = 256;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    attention(&mut criterion);
    criterion.final_summary();
}

fn attention(criterion: &mut Criterion) {
    let plain = Device::flex();
    let segments = Tensor::<2, Int>::ones([BATCH, SEQ], &plain);
    // Half of the scores are masked: scores and weighted sum cost 2·seq·heads·head_dim a token.
    let forward = (BATCH * SEQ * 2 * SEQ * HEADS * HEAD_DIM) as u64;
    let rule = kernels::AttentionRule::scaled((HEAD_DIM as f64).powf(-0.5));

    let mut group = criterion.benchmark_group("attention");
    let [q, k, v] = operands(&plain);
    group.throughput(Throughput::Elements(forward));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| {
            let segments = segments.clone();
            let out = kernels::attention(q.clone(), k.clone(), v.clone(), segments, rule);
            plain.sync().expect("the processor computes while it is called");
            out
        });
    });

    let [q, k, v] = operands(&plain.clone().autodiff()).map(Tensor::require_grad);
    group.throughput(Throughput::Elements(3 * forward));
    group.bench_function("forward_backward", |bencher| {
        bencher.iter(|| {
            let segments = segments.clone();
            let out = kernels::attention(q.clone(), k.clone(), v.clone(), segments, rule);
            let grads = out.sum().backward();
            plain.sync().expect("the processor computes while it is called");
            grads
        });
    });
    group.finish();
}

/// Queries, keys and values, `[batch, seq, heads, head_dim]`.
fn operands(device: &Device) -> [Tensor<4>; 3] {
    [HEADS, KV_HEADS, KV_HEADS].map(|heads| {
        let shape = [BATCH, SEQ, heads, HEAD_DIM];
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    })
}
