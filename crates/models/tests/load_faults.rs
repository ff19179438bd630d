//! Broken model folders and what is said about them.

use std::fs;
use std::path::Path;

use rekindle_models::load::{HfFolder, open, strict_check};
use rekindle_models::{ModelError, WeightSource};
use tempfile::TempDir;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";

/// A safetensors file of a header and `data` zero bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(std::iter::repeat_n(0, data));
    file
}

/// A header entry for a vector of `len` f32 from byte `from`.
fn vector(name: &str, len: usize, from: usize) -> String {
    let to = from + 4 * len;
    format!(r#""{name}":{{"dtype":"F32","shape":[{len}],"data_offsets":[{from},{to}]}}"#)
}

fn one_tensor(name: &str) -> Vec<u8> {
    safetensors(&format!("{{{}}}", vector(name, 2, 0)), 8)
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn refused(files: &[(&str, &[u8])]) -> ModelError {
    let error = HfFolder::open(folder(files).path()).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    error
}

/// Asserts that a single weights file is refused with every one of `words`.
#[track_caller]
fn assert_says(file: &[u8], words: &[&str]) {
    let text = refused(&[(SINGLE, file)]).to_string();
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[test]
fn seven_bytes_are_too_small() {
    for len in 0..8 {
        assert_says(&vec![0; len], &["too small to be safetensors"]);
    }
}

#[test]
fn a_header_longer_than_the_file_is_refused() {
    let mut file = one_tensor("a");
    file[..8].copy_from_slice(&5_000u64.to_le_bytes());
    assert_says(&file, &["truncated", "5008"]);
    file[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_says(&file, &["100000000"]);
    file[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    assert!(matches!(refused(&[(SINGLE, &file)]), ModelError::HeaderTooLarge { .. }));
}

#[test]
fn a_header_that_is_no_json_object_is_refused() {
    assert_says(&safetensors("[]", 0), &["does not begin with `{`"]);
    let mut file = safetensors("{ }", 0);
    file[9] = 0xff;
    assert_says(&file, &["not UTF-8"]);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_says(&safetensors(&deep, 0), &["not valid safetensors"]);
    let deep = format!("{{\"__metadata__\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_says(&safetensors(&deep, 0), &["not valid safetensors"]);
}

#[test]
fn overlaps_holes_and_trailing_bytes_are_refused() {
    let two = |from| format!("{{{},{}}}", vector("a", 2, 0), vector("b", 2, from));
    assert_says(&safetensors(&two(4), 12), &["`b`", "overlaps"]);
    assert_says(&safetensors(&two(12), 20), &["hole", "`b`"]);
    let mut polyglot = one_tensor("a");
    polyglot.extend_from_slice(b"PK\x03\x04");
    assert_says(&polyglot, &["4 bytes follow the last tensor"]);
}

#[test]
fn a_tensor_whose_span_does_not_fit_its_shape_is_named() {
    let entry = |dtype: &str, shape: &str, to: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{to}]}}}}"#)
    };
    assert_says(&safetensors(&entry("F32", "[3]", 8), 8), &["`w`", "[3]"]);
    let huge = entry("F32", "[4294967296,4294967296,2]", 8);
    assert_says(&safetensors(&huge, 8), &["`w`", "overflows"]);
    assert_says(&safetensors(&entry("F12", "[2]", 8), 8), &["`w`", "`F12`"]);
    assert_says(&safetensors(&entry("F4", "[3]", 1), 1), &["`w`", "12 bits"]);
    assert_says(&safetensors(&entry("F32", "[2]", u64::MAX), 8), &["bytes"]);
    assert_says(&safetensors(r#"{"w":{"dtype":"F32"}}"#, 0), &["`w`", "shape"]);
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let header = format!("{{{},{}}}", vector("a", 2, 0), vector("a", 2, 8));
    assert_says(&safetensors(&header, 16), &["`a`", "twice"]);
}

#[test]
fn a_truncated_file_says_so() {
    let file = one_tensor("a");
    assert_says(&file[..file.len() - 3], &["truncated", "download it again"]);
}

#[test]
fn an_lfs_pointer_and_a_web_page_are_recognised() {
    assert_says(POINTER, &["Git LFS pointer"]);
    assert_says(b"\n<!DOCTYPE html><html>", &["HTML page"]);
    assert_says(b"<HTML lang='en'>", &["HTML page"]);
    let folder = folder(&[("config.json", POINTER), ("m.gguf", POINTER)]);
    let config = HfFolder::open_without_weights(folder.path()).unwrap_err();
    let gguf = open(&folder.path().join("m.gguf")).unwrap_err();
    for error in [config, gguf] {
        assert!(matches!(error, ModelError::LfsPointer { .. }), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    for name in ["../../x", "/etc/passwd", r"C:\\x", "sub/x", "..", ".", "", "C:x"] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        let error = refused(&[(INDEX, index.as_bytes())]);
        assert!(matches!(error, ModelError::OutsideFolder { .. }), "{name}: {error}");
    }
}

#[test]
fn all_that_is_wrong_with_shards_is_in_one_list() {
    let index = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"gone.safetensors",
        "d":"2.safetensors","e":"cut.safetensors","f":"lfs.safetensors"}}"#;
    let both = safetensors(&format!("{{{},{}}}", vector("a", 2, 0), vector("b", 2, 8)), 16);
    let whole = one_tensor("e");
    let files: [(&str, &[u8]); 5] = [
        (INDEX, index.as_bytes()),
        ("1.safetensors", &one_tensor("a")),
        ("2.safetensors", &both),
        ("cut.safetensors", &whole[..whole.len() - 1]),
        ("lfs.safetensors", POINTER),
    ];
    let text = refused(&files).to_string();
    for word in [
        "shard `gone.safetensors` is listed but absent",
        "tensor `a` is in two shards: `1.safetensors`, `2.safetensors`",
        "tensor `d` is listed for `2.safetensors` but absent there",
        "truncated",
        "lfs.safetensors` is a Git LFS pointer",
    ] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[test]
fn whole_shards_are_read_as_one_model() {
    let index = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let mut second = one_tensor("b");
    let end = second.len();
    second[end - 4..].copy_from_slice(&1.5f32.to_le_bytes());
    let folder = folder(&[
        (INDEX, index.as_bytes()),
        ("1.safetensors", &one_tensor("a")),
        ("2.safetensors", &second),
    ]);
    let model = HfFolder::open(folder.path()).unwrap();
    assert_eq!(model.names(), ["a", "b"]);
    assert_eq!(model.shape("b"), Some(vec![2]));
    assert_eq!(model.read_f32("b").unwrap(), [0.0, 1.5]);
    assert!(matches!(model.read_f32("c"), Err(ModelError::NoTensor { .. })));
}

#[test]
fn halves_are_widened_and_integers_refused() {
    let header = r#"{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
        "b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},
        "i":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}}"#;
    let mut file = safetensors(header, 8);
    let start = file.len() - 8;
    file[start..start + 2].copy_from_slice(&0x3e00u16.to_le_bytes());
    file[start + 2..start + 4].copy_from_slice(&0xc020u16.to_le_bytes());
    let folder = folder(&[(SINGLE, &file)]);
    let model = HfFolder::open(folder.path()).unwrap();
    assert_eq!(model.read_f32("h").unwrap(), [1.5]);
    assert_eq!(model.read_f32("b").unwrap(), [-2.5]);
    let text = model.read_f32("i").unwrap_err().to_string();
    assert!(text.contains("`i`") && text.contains("`I32`"), "{text}");
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_in_one_error() {
    let header = format!(
        "{{{},{},{},{}}}",
        vector("there", 2, 0),
        vector("extra", 2, 8),
        vector("lm_head.weight", 2, 16),
        vector("model.layers.0.self_attn.rotary_emb.inv_freq", 2, 24)
    );
    let folder = folder(&[(SINGLE, &safetensors(&header, 32))]);
    let model = HfFolder::open(folder.path()).unwrap();
    let wanted = [("there".to_owned(), vec![1, 2]), ("gone".to_owned(), vec![3])];
    let error = strict_check(&wanted, &model, true).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let text = error.to_string();
    for word in ["missing: `gone` [3]", "unexpected: `extra`", "`there` is [2], wanted [1, 2]"] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert!(!text.contains("lm_head") && !text.contains("inv_freq"), "{text}");
    let untied = strict_check(&wanted, &model, false).unwrap_err().to_string();
    assert!(untied.contains("unexpected: `lm_head.weight`"), "{untied}");
}

#[test]
fn a_folder_without_weights_says_what_it_wants() {
    assert!(matches!(refused(&[]), ModelError::NoWeights { .. }));
    let folder = folder(&[("tokenizer.json", b"{}")]);
    let scratch = HfFolder::open_without_weights(folder.path()).unwrap();
    assert!(scratch.names().is_empty());
    assert_eq!(scratch.tokenizer(), Some(folder.path().join("tokenizer.json")));
    assert_eq!(scratch.chat_template(), None);
}

#[test]
fn a_path_to_nothing_and_to_something_else_are_told_apart() {
    let missing = open(Path::new("no/such/model")).unwrap_err();
    assert!(missing.to_string().contains("no model at `no/such/model`"), "{missing}");
    assert_eq!(missing.exit_code(), 4);
    let folder = folder(&[("notes.txt", b"hello"), ("m.gguf", b"<!doctype html>")]);
    let other = open(&folder.path().join("notes.txt")).unwrap_err();
    assert!(matches!(other, ModelError::NotAModel { .. }), "{other}");
    let page = open(&folder.path().join("m.gguf")).unwrap_err();
    assert!(matches!(page, ModelError::HtmlPage { .. }), "{page}");
}

#[test]
fn a_folder_of_gguf_files_is_answered_with_the_file_to_give() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.Q4_0.gguf"), b"GGUF").unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(matches!(&error, ModelError::GgufInside { found, .. } if found == "tiny.Q4_0.gguf"));
    assert!(error.to_string().contains("give that file itself"), "{error}");
}

#[test]
fn m2_numbers_that_are_none_are_refused_as_text() {
    for number in ["NaN", "Infinity", "1e999", "-1e999"] {
        let config = format!(r#"{{"model_type":"llama","rope_theta":{number}}}"#);
        let folder = folder(&[("config.json", config.as_bytes())]);
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, ModelError::BadJson { .. }), "{number}: {error}");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
