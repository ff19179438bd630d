//! The checkout: its root, its files and what `cargo metadata` says of its packages.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command;

/// Folders that hold no source of ours.
const SKIPPED_FOLDERS: &[&str] =
    &["target", ".git", "runs", "shared", ".device", ".cuda", ".gl", "__pycache__"];

/// The workspace this task was built from.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
}

/// One package of the workspace, with what tidy needs of it.
#[derive(Clone, Debug, Default)]
pub struct Package {
    pub name: String,
    pub dependencies: Vec<Dependency>,
    /// Feature name and what it switches on.
    pub features: Vec<(String, Vec<String>)>,
}

/// One dependency edge as the manifest states it.
#[derive(Clone, Debug, Default)]
pub struct Dependency {
    pub name: String,
    pub dev: bool,
    pub features: Vec<String>,
}

impl Workspace {
    /// The folder above this package's manifest.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("the manifest of xtask lies in no folder")?;
        Ok(Self { root: root.to_owned() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every file of the checkout as a path relative to the root with `/`, sorted.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        collect(&self.root, "", &mut files)?;
        files.sort();
        Ok(files)
    }

    /// A text file of the checkout; `None` if it is no UTF-8.
    pub fn read(&self, path: &str) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(path)).with_context(|| format!("reading `{path}`"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// The packages of the workspace, without their dependencies' own.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let packages = self.metadata()?;
        let packages = packages["packages"].as_array().context("metadata without packages")?;
        Ok(packages.iter().map(package).collect())
    }

    /// Where cargo puts what it builds; `CARGO_TARGET_DIR` is respected.
    pub fn target_dir(&self) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        let dir = metadata["target_directory"].as_str();
        Ok(PathBuf::from(dir.context("metadata without a target directory")?))
    }

    fn metadata(&self) -> Result<Value> {
        let args = ["metadata", "--no-deps", "--format-version", "1"];
        let text = command::output(&mut command::cargo(self, args))?;
        serde_json::from_str(&text).context("`cargo metadata` wrote no JSON")
    }
}

fn package(value: &Value) -> Package {
    let features = value["features"].as_object();
    Package {
        name: text(&value["name"]),
        dependencies: value["dependencies"].as_array().into_iter().flatten().map(edge).collect(),
        features: features
            .into_iter()
            .flatten()
            .map(|(name, values)| (name.clone(), texts(values)))
            .collect(),
    }
}

fn edge(value: &Value) -> Dependency {
    Dependency {
        name: text(&value["name"]),
        dev: value["kind"].as_str() == Some("dev"),
        features: texts(&value["features"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing `{prefix}`"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            collect(&entry.path(), &path, files)?;
        } else if kind.is_file() && !name.ends_with(".part") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_package_is_read_from_metadata() {
        let found = package(&json!({
            "name": "rekindle-quant",
            "features": {"default": [], "flex": ["burn/flex"]},
            "dependencies": [
                {"name": "burn", "kind": null, "features": ["std"]},
                {"name": "rekindle-testkit", "kind": "dev", "features": []},
            ],
        }));
        assert_eq!(found.name, "rekindle-quant");
        assert_eq!(found.features[1], ("flex".to_owned(), vec!["burn/flex".to_owned()]));
        assert!(!found.dependencies[0].dev);
        assert!(found.dependencies[1].dev);
    }

    #[test]
    fn the_listing_holds_this_file_and_nothing_built() {
        let files = Workspace::find().unwrap().files().unwrap();
        assert!(files.iter().any(|file| file == "xtask/src/workspace.rs"));
        assert!(files.iter().all(|file| !file.starts_with("target/")));
    }
}
