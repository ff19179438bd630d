//! Models that cannot be used: each is refused before anything is written, by name and with advice.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Done, World, write_model};

const WEIGHTS: &str = "model/model.safetensors";

/// Training must fail with exit code `code`, say all of `wanted`, and leave no file of a run.
#[track_caller]
fn refused(world: &World, more: &[&str], code: i32, wanted: &[&str]) -> Done {
    let inputs = world.files("model");
    let done = world.train(more);
    done.ended(code, wanted);
    assert!(world.files("run").is_empty(), "{:?}", world.files("run").keys());
    assert_eq!(world.files("model"), inputs, "the model must be left as it was");
    done
}

fn edit_json(path: &Path, key: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    json[key] = value;
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn the_unspoilt_model_trains() {
    let world = World::new();
    world.train(&["--set", "train.max_steps=2"]).ended(0, &["Succeeded after 2 steps"]);
    assert!(world.path("run/adapter/adapter_model.safetensors").is_file());
}

#[test]
fn a_model_that_is_nowhere_is_named() {
    let world = World::new();
    refused(&world, &["--set", "model=absent"], 4, &["no model at `absent`", "give a folder"]);
}

#[test]
fn a_folder_without_weights_is_refused() {
    let world = World::new();
    fs::remove_file(world.path(WEIGHTS)).unwrap();
    refused(&world, &[], 4, &["no weights in `model`", "wanted `model.safetensors`"]);
}

#[test]
fn pickled_weights_alone_are_refused_unread() {
    let world = World::new();
    fs::remove_file(world.path(WEIGHTS)).unwrap();
    fs::write(world.path("model/pytorch_model.bin"), b"cos\nsystem\n(S'touch run'\ntR.").unwrap();
    let wanted = ["`pytorch_model.bin`", "pickle is not read", "convert the model"];
    refused(&world, &[], 4, &wanted);
}

#[test]
fn truncated_weights_are_refused() {
    let world = World::new();
    let bytes = fs::read(world.path(WEIGHTS)).unwrap();
    for len in [4, 100, bytes.len() - 10] {
        fs::write(world.path(WEIGHTS), &bytes[..len]).unwrap();
        let what = if len == 4 { "is too small" } else { "is truncated" };
        refused(&world, &[], 4, &["model.safetensors`", what, "download it again"]);
    }
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let world = World::new();
    let tensor = |from, to| json!({ "dtype": "F32", "shape": [4], "data_offsets": [from, to] });
    let header = json!({ "first": tensor(0, 16), "second": tensor(8, 24) }).to_string();
    let len = (header.len() as u64).to_le_bytes();
    fs::write(world.path(WEIGHTS), [&len, header.as_bytes(), &[0; 24]].concat()).unwrap();
    refused(&world, &[], 4, &["model.safetensors`", "tensor `second` overlaps"]);
}

#[test]
fn weights_of_another_shape_are_listed() {
    let world = World::new();
    edit_json(&world.path("model/config.json"), "intermediate_size", json!(48));
    let wanted = ["`model.layers.0.mlp.up_proj.weight` is [64, 32], wanted [48, 32]"];
    refused(&world, &[], 4, &wanted);
}

#[test]
fn a_shard_that_the_index_names_must_be_there() {
    let world = World::new();
    let shard = "model-00001-of-00002.safetensors";
    fs::rename(world.path(WEIGHTS), world.path("model").join(shard)).unwrap();
    let map = json!({
        "model.norm.weight": shard,
        "model.embed_tokens.weight": "model-00002-of-00002.safetensors",
    });
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(world.path("model/model.safetensors.index.json"), index.to_string()).unwrap();
    let wanted = ["model-00002-of-00002.safetensors` is listed but absent"];
    refused(&world, &[], 4, &wanted);
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    let world = World::new();
    fs::rename(world.path(WEIGHTS), world.path("elsewhere.safetensors")).unwrap();
    let index = json!({ "weight_map": { "model.norm.weight": "../elsewhere.safetensors" } });
    fs::write(world.path("model/model.safetensors.index.json"), index.to_string()).unwrap();
    refused(&world, &[], 4, &["`../elsewhere.safetensors`", "refused and not opened"]);
}

#[test]
fn a_pointer_of_git_lfs_is_called_one() {
    let world = World::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    fs::write(world.path(WEIGHTS), pointer).unwrap();
    refused(&world, &[], 4, &["model.safetensors`", "Git LFS pointer", "`git lfs pull`"]);
}

#[test]
fn an_unknown_architecture_is_refused_without_running_its_code() {
    let world = World::new();
    let config = world.path("model/config.json");
    edit_json(&config, "model_type", json!("mamba"));
    edit_json(&config, "auto_map", json!({ "AutoModel": "modeling_evil.Evil" }));
    refused(&world, &[], 4, &["`mamba`", "no remote code is ever run", "supported:"]);
}

#[test]
fn a_tokenizer_with_more_ids_than_embeddings_is_refused() {
    let world = World::new();
    write_model(&world.path("model"), 1000);
    refused(&world, &[], 4, &["1536 ids", "1000 embedding rows", "tokenizer that came with"]);
}

#[test]
fn a_template_that_refuses_every_row_is_a_fault_of_the_data() {
    let world = World::new();
    let template = "{{ raise_exception('only poems are allowed') }}";
    fs::write(world.path("model/chat_template.jinja"), template).unwrap();
    for policy in ["data.on_bad_row=fail", "data.on_bad_row=skip"] {
        refused(&world, &["--set", policy], 3, &["only poems are allowed", "line 1"]);
    }
}

#[test]
fn a_template_that_is_not_valid_is_a_fault_of_the_model() {
    let world = World::new();
    let template = "{% for message in messages %}\n{{ message.content }\n{% endfor %}";
    fs::write(world.path("model/chat_template.jinja"), template).unwrap();
    refused(&world, &[], 4, &["the chat template is not valid", "line 2", "correct it"]);
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
