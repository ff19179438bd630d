//! The model, the rows and the recipe that come with the program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::RunError;

/// Files of the embedded base model and its instruction set.
const FILES: [(&str, &[u8]); 8] = [
    ("config.json", include_bytes!("../assets/config.json")),
    ("generation_config.json", include_bytes!("../assets/generation_config.json")),
    ("tokenizer.json", include_bytes!("../assets/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../assets/tokenizer_config.json")),
    ("chat_template.jinja", include_bytes!("../assets/chat_template.jinja")),
    ("model.safetensors", include_bytes!("../assets/model.safetensors")),
    ("instructions.jsonl", include_bytes!("../assets/instructions.jsonl")),
    ("instructions.heldout.jsonl", include_bytes!("../assets/instructions.heldout.jsonl")),
];

const RECIPE: &str = include_str!("../../../recipes/demo.toml");

/// The embedded files, on disk.
#[derive(Clone, Debug)]
pub struct Material {
    folder: PathBuf,
}

impl Material {
    /// Writes the embedded files into `folder`.
    ///
    /// # Errors
    /// [`RunError::Io`] where that fails.
    pub fn unpack(folder: &Path) -> Result<Self, RunError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        for (name, bytes) in FILES {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(io(&path))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder with the base model, a Hugging Face folder.
    pub fn model(&self) -> &Path {
        &self.folder
    }

    /// The demo's recipe with its paths in this folder and its results in `output`.
    pub fn recipe(&self, output: &Path, max_steps: Option<u64>) -> String {
        let folder = self.folder.display().to_string().replace('\\', "/");
        let text = RECIPE.replace("crates/recipe/assets", &folder);
        let mut recipe = String::new();
        for line in text.lines() {
            let line = match (line.split(" = ").next(), max_steps) {
                (Some("output"), _) => format!("output = {:?}", output.display().to_string()),
                (Some("max_steps"), Some(steps)) => format!("max_steps = {steps}"),
                _ => line.to_owned(),
            };
            recipe.push_str(&line);
            recipe.push('\n');
        }
        recipe
    }
}
