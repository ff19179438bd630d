//! The manifest: size and hash of each file of a checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::FILES;
use super::disk::{Disk, io_error, write_new};
use crate::CheckpointError;

const MANIFEST: &str = "manifest.json";
/// Longest manifest read, in bytes; ours is a few hundred.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    blake3: String,
}

/// Writes the manifest of the files in `folder`.
pub(super) fn write(disk: &dyn Disk, folder: &Path) -> Result<(), CheckpointError> {
    let mut files = BTreeMap::new();
    for name in FILES {
        let path = folder.join(name);
        let entry = measure(&path).map_err(|cause| io_error("read back", &path, cause))?;
        files.insert(name.to_string(), entry);
    }
    let text = serde_json::to_vec_pretty(&Manifest { files }).expect("strings and numbers");
    write_new(disk, &folder.join(MANIFEST), |out| out.write_all(&text))
}

/// Everything in `folder` that is not as its manifest says; empty for a whole checkpoint.
///
/// Only the files that this version writes are opened, so a manifest naming others, inside the
/// folder or outside, reads nothing.
pub(super) fn problems(folder: &Path) -> Vec<String> {
    let manifest = match read(&folder.join(MANIFEST)) {
        Ok(manifest) => manifest,
        Err(problem) => return vec![format!("`{MANIFEST}` {problem}")],
    };
    let strangers = manifest.files.keys().filter(|name| !FILES.contains(&name.as_str()));
    let mut problems: Vec<_> =
        strangers.map(|name| format!("`{MANIFEST}` names an unknown file {name:?}")).collect();
    for name in FILES {
        let Some(wanted) = manifest.files.get(name) else {
            problems.push(format!("`{MANIFEST}` does not name `{name}`"));
            continue;
        };
        match measure(&folder.join(name)) {
            Err(cause) => problems.push(format!("`{name}` cannot be read: {cause}")),
            Ok(found) if found.bytes != wanted.bytes => problems
                .push(format!("`{name}` has {} bytes instead of {}", found.bytes, wanted.bytes)),
            Ok(found) if found.blake3 != wanted.blake3 => {
                problems.push(format!("`{name}` differs from its blake3 hash"));
            }
            Ok(_) => {}
        }
    }
    problems
}

fn read(path: &Path) -> Result<Manifest, String> {
    let text = bounded(path, MAX_MANIFEST_BYTES)?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot be parsed: {error}"))
}

/// The content of a regular file of at most `max` bytes, or what is wrong with it.
pub(super) fn bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let file = open_regular(path).map_err(|cause| format!("cannot be read: {cause}"))?;
    let mut text = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut text);
    read.map_err(|cause| format!("cannot be read: {cause}"))?;
    if text.len() as u64 > max {
        return Err(format!("is longer than {max} bytes"));
    }
    Ok(text)
}

fn measure(path: &Path) -> io::Result<Entry> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open_regular(path)?)?;
    Ok(Entry { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
}

/// Opens a regular file, not a link to one.
fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}
