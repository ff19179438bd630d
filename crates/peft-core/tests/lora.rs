//! Laws of the LoRA adapter.

use burn::module::{Module, Param};
use burn::tensor::{Distribution, Tensor};
use rekindle_peft_core::{Adapter, AdapterMath, Lora, LoraConfig, LoraInit, PeftError, Projection};
use rekindle_quant::BaseWeight;
use rekindle_testkit::{assert_close, device, gradcheck};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &device())
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

#[test]
fn adapted_equals_merged() {
    for use_rslora in [false, true] {
        let config = LoraConfig { r: 4, lora_alpha: 6.0, use_rslora, ..LoraConfig::default() };
        let lora = Lora::new(random([4, 12]), random([10, 4]), config.scale(), 0.0);
        let bias = Some(Param::from_tensor(random([10])));
        let projection = Projection::new(BaseWeight::frozen(random([10, 12])), bias.clone());
        let adapted = projection.attach(Adapter::Lora(lora));
        let merged = Projection::new(BaseWeight::frozen(adapted.merged()), bias);
        let x = random([2, 5, 12]);
        assert_close(&host(adapted.forward(x.clone())), &host(merged.forward(x)), 1e-5, 1e-5);
    }
}

#[test]
fn the_scale_is_alpha_over_rank_or_its_root() {
    let config = LoraConfig { r: 16, lora_alpha: 32.0, ..LoraConfig::default() };
    assert_eq!(config.scale(), 2.0);
    assert_eq!(LoraConfig { use_rslora: true, ..config }.scale(), 8.0);
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_has_kaimings_bound() {
    let config = LoraConfig { r: 8, ..LoraConfig::default() };
    let lora = config.init([30, 100], 3, "layer", &device()).unwrap();
    let weight = random([30, 100]);
    assert_eq!(host(lora.merge(weight.clone())), host(weight));
    let a = host(lora.tensors()[0].1.clone());
    let largest = a.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    assert!(largest <= 0.1 && largest > 0.095, "bound 1/√100, found {largest}");
    let gaussian = LoraConfig { init_lora_weights: LoraInit::Gaussian, ..config };
    let a = host(gaussian.init([30, 100], 3, "layer", &device()).unwrap().tensors()[0].1.clone());
    let variance = a.iter().map(|v| v * v).sum::<f32>() / a.len() as f32;
    assert!((variance.sqrt() - 0.125).abs() < 0.01, "1/r = 0.125, found {}", variance.sqrt());
}

#[test]
fn values_outside_their_range_are_named() {
    let device = device();
    let key = |config: LoraConfig| match config.init([4, 8], 0, "q_proj", &device).unwrap_err() {
        PeftError::OutOfRange { key, .. } => key,
        other => panic!("{other}"),
    };
    assert_eq!(key(LoraConfig { r: 0, ..LoraConfig::default() }), "r");
    assert_eq!(key(LoraConfig { r: 5, ..LoraConfig::default() }), "r");
    assert_eq!(key(LoraConfig { lora_alpha: f64::NAN, ..LoraConfig::default() }), "lora_alpha");
    assert_eq!(key(LoraConfig { lora_dropout: 1.0, ..LoraConfig::default() }), "lora_dropout");
}

#[test]
fn dropout_acts_in_training_only_and_keeps_the_mean() {
    let lora = Lora::new(random([4, 64]), random([10, 4]), 1.0, 0.5);
    let base = BaseWeight::frozen(random([10, 64]));
    let x = random([1, 1, 64]);
    let without = Lora::new(lora.tensors()[0].1.clone(), lora.tensors()[1].1.clone(), 1.0, 0.0);
    let wanted = host(without.forward(x.clone(), &base));
    assert_close(&host(lora.forward(x.clone(), &base)), &wanted, 1e-6, 1e-6);

    let (lora, base) = (lora.train(), base.train());
    let many = x.repeat_dim(1, 4000);
    let dropped = lora.forward(Tensor::from_inner(many), &base).inner();
    let first = host(dropped.clone().slice([0..1, 0..1, 0..10]));
    assert!(first.iter().zip(&wanted).any(|(a, b)| (a - b).abs() > 1e-3), "nothing was dropped");
    let spread = wanted.iter().fold(1.0f32, |max, v| max.max(v.abs()));
    assert_close(&host(dropped.mean_dim(1)), &wanted, 0.0, 0.1 * f64::from(spread));
}

#[test]
fn gradients_of_both_factors_are_right() {
    let weight = random([5, 6]);
    let x: Tensor<3> = random([1, 3, 6]);
    let (a, b) = (host(random([2, 6])), host(random([5, 2])));
    let weights = random([15]);
    gradcheck(
        |t| {
            // The adapter's own leaves hide the inputs, so the same map is built from its parts.
            let (a, b) = (t[0].clone().reshape([2, 6]), t[1].clone().reshape([5, 2]));
            let y = BaseWeight::frozen(weight.clone()).lora_linear(x.clone(), a, b, 0.7);
            (y.reshape([15]) * weights.clone()).sum()
        },
        &[a, b],
        1e-2,
        1e-3,
    );
}
