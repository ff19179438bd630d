//! LoRA on the projections of experts against PEFT's layer in transformers' model.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Tokens};
use rekindle_peft_core::{Lora, LoraConfig, Targets};
use rekindle_testkit::{Golden, assert_close, device};

/// Experts in all blocks; beside a dense block; and with weights that are not normalised.
const FAMILIES: [&str; 3] = ["mixtral", "qwen3_moe", "qwen3_moe_raw"];

/// The projections that the fixtures adapt; a dense block's are none of them.
const TARGETS: &str = r".*\.(self_attn\.[qkvo]_proj|experts\.\d+\.\w+)";

fn golden(family: &str) -> Golden {
    Golden::open(&format!("models/expert_lora/{family}.safetensors"))
}

fn config() -> LoraConfig {
    let target_modules = Targets::Pattern(TARGETS.to_owned());
    LoraConfig { r: 2, lora_alpha: 4.0, target_modules, ..LoraConfig::default() }
}

fn adapted(family: &str, golden: &Golden, device: &Device) -> Decoder {
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families").join(family);
    let files = open(&folder).unwrap();
    let base = Decoder::load(files.source(), &files.arch().unwrap(), device).unwrap();
    let config = config();
    let adapted = base.with_adapters(&config, |name, [d_out, d_in]| {
        let part = |part: &str| golden.tensor::<2>(&format!("{name}.{part}.weight"), device);
        let (a, b) = (part("lora_A"), part("lora_B"));
        assert_eq!((a.dims(), b.dims()), ([2, d_in], [d_out, 2]), "{family}: {name}");
        Ok(Lora::new(a, b, config.scale(), config.lora_dropout))
    });
    adapted.unwrap()
}

fn input_ids(golden: &Golden) -> Tensor<2, Int> {
    let values: Vec<i32> = golden.ints("ids").iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, golden.shape("ids")), &device())
}

/// The names of the adapter's tensors in a fixture, sorted.
fn tensor_names(golden: &Golden) -> Vec<String> {
    let names = golden.names().into_iter();
    names.filter(|name| name.contains(".lora_") && !name.starts_with("grad.")).collect()
}

fn largest_gap(found: &[f32], wanted: &[f32]) -> f32 {
    found.iter().zip(wanted).fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

/// Gradients by tensor; zeros where there is none.
fn gradients(model: &Decoder, grads: &Gradients) -> Vec<(String, Vec<f32>)> {
    let of = |tensor: Tensor<2>| match tensor.grad(grads) {
        Some(grad) => grad.into_data().try_to_vec().unwrap(),
        None => vec![0.0; tensor.dims().iter().product()],
    };
    model.adapter_tensors().into_iter().map(|(name, tensor)| (name, of(tensor))).collect()
}

#[test]
fn every_tensor_of_the_reference_has_its_place_and_name() {
    for family in FAMILIES {
        let golden = golden(family);
        let model = adapted(family, &golden, &device());
        let mut names: Vec<String> =
            model.adapter_tensors().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, tensor_names(&golden), "{family}");
    }
}

#[test]
fn logits_equal_those_of_peft() {
    for family in FAMILIES {
        println!("{family}");
        let golden = golden(family);
        let model = adapted(family, &golden, &device());
        let ids = input_ids(&golden);
        let segments = Tensor::ones(ids.dims(), &device());
        let logits: Vec<f32> =
            model.logits(Tokens::new(ids, segments)).into_data().try_to_vec().unwrap();
        let wanted = golden.floats("logits");
        println!("worst score {:.1e}", largest_gap(&logits, &wanted));
        assert_close(&logits, &wanted, 0.0, 2e-5);
    }
}

#[test]
fn loss_and_every_gradient_equal_those_of_peft() {
    for family in FAMILIES {
        println!("{family}");
        let golden = golden(family);
        let model = adapted(family, &golden, &device().autodiff());
        let ids = input_ids(&golden);
        let [batch, seq] = ids.dims();
        let ones = || Tensor::ones([batch, seq], &device());
        let predicted = (batch * (seq - 1)) as f64;
        let targets = Tensor::ones([batch, seq], &device());
        let loss = model.nll_sum(Tokens::new(ids, ones()), targets).div_scalar(predicted);
        let value = loss.clone().into_data().try_to_vec::<f32>().unwrap();
        let wanted = golden.floats("loss");
        println!("loss {:.1e} off", largest_gap(&value, &wanted));
        assert_close(&value, &wanted, 1e-6, 0.0);
        compare(family, &golden, &gradients(&model, &loss.backward()));
    }
}

/// Tensors of the experts that no token was sent to have no gradient in the fixture, and none or
/// zeros here.
fn compare(family: &str, golden: &Golden, found: &[(String, Vec<f32>)]) {
    let stored = golden.names();
    let mut idle = 0;
    let mut worst = 0.0f32;
    for (name, grad) in found {
        let key = format!("grad.{name}");
        if !stored.contains(&key) {
            assert!(grad.iter().all(|&it| it == 0.0), "{family}: `{name}` of an idle expert");
            assert!(name.contains(".experts."), "{family}: `{name}`");
            idle += 1;
            continue;
        }
        let wanted = golden.floats(&key);
        let scale = wanted.iter().fold(0.0f32, |max, it| max.max(it.abs()));
        assert!(scale > 1e-5, "{family}: the gradient of `{name}` is nothing");
        worst = worst.max(largest_gap(grad, &wanted) / scale);
        assert_close(grad, &wanted, 0.0, 2e-5 * f64::from(scale));
    }
    println!("worst gradient {worst:.1e} of its tensor's largest; {idle} tensors idle");
    assert!(idle > 0 && idle < found.len(), "{family}");
}
