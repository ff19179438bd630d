//! A folder with a very small model, rows and a recipe, and the program to run in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Files of the model that comes with the program; its weights are not among them.
const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipe/assets");

const RECIPE: &str = r#"
model = "model"
output = "run"
seed = 7

[data]
train = "rows.jsonl"
max_tokens = 64

[method.lora]
r = 4
lora_alpha = 8.0

[train]
max_steps = 6
batch_size = 4
learning_rate = 1e-2

[train.schedule.cosine]
warmup_steps = 2
"#;

/// Rows in `rows.jsonl`.
pub const ROWS: usize = 18;

/// A temporary folder that a command runs in: `model`, `rows.jsonl` and `recipe.toml`.
pub struct World {
    dir: TempDir,
}

/// What a command left behind.
pub struct Done {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All that it printed.
    pub said: String,
}

impl World {
    /// A world in which `train` succeeds.
    pub fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(world.path("recipe.toml"), RECIPE).unwrap();
        fs::write(world.path("rows.jsonl"), rows().concat()).unwrap();
        let model = world.path("model");
        fs::create_dir(&model).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            fs::copy(Path::new(ASSETS).join(name), model.join(name)).unwrap();
        }
        write_model(&model, 1536);
        world
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `rekindle` with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Trains as `recipe.toml` says, with more arguments.
    pub fn train(&self, more: &[&str]) -> Done {
        let first = ["train", "recipe.toml", "--device", "cpu", "--plain"];
        self.run(&[&first, more].concat())
    }

    /// What `rekindle` with these arguments does.
    pub fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Done { code: output.status.code(), said: String::from_utf8(said).unwrap() }
    }

    /// Every file below `name` with its bytes; a run's lock, which says nothing, is left out.
    pub fn files(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.path(name)]);
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("run.lock") {
                    files.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        files
    }
}

impl Done {
    /// Asserts the exit code and that each of `wanted` was said.
    #[track_caller]
    pub fn ended(&self, code: i32, wanted: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.said);
        assert!(!self.said.contains("panicked"), "{}", self.said);
        for part in wanted {
            assert!(self.said.contains(part), "wanted `{part}` in: {}", self.said);
        }
    }
}

/// The lines of `rows.jsonl`.
pub fn rows() -> Vec<String> {
    let colours = ["red", "green", "blue"];
    let things = ["lamp", "book", "key", "rope", "boat", "spoon"];
    let rows = (0..ROWS).map(|i| {
        let (thing, colour) = (things[i % 6], colours[i / 6]);
        let question = format!("The {thing} is {colour}. What colour is the {thing}?");
        format!("{}\n", chat(&[("user", &question), ("assistant", &format!("{colour}."))]))
    });
    rows.collect()
}

/// A row of turns.
pub fn chat(turns: &[(&str, &str)]) -> Value {
    let turns = turns.iter().map(|(role, text)| json!({ "role": role, "content": text }));
    json!({ "messages": turns.collect::<Vec<_>>() })
}

/// Writes a config and random weights with `vocab` embedding rows.
pub fn write_model(folder: &Path, vocab: usize) {
    let text = fs::read_to_string(Path::new(ASSETS).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let sizes = [
        ("vocab_size", vocab),
        ("hidden_size", 32),
        ("intermediate_size", 64),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 2),
        ("num_key_value_heads", 1),
        ("head_dim", 16),
    ];
    for (key, size) in sizes {
        config[key] = json!(size);
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let layer = [
        ("input_layernorm", vec![32]),
        ("self_attn.q_proj", vec![32, 32]),
        ("self_attn.k_proj", vec![16, 32]),
        ("self_attn.v_proj", vec![16, 32]),
        ("self_attn.o_proj", vec![32, 32]),
        ("post_attention_layernorm", vec![32]),
        ("mlp.gate_proj", vec![64, 32]),
        ("mlp.up_proj", vec![64, 32]),
        ("mlp.down_proj", vec![32, 64]),
    ];
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, 32]),
        ("model.norm.weight".to_owned(), vec![32]),
    ];
    shapes.extend(layer.map(|(name, shape)| (format!("model.layers.0.{name}.weight"), shape)));
    write_weights(folder, shapes);
}

/// Writes random weights of these names and shapes.
pub fn write_weights(folder: &Path, shapes: Vec<(String, Vec<usize>)>) {
    let mut state = 1_u64;
    let filled: Vec<_> =
        shapes.into_iter().map(|(name, shape)| (name, random(&shape, &mut state), shape)).collect();
    let views = filled.iter().map(|(name, bytes, shape)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

/// Values in ±0.2, and around one for norms; Knuth's 64-bit congruential generator.
fn random(shape: &[usize], state: &mut u64) -> Vec<u8> {
    let middle = if shape.len() == 1 { 1.0 } else { 0.0 };
    let values = (0..shape.iter().product()).flat_map(|_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let unit = (*state >> 40) as f32 / (1_u64 << 24) as f32;
        (middle + 0.4 * (unit - 0.5)).to_le_bytes()
    });
    values.collect()
}
