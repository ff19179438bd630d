//! Products of halves with weights that are trained in f32.

use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Gradients, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Recompute, Tokens};
use rekindle_peft_core::LoraConfig;
use rekindle_testkit::device;

const FAMILIES: [&str; 6] = ["gemma2", "gpt2", "llama3", "mixtral", "olmo2", "qwen2"];

fn decoder(family: &str) -> Decoder {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families");
    let files = open(&families.join(family)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &device().autodiff()).unwrap()
}

/// Moves `B` from zero, where it would leave `A` without a gradient.
struct Shift;

impl ModuleMapper for Shift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match param.is_require_grad() {
            true => param.map(|it| Tensor::from_inner(it.inner() + 0.05).require_grad()),
            false => param,
        }
    }
}

fn with_lora(family: &str) -> Decoder {
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
    decoder(family).with_lora(&lora, 3).unwrap().map(&mut Shift)
}

/// The gradients of trained weights, which are in the weights' own format, and the formats of all.
struct Seen<'a> {
    grads: &'a Gradients,
    values: Vec<f32>,
    frozen: Vec<DType>,
}

impl ModuleVisitor for Seen<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !param.is_require_grad() {
            self.frozen.push(value.dtype());
            assert!(value.grad(self.grads).is_none(), "a frozen weight has a gradient");
            return;
        }
        assert_eq!(value.dtype(), DType::F32);
        let grad = value.grad(self.grads).expect("a trained weight has a gradient");
        assert_eq!(grad.dtype(), DType::F32);
        self.values.extend(grad.into_data().try_to_vec::<f32>().unwrap());
    }
}

fn run(model: &Decoder) -> (f32, Vec<f32>, Vec<DType>) {
    let ids: Vec<i32> = (0..24).map(|at| 3 + (at * 7) % 20).collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [2, 12]), &device());
    let tokens = Tokens::new(ids, Tensor::ones([2, 12], &device()));
    let loss = model.nll_sum(tokens, Tensor::ones([2, 12], &device()));
    let value = loss.clone().into_scalar();
    let grads = loss.backward();
    let mut seen = Seen { grads: &grads, values: Vec::new(), frozen: Vec::new() };
    model.visit(&mut seen);
    (value, seen.values, seen.frozen)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn check(model: Decoder, dtype: FloatDType, what: &str) {
    let (loss, grads, _) = run(&model);
    let half = model.computing_in(dtype);
    let (half_loss, half_grads, frozen) = run(&half);
    assert!(frozen.iter().all(|&it| it == DType::from(dtype)), "{what}: {frozen:?}");
    assert!((loss - half_loss).abs() < 0.02 * loss, "{what}: {loss} and {half_loss}");
    let likeness = cosine(&grads, &half_grads);
    // bf16 has 8 bits, f16 has 11.
    let least = if dtype == FloatDType::BF16 { 0.99 } else { 0.9999 };
    assert!(likeness > least, "{what}: gradients agree to {likeness}");
    let (_, again, _) = run(&half.recomputing(Recompute::ALL));
    let likeness = cosine(&half_grads, &again);
    assert!(likeness > 0.999_999, "{what}: recomputed gradients agree to {likeness}");
}

#[test]
fn what_is_trained_stays_in_f32_and_its_gradient_too() {
    for family in FAMILIES {
        for dtype in [FloatDType::BF16, FloatDType::F16] {
            check(decoder(family), dtype, &format!("{family}, full, {dtype:?}"));
            check(with_lora(family), dtype, &format!("{family}, lora, {dtype:?}"));
        }
    }
}
