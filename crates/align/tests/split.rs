//! Any split of a step into micro-batches gives the same gradient.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use proptest::prelude::*;
use rekindle_align::Sft;
use rekindle_data::{Padding, Sample, collate};
use rekindle_models::arch::{Family, Layer, RopeScaling, RopeSpec, Scales};
use rekindle_models::{Arch, Decoder};
use rekindle_peft_core::LoraConfig;
use rekindle_testkit::device;
use rekindle_train::Objective;

fn arch(initializer_range: f64) -> Arch {
    Arch {
        family: Family::Llama,
        hidden: 16,
        layers: vec![Layer::FULL; 2],
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        intermediate: 24,
        vocab: 32,
        norm_eps: 1e-5,
        rope: Some(RopeSpec { theta: 10_000.0, dims: 4, scaling: RopeScaling::None }),
        local_rope: None,
        tied_head: true,
        max_positions: 64,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        experts: None,
        scales: Scales::default(),
        initializer_range,
        bos: None,
        eos: vec![1],
        pad: Some(0),
    }
}

struct Collect<'a>(&'a GradientsParams, Vec<f32>);

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1.extend(grad.into_data().try_to_vec::<f32>().unwrap());
        }
    }
}

/// The gradient of a step whose rows are cut into micro-batches of these sizes.
fn gradient(model: &Decoder, rows: &[Sample], sizes: &[usize]) -> Vec<f32> {
    let units: usize = rows.iter().map(Sample::n_targets).sum();
    let mut grads = GradientsAccumulator::new();
    let mut start = 0;
    for &size in sizes {
        let micro: Vec<&Sample> = rows[start..start + size].iter().collect();
        start += size;
        let loss = Sft.loss(model, &collate(&micro, Padding { id: 0, multiple: 1 }, &device()));
        let mean = loss.total.div_scalar(units as f64);
        grads.accumulate(model, GradientsParams::from_grads(mean.backward(), model));
    }
    assert_eq!(start, rows.len());
    let grads = grads.grads();
    let mut collect = Collect(&grads, Vec::new());
    model.visit(&mut collect);
    collect.1
}

/// The largest difference allowed, given the largest element of the gradient.
type Bound = fn(f32) -> f32;

fn check(model: &Decoder, rows: &[Sample], bound: Bound) {
    let whole = gradient(model, rows, &[8]);
    let largest = whole.iter().fold(0.0f32, |max, g| max.max(g.abs()));
    assert!(largest > 1e-3, "the gradient is zero");
    for sizes in [&[4, 4][..], &[2; 4], &[1; 8], &[3, 1, 4], &[7, 1]] {
        let split = gradient(model, rows, sizes);
        assert_eq!(whole.len(), split.len());
        let worst = whole.iter().zip(&split).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= bound(largest), "{sizes:?}: {worst} of {largest}");
    }
}

fn rows() -> impl Strategy<Value = Vec<Sample>> {
    let row = (2usize..20).prop_flat_map(|len| {
        let tokens = prop::collection::vec(2u32..32, len);
        let target = prop::collection::vec(any::<bool>(), len);
        (tokens, target).prop_map(|(tokens, mut target)| {
            // At least one row's last token counts, so that the step has a unit.
            if let Some(last) = target.last_mut() {
                *last = true;
            }
            Sample { tokens, target, truncated: false }
        })
    });
    prop::collection::vec(row, 8)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_split_of_a_step_gives_the_same_gradient(rows in rows()) {
        // Absolute and relative at transformers' scale; at five times that, gradients above one
        // are held relatively alone.
        let scales: [(f64, Bound); 2] =
            [(0.02, |largest| 1e-6 * largest.min(1.0)), (0.1, |largest| 1e-6 * largest.max(1.0))];
        for (initializer_range, bound) in scales {
            let full = Decoder::random(&arch(initializer_range), 1, &device().autodiff());
            check(&full, &rows, bound);
            let lora = LoraConfig { r: 2, ..LoraConfig::default() };
            check(&full.with_lora(&lora, 1).unwrap(), &rows, bound);
        }
    }
}
