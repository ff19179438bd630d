//! The decoder against transformers' logits.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Generation, Tokens};
use rekindle_testkit::{Golden, assert_close};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/base")
}

fn decoder(device: &Device) -> Decoder {
    let files = open(&folder()).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), device).unwrap()
}

fn input_ids(golden: &Golden, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = golden.ints("input_ids").iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, golden.shape("input_ids")), device)
}

#[test]
fn logits_equal_transformers() {
    let device = Device::flex();
    let golden = Golden::open("golden/base/expected.safetensors");
    let ids = input_ids(&golden, &device);
    let segments = Tensor::ones(ids.dims(), &device);
    let logits = decoder(&device).logits(Tokens::new(ids, segments));
    let logits = logits.into_data().try_to_vec::<f32>().unwrap();
    assert_close(&logits, &golden.floats("logits"), 0.0, 1e-5);
}

#[test]
fn generation_with_a_cache_repeats_the_choice_without_one() {
    let device = Device::flex();
    let model = decoder(&device);
    let prompt = vec![1, 5, 9, 33];
    let greedy = Generation::greedy(Vec::new(), 6);
    let generated = model.generate(&[&prompt], &greedy, |_| true).remove(0).tokens;
    assert_eq!(generated.len(), 6);
    let mut text: Vec<i32> = prompt.iter().map(|&id| id as i32).collect();
    for token in generated {
        let ids = Tensor::from_data(TensorData::new(text.clone(), [1, text.len()]), &device);
        let logits = model.logits(Tokens::new(ids, Tensor::ones([1, text.len()], &device)));
        let values = logits.into_data().try_to_vec::<f32>().unwrap();
        let last = &values[values.len() - 64..];
        let best = (0..64).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        assert_eq!(token as usize, best, "after {text:?}");
        text.push(token as i32);
    }
}

#[test]
fn a_random_decoder_has_the_shapes_of_its_architecture() {
    let device = Device::flex();
    let arch = open(&folder()).unwrap().arch().unwrap();
    let model = Decoder::random(&arch, 7, &device);
    let tensors = model.merged_tensors().into_iter();
    let mut merged: Vec<String> = tensors.map(|(name, _)| name).collect();
    let mut wanted: Vec<String> = arch.tensor_shapes().into_iter().map(|(name, _)| name).collect();
    merged.sort();
    wanted.sort();
    assert_eq!(merged, wanted);
}
