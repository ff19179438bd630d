//! Weights that cannot be used: pickles, GGUF files, numbers that are none.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::World;

const WEIGHTS: &str = "model/model.safetensors";

/// Training must fail with exit code `code`, say all of `wanted`, and leave no file of a run.
#[track_caller]
fn refused(world: &World, more: &[&str], code: i32, wanted: &[&str]) {
    world.train(more).ended(code, wanted);
    assert!(world.files("run").is_empty(), "{:?}", world.files("run").keys());
}

#[test]
fn w14_pickled_weights_alone_are_refused_unread() {
    let world = World::new();
    fs::remove_file(world.path(WEIGHTS)).unwrap();
    let pickle = b"cos\nsystem\n(S'touch canary'\ntR.";
    fs::write(world.path("model/pytorch_model.bin"), pickle).unwrap();
    let wanted = ["`pytorch_model.bin`", "pickle is not read", "convert the model"];
    refused(&world, &[], 4, &wanted);
    let itself = ["--set", "model=model/pytorch_model.bin"];
    let wanted = ["model/pytorch_model.bin`", "pickle is not read", "`model.safetensors`"];
    refused(&world, &itself, 4, &wanted);
    assert!(!world.path("canary").exists(), "the pickle was run");
}

/// A GGUF file of one tensor and no metadata.
fn gguf(magic: &[u8], n_tensors: u64, size: u64, code: u32) -> Vec<u8> {
    let name = b"token_embd.weight";
    let mut file = magic.to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(n_tensors.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend((name.len() as u64).to_le_bytes());
    file.extend(name);
    file.extend(1_u32.to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend(code.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 128, 0);
    file
}

#[test]
fn broken_gguf_files_are_refused_with_what_is_wrong() {
    let world = World::new();
    let cases: [(Vec<u8>, &[&str]); 5] = [
        (gguf(b"GGML", 1, 32, 0), &["begins with `GGML`, not with `GGUF`"]),
        (
            gguf(b"GGUF", u64::MAX, 32, 0),
            &["the number of tensors is 18446744073709551615", "fetch it again"],
        ),
        (
            gguf(b"GGUF", 1, 32, 99),
            &["tensor `token_embd.weight` has type 99", "supported are", "convert it"],
        ),
        (
            gguf(b"GGUF", 1, 1 << 20, 0),
            &["tensor `token_embd.weight`", "past the end of the file", "fetch it again"],
        ),
        (gguf(b"GGUF", 1, 32, 0), &["general.architecture"]),
    ];
    for (bytes, wanted) in cases {
        fs::write(world.path("m.gguf"), bytes).unwrap();
        refused(&world, &["--set", "model=m.gguf"], 4, wanted);
    }
}

#[test]
fn m2_gguf_metadata_out_of_range_are_refused() {
    let world = World::new();
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/tiny/tiny.gguf");
    let key = b"llama.block_count\x04\0\0\0";
    let mut bytes = fs::read(tiny).unwrap();
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    bytes[at..at + 4].copy_from_slice(&1_000_000_000u32.to_le_bytes());
    fs::write(world.path("m.gguf"), bytes).unwrap();
    let wanted = ["`num_hidden_layers`", "`1000000000`", "from 1 to 1024"];
    refused(&world, &["--set", "model=m.gguf"], 4, &wanted);
}

/// Writes `values` over the first weights of a tensor.
fn spoil(path: &Path, tensor: &str, values: &[f32]) {
    let mut bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let start = 8 + len + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes[start..start + values.len()].copy_from_slice(&values);
    fs::write(path, bytes).unwrap();
}

/// A world whose model has two weights that are no number and one that is infinite.
fn spoilt() -> World {
    let world = World::new();
    let path = world.path(WEIGHTS);
    spoil(&path, "model.layers.0.mlp.up_proj.weight", &[f32::NAN, 0.5, f32::NAN]);
    spoil(&path, "model.norm.weight", &[f32::NEG_INFINITY]);
    world
}

#[test]
fn w11_a_scan_counts_weights_that_are_not_finite() {
    let world = spoilt();
    let output = world.command(&["model", "inspect", "model", "--scan", "--json"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["non_finite"], 3);
}

#[test]
fn w11_training_on_weights_that_are_not_finite_is_refused_before_the_first_step() {
    let wanted = [
        "3 weights in 2 tensors are NaN or infinite",
        "`model.layers.0.mlp.up_proj.weight`",
        "`model`",
        "`--allow-nonfinite-base`",
    ];
    refused(&spoilt(), &[], 7, &wanted);
}

#[test]
fn w11_training_goes_on_where_it_is_allowed() {
    let world = spoilt();
    // Every loss is NaN, which the loop ends in its own way.
    let wanted = ["3 weights in 2 tensors", "the run goes on", "3 steps in a row were not finite"];
    world.train(&["--allow-nonfinite-base"]).ended(7, &wanted);
    let wanted = ["status      failed", "the run has failed: ", "3 steps in a row"];
    world.run(&["runs", "show", "run"]).ended(0, &wanted);
    let done = World::new().train(&["--allow-nonfinite-base", "--set", "train.max_steps=2"]);
    done.ended(0, &["Succeeded after 2 steps"]);
    assert!(!done.said.contains("NaN or infinite"), "{}", done.said);
}

#[test]
fn w15_a_pipe_named_as_a_pickle_beside_the_weights_is_not_opened() {
    let world = World::new();
    let pipe = world.path("model/pytorch_model.bin");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    world.train(&["--set", "train.max_steps=2"]).ended(0, &["Succeeded after 2 steps"]);
}
