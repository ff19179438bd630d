//! Shards and the index that lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::safetensors_file::SafetensorsFile;
use crate::error::{ModelError, Problems};

/// Opens every shard that `index` lists and checks that tensors and shards agree.
pub(super) fn open_shards(folder: &Path, index: &Path) -> Result<Vec<SafetensorsFile>, ModelError> {
    let listed = weight_map(index)?;
    let names: BTreeSet<&str> = listed.values().map(String::as_str).collect();
    let mut paths = Vec::new();
    for name in names {
        if !is_plain(name) {
            let (path, name) = (index.to_owned(), name.to_owned());
            return Err(ModelError::OutsideFolder { path, name });
        }
        paths.push((name, folder.join(name)));
    }
    let mut problems = Vec::new();
    let mut shards = Vec::new();
    for (name, path) in &paths {
        if !path.exists() {
            problems.push(format!("shard `{name}` is listed but absent"));
            continue;
        }
        stays_inside(folder, path)?;
        match SafetensorsFile::open(path) {
            Ok(shard) => shards.push((*name, shard)),
            Err(error @ ModelError::Io { .. }) => return Err(error),
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems.extend(disagreements(&listed, &shards));
    if problems.is_empty() {
        return Ok(shards.into_iter().map(|(_, shard)| shard).collect());
    }
    Err(ModelError::Shards { path: index.to_owned(), problems: Problems(problems) })
}

/// Tensors in two shards, and tensors that are not in the shard listed for them.
fn disagreements(
    listed: &BTreeMap<String, String>,
    shards: &[(&str, SafetensorsFile)],
) -> Vec<String> {
    let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (shard, file) in shards {
        for tensor in file.tensors.keys() {
            if let Some(first) = homes.insert(tensor, shard) {
                problems.push(format!("tensor `{tensor}` is in two shards: `{first}`, `{shard}`"));
            }
        }
    }
    for (tensor, shard) in listed {
        let opened = shards.iter().find(|(name, _)| name == shard);
        if opened.is_some_and(|(_, file)| !file.tensors.contains_key(tensor)) {
            problems.push(format!("tensor `{tensor}` is listed for `{shard}` but absent there"));
        }
    }
    problems
}

/// The index's map from tensors to shards.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let bad = |reason: &str| ModelError::BadJson { path: index.to_owned(), reason: reason.into() };
    let json = super::hf::read_json(index)?;
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(bad("no object `weight_map` from tensors to shards"));
    };
    if map.is_empty() {
        return Err(bad("`weight_map` lists no tensor"));
    }
    let shards = map.iter().map(|(tensor, shard)| match shard.as_str() {
        Some(shard) => Ok((tensor.clone(), shard.to_owned())),
        None => Err(bad(&format!("shard of tensor `{tensor}` is `{shard}`, wanted a file name"))),
    });
    shards.collect()
}

/// Whether `name` is a file name alone on every system: no folder, no drive, no parent.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(['/', '\\', ':', '\0'])
}

/// Refuses a link that leads out of the model's folder.
///
/// A folder `snapshots/<revision>` of Hugging Face's cache links to blobs beside `snapshots`;
/// those belong to the model.
pub(super) fn stays_inside(folder: &Path, file: &Path) -> Result<(), ModelError> {
    let real = |path: &Path| path.canonicalize().map_err(|error| ModelError::io(path, error));
    let (root, target) = (real(folder)?, real(file)?);
    let cache = root.parent().filter(|parent| parent.ends_with("snapshots"));
    let blobs: Option<PathBuf> =
        cache.and_then(Path::parent).map(|repository| repository.join("blobs"));
    if target.starts_with(&root) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(ModelError::OutsideFolder { path: folder.to_owned(), name })
}
