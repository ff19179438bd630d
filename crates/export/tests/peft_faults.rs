//! Adapters that do not fit the model or are broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rekindle_export::{ExportError, read_adapter};
use rekindle_models::Decoder;
use rekindle_models::load::open;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// A copy of an adapter that PEFT wrote for the base model.
struct Adapter(TempDir);

impl Adapter {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in [CONFIG, WEIGHTS] {
            fs::copy(golden("lora").join(name), folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The configuration's text with `value`, as it stands, for `key`.
    fn with(self, key: &str, value: &str) -> Self {
        let text = fs::read_to_string(self.path(CONFIG)).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[key] = json!("@value@");
        let text = config.to_string().replace("\"@value@\"", value);
        fs::write(self.path(CONFIG), text).unwrap();
        self
    }

    fn without(self, key: &str) -> Self {
        let text = fs::read_to_string(self.path(CONFIG)).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config.as_object_mut().unwrap().remove(key);
        fs::write(self.path(CONFIG), config.to_string()).unwrap();
        self
    }

    /// The weights, each under the name and with the width that `change` gives it; all zero.
    fn reshaped(self, change: impl Fn(&str, &mut Vec<usize>) -> String) -> Self {
        let bytes = fs::read(self.path(WEIGHTS)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let changed = file.tensors().into_iter().map(|(name, view)| {
            let mut shape = view.shape().to_vec();
            let name = change(&name, &mut shape);
            let zeros = vec![0; 4 * shape.iter().product::<usize>()];
            (name, shape, zeros)
        });
        let changed: Vec<_> = changed.collect();
        let views = changed.iter().map(|(name, shape, zeros)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), zeros).unwrap())
        });
        fs::write(self.path(WEIGHTS), safetensors::serialize(views, None).unwrap()).unwrap();
        self
    }

    fn read(&self) -> Result<Decoder, ExportError> {
        let files = open(&golden("base")).unwrap();
        let base = Decoder::load(files.source(), &files.arch().unwrap(), &Device::flex()).unwrap();
        read_adapter(self.0.path(), base).map(|(decoder, _)| decoder)
    }

    /// Asserts that the adapter is refused soon, with exit code 4 and all of `wanted`.
    #[track_caller]
    fn refused(&self, wanted: &[&str]) {
        let started = Instant::now();
        let error = self.read().expect_err("the adapter is at fault");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(error.exit_code(), 4, "{error}");
        let said = error.to_string();
        for part in wanted {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
}

#[test]
fn the_unspoilt_adapter_is_read() {
    Adapter::new().read().unwrap();
    let defaults = ["lora_alpha", "lora_dropout", "use_rslora"];
    defaults.into_iter().fold(Adapter::new(), Adapter::without).read().unwrap();
}

#[test]
fn w16_an_adapter_for_another_width_is_refused_with_both_shapes() {
    let adapter = Adapter::new().reshaped(|name, shape| {
        if name.contains("lora_A") {
            shape[1] *= 2;
        }
        name.to_owned()
    });
    adapter.refused(&["is [4, 64], wanted [4, 32]", "q_proj.lora_A.weight`", "the base model is"]);
}

#[test]
fn w16_tensors_of_other_names_are_missing_and_unexpected() {
    let adapter = Adapter::new().reshaped(|name, _| name.replace("layers.0.", "layers.7."));
    adapter.refused(&[
        "missing: `model.layers.0.self_attn.q_proj.lora_A.weight` [4, 32]",
        "unexpected: `model.layers.7.self_attn.q_proj.lora_A.weight`",
    ]);
    let one = |name: &str, _: &mut Vec<usize>| match name {
        Q_A => "base_model.model.renamed".to_owned(),
        other => other.to_owned(),
    };
    Adapter::new().reshaped(one).refused(&["missing: `model.layers.0", "unexpected: `renamed`"]);
}

#[test]
fn w16_a_rank_that_cannot_be_is_refused_before_anything_is_allocated() {
    let number = "wanted a whole number from 1 up";
    Adapter::new().with("r", "0").refused(&[CONFIG, "`r` is 0, but must be at least 1"]);
    for rank in ["-4", "4.5", "\"4\"", "null", "true", "1e3", "18446744073709551616"] {
        Adapter::new().with("r", rank).refused(&[CONFIG, "`r` is", number]);
    }
    Adapter::new().without("r").refused(&[CONFIG, "it has no `r`", number]);
    for rank in ["33", "1000000000000", "18446744073709551615"] {
        let most = "but must be at most 32 for `model.layers.0.self_attn.q_proj`";
        Adapter::new().with("r", rank).refused(&[CONFIG, rank, most, "[32, 32] weight"]);
    }
}

#[test]
fn w16_numbers_of_another_type_are_refused_and_not_replaced() {
    for value in ["\"nan\"", "\"8\"", "null", "true", "[8]", "{}"] {
        for key in ["lora_alpha", "lora_dropout"] {
            let found = format!("`{key}` is `{value}`; wanted a number");
            Adapter::new().with(key, value).refused(&[CONFIG, &found]);
        }
    }
    for value in ["null", "1", "\"true\""] {
        let found = format!("`use_rslora` is `{value}`; wanted `true` or `false`");
        Adapter::new().with("use_rslora", value).refused(&[CONFIG, &found]);
    }
    for value in ["NaN", "Infinity", "1e999"] {
        Adapter::new().with("lora_alpha", value).refused(&[CONFIG, "no JSON", "line 1"]);
    }
    for value in ["-0.1", "1.0", "7"] {
        Adapter::new().with("lora_dropout", value).refused(&[
            CONFIG,
            "`lora_dropout` is",
            "[0, 1)",
        ]);
    }
}

#[test]
fn w16_a_catastrophic_pattern_ends_at_once() {
    let none = "no linear layer matches target `(a+)+$`; the model has";
    Adapter::new().with("target_modules", "\"(a+)+$\"").refused(&[CONFIG, none, "`q_proj`"]);
    let huge = "\"((a{1000}){1000}){1000}\"";
    Adapter::new().with("target_modules", huge).refused(&[CONFIG, "is not a regular expression"]);
    for value in ["null", "7", "[7]"] {
        let wanted = "wanted a list of names, a regular expression or `all-linear`";
        Adapter::new().with("target_modules", value).refused(&[CONFIG, wanted]);
    }
}

#[test]
fn methods_and_features_that_are_not_read_are_named() {
    let ia3 = "`peft_type` is `\"IA3\"`; wanted `LORA`";
    Adapter::new().with("peft_type", "\"IA3\"").refused(&[CONFIG, ia3]);
    Adapter::new().without("peft_type").refused(&[CONFIG, "it has no `peft_type`"]);
    Adapter::new().with("use_dora", "true").refused(&[CONFIG, "`use_dora` is `true`"]);
}

#[test]
fn adapter_weights_pass_the_checks_of_a_models() {
    let refused = |bytes: &[u8], wanted: &str| {
        let adapter = Adapter::new();
        fs::write(adapter.path(WEIGHTS), bytes).unwrap();
        adapter.refused(&[WEIGHTS, wanted]);
    };
    refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer");
    refused(b"<!DOCTYPE html><html>", "HTML page");
    refused(b"PK", "too small");
    let entry = |from: usize| {
        format!(r#""w":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{}]}}"#, from + 4)
    };
    let header = format!("{{{},{}}}", entry(0), entry(4));
    let twice = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
    refused(&twice, "tensor `w` is in the header twice");
    let whole = fs::read(golden("lora").join(WEIGHTS)).unwrap();
    refused(&whole[..whole.len() - 1], "is truncated");
    refused(&[&whole[..], b"PK\x03\x04"].concat(), "4 bytes follow the last tensor");
}

#[test]
fn one_tensor_under_two_names_is_refused() {
    let twice = |name: &str, _: &mut Vec<usize>| match name {
        Q_A => "model.layers.0.self_attn.v_proj.lora_A.weight".to_owned(),
        other => other.to_owned(),
    };
    Adapter::new().reshaped(twice).refused(&[WEIGHTS, "are the same tensor"]);
}

#[test]
fn an_adapter_config_that_is_no_config_is_refused() {
    let adapter = Adapter::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
    for (text, wanted) in [("{", "no JSON"), (pointer, "Git LFS pointer"), ("[]", "`peft_type`")] {
        fs::write(adapter.path(CONFIG), text).unwrap();
        adapter.refused(&[CONFIG, wanted]);
    }
}
