//! A Hugging Face model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use serde_json::Value;

use super::safetensors_file::SafetensorsFile;
use super::{WeightSource, index, suspect};
use crate::error::ModelError;

/// Endings of files that may be pickles.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// Files that are read beside the config, where the folder has them.
const COMPANIONS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// A folder with `config.json` and, unless it was opened without, safetensors weights.
///
/// Pickles beside them are neither opened nor looked at.
#[derive(Debug)]
pub struct HfFolder {
    folder: PathBuf,
    config: Value,
    files: Vec<SafetensorsFile>,
    homes: BTreeMap<String, usize>, // tensor to index in `files`
}

impl HfFolder {
    /// Opens the folder and checks the headers of its weights.
    ///
    /// # Errors
    /// [`ModelError`] where the config is no JSON object, there are no weights that can be read,
    /// or they are broken.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let mut opened = Self::open_without_weights(folder)?;
        let single = folder.join("model.safetensors");
        let listing = folder.join("model.safetensors.index.json");
        opened.files = if single.exists() {
            index::stays_inside(folder, &single)?;
            vec![SafetensorsFile::open(&single)?]
        } else if listing.exists() {
            index::stays_inside(folder, &listing)?;
            index::open_shards(folder, &listing)?
        } else {
            return Err(without_weights(folder));
        };
        for (home, file) in opened.files.iter().enumerate() {
            opened.homes.extend(file.tensors.keys().map(|name| (name.clone(), home)));
        }
        Ok(opened)
    }

    /// Opens the folder for its config and tokenizer alone, as training from scratch needs it.
    ///
    /// # Errors
    /// [`ModelError`] where there is no folder, its config is no JSON object, or a file that would
    /// be read is a link out of the folder or no regular file.
    pub fn open_without_weights(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(without_config(folder));
        }
        for name in ["config.json"].iter().chain(&COMPANIONS) {
            refuse_strange(folder, &folder.join(name))?;
        }
        let config = read_json(&path)?;
        if !config.is_object() {
            let reason = "no JSON object".to_owned();
            return Err(ModelError::BadJson { path, reason });
        }
        let (files, homes) = (Vec::new(), BTreeMap::new());
        Ok(Self { folder: folder.to_owned(), config, files, homes })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The files that hold the weights, in the order of their names.
    pub fn weight_files(&self) -> Vec<&Path> {
        self.files.iter().map(SafetensorsFile::path).collect()
    }

    /// `tokenizer.json`, where the folder has one.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        self.file("tokenizer.json")
    }

    /// `tokenizer_config.json`, where the folder has one.
    pub fn tokenizer_config(&self) -> Option<PathBuf> {
        self.file("tokenizer_config.json")
    }

    /// `chat_template.jinja`, where the folder has one.
    pub fn chat_template(&self) -> Option<PathBuf> {
        self.file("chat_template.jinja")
    }

    /// `generation_config.json`, where the folder has one.
    pub fn generation_config(&self) -> Option<PathBuf> {
        self.file("generation_config.json")
    }

    /// What the config asks for that is not done: keys that name code.
    pub fn notes(&self) -> Vec<String> {
        const CODE: [&str; 4] = [
            "auto_map",
            "trust_remote_code",
            "_attn_implementation",
            "_attn_implementation_internal",
        ];
        let named =
            CODE.into_iter().filter(|key| self.config.get(key).is_some_and(|it| !it.is_null()));
        let note = |key| {
            format!(
                "`{key}` of `config.json` names code; it is ignored, no remote code is ever run"
            )
        };
        named.map(note).collect()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name)).filter(|path| path.is_file())
    }
}

impl WeightSource for HfFolder {
    fn names(&self) -> Vec<String> {
        self.homes.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.files[*self.homes.get(name)?].shape(name)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        match self.homes.get(name) {
            Some(&home) => self.files[home].read_f32(name),
            None => Err(ModelError::NoTensor { name: name.to_owned() }),
        }
    }

    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        match self.homes.get(name) {
            Some(&home) => self.files[home].read(name),
            None => Err(ModelError::NoTensor { name: name.to_owned() }),
        }
    }

    fn describe(&self) -> String {
        let n_files = self.files.len();
        let noun = if n_files == 1 { "file" } else { "files" };
        format!("safetensors in {n_files} {noun} of `{}`", self.folder.display())
    }
}

/// Opens one safetensors file and checks its header, as is done for those of a model.
///
/// # Errors
/// [`ModelError`] where the file cannot be read or is broken.
pub fn open_safetensors(path: &Path) -> Result<impl WeightSource + use<>, ModelError> {
    SafetensorsFile::open(path)
}

/// Whether the ending of `path` is one that pickles have.
pub fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|ext| PICKLES.iter().any(|it| ext == *it))
}

/// Reads a JSON file.
///
/// # Errors
/// [`ModelError`] where the file cannot be read, is no regular file, or holds no JSON.
pub fn read_json(path: &Path) -> Result<Value, ModelError> {
    refuse_irregular(path)?;
    let bytes = std::fs::read(path).map_err(|error| ModelError::io(path, error))?;
    suspect::refuse(path, &bytes[..bytes.len().min(512)])?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::BadJson {
        path: path.to_owned(),
        reason: format!("no JSON: {error}"),
    })
}

/// Refuses a file that is there and is a link out of the folder or no regular file.
fn refuse_strange(folder: &Path, path: &Path) -> Result<(), ModelError> {
    if !path.exists() {
        return Ok(());
    }
    index::stays_inside(folder, path)?;
    refuse_irregular(path)
}

/// Refuses what is no regular file: reading a pipe would wait for a writer.
fn refuse_irregular(path: &Path) -> Result<(), ModelError> {
    if path.metadata().map_err(|error| ModelError::io(path, error))?.is_file() {
        return Ok(());
    }
    Err(ModelError::BadJson {
        path: path.to_owned(),
        reason: "not a regular file; put the file itself there".to_owned(),
    })
}

/// Why a folder without `config.json` cannot be used.
fn without_config(folder: &Path) -> ModelError {
    let folder = folder.to_owned();
    let is_gguf = |path: &Path| path.extension().is_some_and(|ext| ext == "gguf");
    match first_named(&folder, is_gguf) {
        Ok(Some(found)) => ModelError::GgufInside { folder, found },
        _ => ModelError::NotFound { path: folder },
    }
}

/// Why a folder without safetensors cannot be used.
fn without_weights(folder: &Path) -> ModelError {
    let found = first_named(folder, is_pickle);
    let folder = folder.to_owned();
    match found {
        Ok(Some(found)) => ModelError::PickleOnly { folder, found },
        Ok(None) => ModelError::NoWeights { folder },
        Err(error) => ModelError::io(&folder, error),
    }
}

/// The name, first in their order, of a file in `folder` that is `wanted`.
fn first_named(folder: &Path, wanted: impl Fn(&Path) -> bool) -> std::io::Result<Option<String>> {
    let names = folder
        .read_dir()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| wanted(path))
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok(names.min())
}
