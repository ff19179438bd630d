//! Adapters and merged weights against those of Hugging Face PEFT.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_export::{Companions, MergedDtype, read_adapter, write_adapter, write_merged};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Tokens};
use rekindle_peft_core::LoraConfig;
use rekindle_testkit::{Golden, assert_close};
use safetensors::SafeTensors;

/// Adapters that PEFT wrote: the usual scale, and `lora_alpha / √r`.
const CASES: [&str; 2] = ["lora", "rslora"];
const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

fn adapted(case: &str) -> (Decoder, LoraConfig) {
    let files = open(&folder("base")).unwrap();
    let base = Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex()).unwrap();
    read_adapter(&folder(case), base).unwrap()
}

fn logits(model: &Decoder) -> Vec<f32> {
    let golden = Golden::open("golden/base/expected.safetensors");
    let ids: Vec<i32> = golden.ints("input_ids").iter().map(|&id| id as i32).collect();
    let shape = golden.shape("input_ids");
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &Device::flex());
    let segments = Tensor::ones(ids.dims(), &Device::flex());
    model.logits(Tokens::new(ids, segments)).into_data().try_to_vec().unwrap()
}

fn expected(case: &str) -> Golden {
    Golden::open(&format!("golden/{case}/expected.safetensors"))
}

#[test]
fn logits_with_an_adapter_equal_pefts() {
    let base = Golden::open("golden/base/expected.safetensors").floats("logits");
    for case in CASES {
        let wanted = expected(case).floats("logits");
        assert!(base.iter().zip(&wanted).any(|(base, it)| (base - it).abs() > 0.1), "{case}");
        assert_close(&logits(&adapted(case).0), &wanted, 0.0, 1e-5);
    }
}

#[test]
fn a_peft_adapter_is_written_again_bit_for_bit() {
    let temporary = tempfile::tempdir().unwrap();
    for case in CASES {
        let (model, config) = adapted(case);
        let target = temporary.path().join(case);
        write_adapter(&target, &model, &config, "fixtures/golden/base").unwrap();
        let read = |path: &Path| std::fs::read(path.join("adapter_model.safetensors")).unwrap();
        let (ours, theirs) = (read(&target), read(&folder(case)));
        let ours = SafeTensors::deserialize(&ours).unwrap();
        let theirs = SafeTensors::deserialize(&theirs).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{case}");
        for (name, view) in theirs.tensors() {
            let found = ours.tensor(&name).unwrap();
            assert_eq!(found.dtype(), view.dtype(), "{case}: {name}");
            assert_eq!(found.shape(), view.shape(), "{case}: {name}");
            assert_eq!(found.data(), view.data(), "{case}: {name}");
        }
    }
}

#[test]
fn a_written_adapter_says_what_pefts_says() {
    let temporary = tempfile::tempdir().unwrap();
    for case in CASES {
        let (model, config) = adapted(case);
        let target = temporary.path().join(case);
        write_adapter(&target, &model, &config, "fixtures/golden/base").unwrap();
        let read = |path: &Path| -> serde_json::Value {
            let text = std::fs::read_to_string(path.join("adapter_config.json")).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let (ours, theirs) = (read(&target), read(&folder(case)));
        for key in ["peft_type", "task_type", "r", "use_rslora", "target_modules", "bias"] {
            assert_eq!(ours[key], theirs[key], "{case}: {key}");
        }
        assert_eq!(ours["lora_alpha"].as_f64(), theirs["lora_alpha"].as_f64(), "{case}");
        assert_eq!(logits(&model), logits(&read_again(&target)), "{case}");
    }
}

fn read_again(target: &Path) -> Decoder {
    let files = open(&folder("base")).unwrap();
    let base = Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex()).unwrap();
    read_adapter(target, base).unwrap().0
}

#[test]
fn merged_weights_and_logits_equal_pefts() {
    let temporary = tempfile::tempdir().unwrap();
    for case in CASES {
        let target = temporary.path().join(case);
        let (model, _) = adapted(case);
        write_merged(&target, &model, MergedDtype::F32, &Companions::default()).unwrap();
        let golden = expected(case);
        let files = open(&target).unwrap();
        let q_proj = files.source().read_f32(Q_PROJ).unwrap();
        assert_close(&q_proj, &golden.floats("merged_q0"), 0.0, 1e-6);
        let merged = Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex());
        assert_close(&logits(&merged.unwrap()), &golden.floats("merged_logits"), 0.0, 1e-5);
    }
}
