//! Blocks that are run again in the backward pass give the gradients of those that are kept.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Recompute, Tokens};
use rekindle_peft_core::LoraConfig;
use rekindle_testkit::device;

/// Dense blocks with and without biases, caps, windows, norms after a layer, one projection to all
/// inputs, learned positions; and experts.
const FAMILIES: [&str; 8] =
    ["gemma2", "gpt2", "granite", "llama3", "olmo2", "phi3_window", "qwen2", "mixtral"];

fn decoder(family: &str) -> Decoder {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families");
    let files = open(&families.join(family)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &device().autodiff()).unwrap()
}

fn with_lora(family: &str, lora_dropout: f64) -> Decoder {
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, lora_dropout, ..LoraConfig::default() };
    let model = decoder(family).with_lora(&lora, 3).unwrap();
    // B starts at zero, which would leave A without a gradient.
    model.map(&mut Shift)
}

struct Shift;

impl burn::module::ModuleMapper for Shift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        param.map(|it| Tensor::from_inner(it.inner() + 0.05).require_grad())
    }
}

/// Two rows of twelve tokens, the second one padded.
fn tokens(noise: u64) -> Tokens {
    let ids: Vec<i32> = (0..24).map(|at| 3 + (at * 7) % 20).collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [2, 12]), &device());
    let segments: Vec<i32> = (0..24).map(|at| i32::from(at < 21)).collect();
    let segments = Tensor::from_data(TensorData::new(segments, [2, 12]), &device());
    Tokens::new(ids, segments).with_noise(noise)
}

struct Values<'a>(&'a Gradients, Vec<Vec<f32>>);

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let grad = param.val().grad(self.0).expect("a trained weight has a gradient");
            self.1.push(grad.into_data().try_to_vec().unwrap());
        }
    }
}

/// The loss and the gradient of every trained weight.
fn gradients(model: &Decoder, noise: u64) -> (f32, Vec<Vec<f32>>) {
    let mask = Tensor::ones([2, 12], &device());
    let loss = model.nll_sum(tokens(noise), mask);
    let value = loss.clone().into_scalar();
    let grads = loss.backward();
    let mut values = Values(&grads, Vec::new());
    model.visit(&mut values);
    (value, values.1)
}

fn assert_same(model: &Decoder, recompute: Recompute, what: &str) {
    let (loss, kept) = gradients(model, 5);
    let (loss_again, again) = gradients(&model.clone().recomputing(recompute), 5);
    assert_eq!(loss, loss_again, "{what}");
    assert_eq!(kept.len(), again.len());
    for (kept, again) in kept.iter().zip(&again) {
        let largest = kept.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        assert!(largest > 0.0, "{what}: a gradient is nothing");
        for (a, b) in kept.iter().zip(again) {
            assert!((a - b).abs() <= 1e-6 * largest.max(1.0), "{what}: {a} and {b}");
        }
    }
}

#[test]
fn every_trained_weight_gets_the_gradient_it_has_without() {
    for family in FAMILIES {
        for recompute in [
            Recompute::ALL,
            Recompute { every: 2, offload: false },
            Recompute { every: 1, offload: true },
        ] {
            assert_same(&decoder(family), recompute, &format!("{family}, full, {recompute:?}"));
            let lora = with_lora(family, 0.0);
            assert_same(&lora, recompute, &format!("{family}, lora, {recompute:?}"));
        }
    }
}

#[test]
fn what_is_random_is_the_same_in_the_second_run() {
    let model = with_lora("llama3", 0.3).with_neftune(5.0);
    assert_same(&model, Recompute::ALL, "dropout and noise");
    let (one, _) = gradients(&model, 1);
    let (other, _) = gradients(&model, 2);
    assert_ne!(one, other, "the seed of the tokens decides what is random");
    assert_eq!(gradients(&model, 1).0, one);
    let (calm, _) = gradients(&with_lora("llama3", 0.3), 1);
    assert_ne!(one, calm, "noise on the embeddings changes the loss");
}

#[test]
fn off_the_autodiff_device_nothing_is_random() {
    let model = with_lora("llama3", 0.3).with_neftune(5.0).recomputing(Recompute::ALL).valid();
    let loss = |noise| -> f32 {
        model.nll_sum(tokens(noise), Tensor::ones([2, 12], &device())).into_scalar()
    };
    assert_eq!(loss(1), loss(2));
}
