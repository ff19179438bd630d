//! Whole training steps of a small model: forward, backward, clipping, AdamW; one element is one
//! token.

use std::time::Instant;

use burn::tensor::Device;
use criterion::{Criterion, Throughput};
use rekindle_benches::{Method, Shape, Workload};
use rekindle_peft_core::LoraConfig;

const BATCH: usize = 4;
const SEQ: usize = 128;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    steps(&mut criterion);
    criterion.final_summary();
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements((BATCH * SEQ) as u64));
    for (name, method) in [("lora", Method::Lora), ("full", Method::Full)] {
        let (arch, lora) = (Shape::Small.arch(), LoraConfig::default());
        let made = Workload::new(&arch, method, &lora, [BATCH, SEQ], &Device::flex());
        // The loop takes the workload and gives it back; it is `None` only in between.
        let mut workload = Some(made.expect("the small shape and the default adapter fit"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|steps| {
                let taken = workload.take().expect("given back by the last call");
                let started = Instant::now();
                let (after, _) = taken.run(steps).expect("a step on finite random weights");
                let elapsed = started.elapsed();
                workload = Some(after);
                elapsed
            });
        });
    }
    group.finish();
}
