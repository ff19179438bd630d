//! Adapters of experts: written by PEFT's names of single projections, read back, and merged.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_export::{
    Companions, MergedDtype, adapter_notes, read_adapter, write_adapter, write_merged,
};
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Tokens};
use rekindle_peft_core::{Lora, LoraConfig, Targets};
use rekindle_testkit::{Golden, assert_close};
use safetensors::SafeTensors;
use serde_json::Value;

const FAMILIES: [&str; 3] = ["mixtral", "qwen3_moe", "qwen3_moe_raw"];
const TARGETS: &str = r".*\.(self_attn\.[qkvo]_proj|experts\.\d+\.\w+)";
const PREFIX: &str = "base_model.model.";

fn golden(family: &str) -> Golden {
    Golden::open(&format!("models/expert_lora/{family}.safetensors"))
}

fn base(family: &str) -> Decoder {
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families").join(family);
    load(&folder)
}

fn load(folder: &Path) -> Decoder {
    let files = open(folder).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex()).unwrap()
}

fn config() -> LoraConfig {
    let target_modules = Targets::Pattern(TARGETS.to_owned());
    LoraConfig { r: 2, lora_alpha: 4.0, target_modules, ..LoraConfig::default() }
}

fn adapted(family: &str) -> Decoder {
    let (golden, config) = (golden(family), config());
    let adapted = base(family).with_adapters(&config, |name, _| {
        let part = |part: &str| golden.tensor(&format!("{name}.{part}.weight"), &Device::flex());
        Ok(Lora::new(part("lora_A"), part("lora_B"), config.scale(), 0.0))
    });
    adapted.unwrap()
}

fn logits(family: &str, model: &Decoder) -> Vec<f32> {
    let golden = golden(family);
    let ids: Vec<i32> = golden.ints("ids").iter().map(|&id| id as i32).collect();
    let ids = TensorData::new(ids, golden.shape("ids"));
    let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
    let segments = Tensor::ones(ids.dims(), &Device::flex());
    model.logits(Tokens::new(ids, segments)).into_data().try_to_vec().unwrap()
}

/// Tensors, sorted by name.
fn tensors(model: &Decoder) -> Vec<(String, Vec<f32>)> {
    let tensors = model.adapter_tensors().into_iter();
    let mut tensors: Vec<_> =
        tensors.map(|(name, it)| (name, it.into_data().try_to_vec().unwrap())).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

#[test]
fn an_adapter_of_experts_is_written_by_the_checkpoints_names_and_read_back() {
    for family in FAMILIES {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("adapter");
        let model = adapted(family);
        write_adapter(&target, &model, &config(), family).unwrap();

        let bytes = std::fs::read(target.join("adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<String> = file.names().into_iter().map(String::from).collect();
        names.sort();
        let reference = golden(family).names().into_iter();
        let reference = reference.filter(|it| it.contains(".lora_") && !it.starts_with("grad."));
        let wanted: Vec<String> = reference.map(|name| format!("{PREFIX}{name}")).collect();
        assert_eq!(names, wanted, "{family}");

        let (again, read) = read_adapter(&target, base(family)).unwrap();
        assert_eq!((read.r, read.lora_alpha), (2, 4.0), "{family}");
        assert_eq!(tensors(&again), tensors(&model), "{family}");
        assert_eq!(logits(family, &again), logits(family, &model), "{family}");
    }
}

/// The names that PEFT gives to the projections of experts where they are modules of their own.
#[test]
fn single_projections_have_the_names_of_modules() {
    for (family, tensor) in [
        ("mixtral", "model.layers.0.block_sparse_moe.experts.0.w1.lora_A.weight"),
        ("qwen3_moe", "model.layers.0.mlp.experts.0.gate_proj.lora_A.weight"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("adapter");
        write_adapter(&target, &adapted(family), &config(), family).unwrap();
        let bytes = std::fs::read(target.join("adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor(&format!("{PREFIX}{tensor}")).unwrap().shape(), [2, 32]);
    }
}

/// A suffix would mean the dense block's projections too, which have no adapter here.
#[test]
fn targets_of_experts_beside_a_dense_block_are_whole_names() {
    for (family, first) in [("mixtral", "k_proj"), ("qwen3_moe", "model.layers.0.self_attn.q_proj")]
    {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("adapter");
        write_adapter(&target, &adapted(family), &config(), family).unwrap();
        let text = std::fs::read_to_string(target.join("adapter_config.json")).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["target_modules"][0], first, "{family}");
    }
}

#[test]
fn merged_experts_give_the_logits_of_peft() {
    for family in FAMILIES {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("merged");
        let model = adapted(family);
        write_merged(&target, &model, MergedDtype::F32, &Companions::default()).unwrap();
        let merged = logits(family, &load(&target));
        assert_close(&merged, &golden(family).floats("logits"), 0.0, 2e-5);
    }
}

/// PEFT would take the scale of gate and up from twice the rank.
#[test]
fn the_scale_of_rslora_on_experts_is_written_out() {
    let temp = tempfile::tempdir().unwrap();
    let ranked = LoraConfig { use_rslora: true, ..config() };
    let written = |family: &str, pattern: &str| {
        let target = temp.path().join(format!("{family}{}", pattern.len()));
        let targets = Targets::Pattern(pattern.to_owned());
        let config = LoraConfig { target_modules: targets, ..ranked.clone() };
        let model = base(family).with_lora(&config, 0).unwrap();
        write_adapter(&target, &model, &config, family).unwrap();
        let text = std::fs::read_to_string(target.join("adapter_config.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        (json["use_rslora"].as_bool().unwrap(), json["lora_alpha"].as_f64().unwrap())
    };
    assert_eq!(written("mixtral", TARGETS), (false, 4.0 / 2f64.sqrt() * 2.0));
    assert_eq!(written("mixtral", r".*self_attn\.q_proj"), (true, 4.0));
}

#[test]
fn what_peft_does_not_load_is_told() {
    let notes = |family: &str, pattern: &str, lora_dropout: f64| {
        let target_modules = Targets::Pattern(pattern.to_owned());
        let config = LoraConfig { target_modules, lora_dropout, ..config() };
        adapter_notes(&base(family).with_lora(&config, 0).unwrap(), &config).join("\n")
    };
    let attention = r".*self_attn\.[qkvo]_proj";
    assert_eq!(notes("mixtral", TARGETS, 0.0), "");
    assert_eq!(notes("mixtral", attention, 0.1), "");
    assert_eq!(notes("mixtral", r".*experts\.\d+\.w2", 0.0), "");
    assert_eq!(notes("mixtral", r".*layers\.0\..*experts\.\d+\.w[123]", 0.0), "");
    for (family, pattern, dropout, wanted) in [
        ("mixtral", TARGETS, 0.1, "`lora_dropout` to 0"),
        ("mixtral", r".*experts\.\d+\.w[12]", 0.0, "gate and up together"),
        ("mixtral", r".*experts\.\d+\.w[13]", 0.0, "with them down"),
        ("mixtral", r".*experts\.[01]\.w[123]", 0.0, "all experts of a block"),
        ("qwen3_moe", r".*(gate|up|down)_proj", 0.0, "dense feed-forward layers"),
    ] {
        let notes = notes(family, pattern, dropout);
        assert!(notes.contains(wanted), "{family}, {pattern}: {notes}");
        assert!(notes.contains("a merged model has no such limit"), "{notes}");
        assert_eq!(notes.lines().count(), 1, "{notes}");
    }
}
