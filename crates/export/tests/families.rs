//! Adapters and merged folders of families whose weights lie otherwise than Llama's.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use rekindle_export::{Companions, MergedDtype, write_adapter, write_merged};
use rekindle_models::Decoder;
use rekindle_models::load::open;
use rekindle_peft_core::LoraConfig;
use serde_json::Value;

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families").join(family)
}

fn decoder(family: &str) -> Decoder {
    let files = open(&folder(family)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex()).unwrap()
}

#[test]
fn a_merged_folder_holds_the_weights_that_were_read() {
    for family in ["gemma2", "gpt2", "mixtral", "olmo2", "phi3_longrope", "qwen3_moe", "smollm3"] {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("merged");
        let model = decoder(family);
        write_merged(&target, &model, MergedDtype::F32, &Companions::default()).unwrap();
        let (written, read) = (open(&target).unwrap(), open(&folder(family)).unwrap());
        assert_eq!(written.arch().unwrap(), read.arch().unwrap(), "{family}");
        let names = read.source().names();
        assert_eq!(written.source().names(), names, "{family}");
        for name in names {
            let of = |files: &rekindle_models::ModelFiles| files.source().read_f32(&name).unwrap();
            assert_eq!(of(&written), of(&read), "{family}: `{name}`");
        }
    }
}

#[test]
fn an_adapter_says_whether_its_base_is_stored_transposed() {
    for (family, transposed) in [("gpt2", true), ("phi3", false)] {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("adapter");
        let config = LoraConfig::default();
        let model = decoder(family).with_lora(&config, 1).unwrap();
        write_adapter(&target, &model, &config, family).unwrap();
        let text = std::fs::read_to_string(target.join("adapter_config.json")).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["fan_in_fan_out"], transposed, "{family}");
    }
}
