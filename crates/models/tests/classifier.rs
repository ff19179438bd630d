//! Classifiers and reward models against transformers.

use std::path::{Path, PathBuf};

use burn::tensor::{Int, Tensor, TensorData};
use rekindle_models::load::open;
use rekindle_models::{Arch, Decoder, MergedTensor, SequenceClassifier, Tokens};
use rekindle_testkit::{Golden, assert_close, device};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families").join(name)
}

fn classifier(name: &str, device: &burn::tensor::Device) -> SequenceClassifier {
    let files = open(&folder(name)).unwrap();
    SequenceClassifier::load(files.source(), &files.arch().unwrap(), device).unwrap()
}

/// Token ids, and segments that are 0 where the ids are padding.
fn inputs(golden: &Golden, pad: Option<u32>) -> [Tensor<2, Int>; 2] {
    let ids: Vec<i64> = golden.ints("ids");
    let segments = ids.iter().map(|&id| i64::from(Some(id) != pad.map(i64::from)));
    let segments: Vec<i64> = segments.collect();
    [ids, segments]
        .map(|values| Tensor::from_data(TensorData::new(values, golden.shape("ids")), &device()))
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

#[test]
fn scores_equal_transformers() {
    for (name, n_labels) in [("qwen2_reward", 1), ("llama_classifier", 3)] {
        let golden = Golden::open(&format!("models/families/{name}/expected.safetensors"));
        let model = classifier(name, &device());
        assert_eq!(model.n_labels(), n_labels);
        let [ids, segments] = inputs(&golden, model.decoder.arch().pad);
        assert_close(
            &host(model.scores(Tokens::new(ids, segments))),
            &golden.floats("logits"),
            0.0,
            2e-5,
        );
    }
}

#[test]
fn gradients_of_a_reward_equal_transformers() {
    let golden = Golden::open("models/families/qwen2_reward/expected.safetensors");
    let model = classifier("qwen2_reward", &device().autodiff());
    let [ids, segments] = inputs(&golden, model.decoder.arch().pad);
    let grads = model.scores(Tokens::new(ids, segments)).sum().backward();
    let mut compared = 0;
    for (name, tensor) in model.merged_tensors() {
        let grad = match tensor {
            MergedTensor::Vector(it) => it.grad(&grads).map(host),
            MergedTensor::Matrix(it) => it.grad(&grads).map(host),
        };
        let wanted = golden.floats(&format!("grad.{name}"));
        let largest = wanted.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        assert_close(&grad.unwrap(), &wanted, 0.0, 1e-5 * f64::from(largest));
        compared += 1;
    }
    let all = golden.names().iter().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(compared, all);
}

#[test]
fn the_last_token_has_the_score_of_the_row() {
    let golden = Golden::open("models/families/qwen2_reward/expected.safetensors");
    let model = classifier("qwen2_reward", &device());
    let [ids, segments] = inputs(&golden, None);
    let [batch, seq] = ids.dims();
    let all = model.token_scores(Tokens::new(ids.clone(), segments.clone()));
    let last = host(all.slice([0..batch, seq - 1..seq, 0..1]));
    assert_close(&host(model.scores(Tokens::new(ids, segments))), &last, 0.0, 1e-6);
}

#[test]
fn a_fresh_head_is_small_and_the_same_for_one_seed() {
    let arch: Arch = open(&folder("qwen2")).unwrap().arch().unwrap();
    let make = |seed| {
        let decoder = Decoder::random(&arch, 1, &device());
        let made = SequenceClassifier::with_fresh_head(decoder, 2, seed);
        match made.merged_tensors().pop() {
            Some((_, MergedTensor::Matrix(score))) => host(score),
            _ => panic!("the head is a matrix"),
        }
    };
    assert_eq!(make(5), make(5));
    assert_ne!(make(5), make(6));
    assert!(make(5).iter().all(|value| value.abs() < 6.0 * arch.initializer_range as f32));
}

#[test]
fn the_written_config_says_what_transformers_says() {
    for name in ["qwen2_reward", "llama_classifier"] {
        let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ours = classifier(name, &device()).to_hf_config();
        for key in ["architectures", "id2label", "label2id"] {
            let stated = theirs.get(key).filter(|it| !it.is_null());
            assert!(stated.is_none_or(|it| it == &ours[key]), "{name}: `{key}`");
        }
    }
}

#[test]
fn a_folder_without_a_head_is_refused_by_name() {
    let files = open(&folder("qwen2")).unwrap();
    let arch = files.arch().unwrap();
    let error = SequenceClassifier::load(files.source(), &arch, &device()).unwrap_err();
    assert!(error.to_string().contains("missing: `score.weight`, wanted [labels, 32]"), "{error}");
}
