//! Models that cannot be used: each is refused before anything is written, by name and with advice.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Done, World, write_model, write_weights};

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

#[test]
fn m1_keys_that_name_code_are_ignored_with_a_note_each() {
    let world = World::new();
    let config = world.path("model/config.json");
    edit_json(&config, "auto_map", json!({ "AutoModelForCausalLM": "modeling_evil.Evil" }));
    edit_json(&config, "trust_remote_code", json!(true));
    edit_json(&config, "_attn_implementation_internal", json!("evil/kernel"));
    fs::write(world.path("model/modeling_evil.py"), "open('canary', 'w')").unwrap();
    let notes = ["`auto_map`", "`trust_remote_code`", "`_attn_implementation_internal`", "ignored"];
    let inspect = world.run(&["model", "inspect", "model"]);
    let train = world.train(&["--set", "train.max_steps=2"]);
    for done in [inspect, train] {
        done.ended(0, &notes);
        assert_eq!(done.said.matches("`auto_map`").count(), 1, "{}", done.said);
    }
    assert!(!world.path("canary").exists());
}

#[test]
fn w8_a_tokenizer_that_is_a_link_out_of_the_folder_is_refused() {
    let world = World::new();
    let tokenizer = world.path("model/tokenizer.json");
    fs::rename(&tokenizer, world.path("elsewhere.json")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.json", &tokenizer).unwrap();
    refused(&world, &[], 4, &["`tokenizer.json`", "not a plain file inside the folder"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let world = World::new();
    edit_json(&world.path("model/config.json"), "max_position_embeddings", json!(16));
    let prompt = "red lamp ".repeat(40);
    let done = world.run(&["chat", "--model", "model", "--device", "cpu", "--prompt", &prompt]);
    done.ended(2, &["tokens long", "the model's context has 16", "make it shorter"]);
    let number = done.said.split(" tokens long").next().unwrap().rsplit(' ').next().unwrap();
    assert!(number.parse::<usize>().unwrap() > 40, "{}", done.said);
    world.run(&["chat", "--model", "model", "--device", "cpu", "--prompt", "a"]).ended(0, &[]);
}

/// Puts a GPT-2 with 48 learned positions in place of the model.
fn write_gpt2(world: &World) {
    let folder = world.path("model");
    let config = json!({
        "model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 1, "n_positions": 48,
        "vocab_size": 1536, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "eos_token_id": 2,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let block = [
        ("ln_1.weight", vec![32]),
        ("ln_1.bias", vec![32]),
        ("attn.c_attn.weight", vec![32, 96]),
        ("attn.c_attn.bias", vec![96]),
        ("attn.c_proj.weight", vec![32, 32]),
        ("attn.c_proj.bias", vec![32]),
        ("ln_2.weight", vec![32]),
        ("ln_2.bias", vec![32]),
        ("mlp.c_fc.weight", vec![32, 128]),
        ("mlp.c_fc.bias", vec![128]),
        ("mlp.c_proj.weight", vec![128, 32]),
        ("mlp.c_proj.bias", vec![32]),
    ];
    let around = [
        ("wte.weight", vec![1536, 32]),
        ("wpe.weight", vec![48, 32]),
        ("ln_f.weight", vec![32]),
        ("ln_f.bias", vec![32]),
    ];
    let block = block.map(|(name, shape)| (format!("transformer.h.0.{name}"), shape));
    let around = around.map(|(name, shape)| (format!("transformer.{name}"), shape));
    write_weights(&folder, block.into_iter().chain(around).collect());
}

#[test]
fn rows_longer_than_the_learned_positions_are_refused_before_anything_is_read() {
    let world = World::new();
    write_gpt2(&world);
    let wanted = ["`data.max_tokens` is `64`", "wanted at most `48`", "learned 48 positions"];
    refused(&world, &[], 2, &[&wanted[..], &["recipe.toml:8"]].concat());
    let fitting = ["--set", "data.max_tokens=48", "--set", "train.max_steps=2"];
    world.train(&fitting).ended(0, &["Succeeded after 2 steps"]);
}

#[test]
fn eval_cuts_rows_at_the_learned_positions() {
    let world = World::new();
    write_gpt2(&world);
    let long = support::chat(&[("user", &"red lamp ".repeat(80)), ("assistant", "red.")]);
    fs::write(world.path("long.jsonl"), format!("{}{long}\n", support::rows().concat())).unwrap();
    let done = world.run(&["eval", "--model", "model", "--device", "cpu", "--data", "long.jsonl"]);
    done.ended(0, &["validation loss"]);
}
