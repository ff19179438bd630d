//! Hashes by which files are known again.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes at either end of a file of weights that a quick hash reads.
const SAMPLE: u64 = 1 << 20;

/// Endings of the files in a model's folder that say what the model is.
const PARTS: [&str; 3] = ["json", "jinja", "safetensors"];

/// How much of a model's weights is read for its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The size of each file of weights, its first MiB, which begins with its header, and its last.
    Ends,
    /// Every byte.
    Whole,
}

/// BLAKE3 of a model: a GGUF file, or the configuration, tokenizer, template and weights of a
/// folder, each with its name. Where the model lies does not count.
///
/// # Errors
/// A file that cannot be read.
pub fn model(path: &Path, extent: Extent) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in parts(path)? {
        let is_weights = file.extension().is_some_and(|it| it == "safetensors" || it == "gguf");
        let name =
            if path.is_dir() { file.file_name().unwrap_or_default() } else { "gguf".as_ref() };
        let size = fs::metadata(&file)?.len();
        hasher.update(name.as_encoded_bytes()).update(&[0]).update(&size.to_le_bytes());
        if is_weights && extent == Extent::Ends && size > 2 * SAMPLE {
            let mut open = File::open(&file)?;
            hasher.update_reader((&mut open).take(SAMPLE))?;
            open.seek(SeekFrom::End(-(SAMPLE as i64)))?;
            hasher.update_reader(open)?;
        } else {
            hasher.update_reader(File::open(&file)?)?;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of a file.
///
/// # Errors
/// The file cannot be read.
pub fn file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The files that make a model, by name.
fn parts(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let is_part = PARTS.iter().any(|ending| file.extension().is_some_and(|it| it == *ending));
        if is_part && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_its_parts_wherever_it_lies() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let large = vec![7; 3 << 20];
        for folder in [&one, &other] {
            fs::write(folder.path().join("config.json"), "{}").unwrap();
            fs::write(folder.path().join("model.safetensors"), &large).unwrap();
        }
        fs::write(other.path().join("README.md"), "not a part").unwrap();
        let hash = |folder: &tempfile::TempDir, extent| model(folder.path(), extent).unwrap();
        let first = [Extent::Ends, Extent::Whole].map(|extent| hash(&one, extent));
        assert_eq!(first, [Extent::Ends, Extent::Whole].map(|extent| hash(&other, extent)));

        // A change in the middle is seen by the whole hash alone, one at the end by both.
        let mut changed = large.clone();
        changed[3 << 19] = 8;
        fs::write(other.path().join("model.safetensors"), &changed).unwrap();
        assert_eq!(first[0], hash(&other, Extent::Ends));
        assert_ne!(first[1], hash(&other, Extent::Whole));
        *changed.last_mut().unwrap() = 8;
        fs::write(other.path().join("model.safetensors"), &changed).unwrap();
        assert_ne!(first[0], hash(&other, Extent::Ends));
        fs::write(one.path().join("tokenizer.json"), "{}").unwrap();
        assert_ne!(first[0], hash(&one, Extent::Ends));
    }
}
