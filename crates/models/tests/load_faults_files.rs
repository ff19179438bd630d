//! Files of a model that are links, pipes or pickles.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rekindle_models::load::{HfFolder, open};
use rekindle_models::{ModelError, ModelFiles, WeightSource};
use tempfile::TempDir;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 5] =
    ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl"];

/// A safetensors file of one tensor `a`.
fn weights() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat()
}

/// A folder with a config and nothing else.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    folder
}

/// A pipe that nobody writes to: opening it for reading would never return.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What opening `path` gives, which must not take long.
#[track_caller]
fn opened(path: &Path) -> Result<ModelFiles, ModelError> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        // Nobody listens any more once the test has given up.
        let _given_up = sender.send(open(&path)).is_err();
    });
    receiver.recv_timeout(Duration::from_secs(10)).expect("opening hangs")
}

/// Asserts that the folder is refused because `name` leads out of it.
#[track_caller]
fn outside(folder: &Path, name: &str) {
    let error = opened(folder).unwrap_err();
    assert!(matches!(error, ModelError::OutsideFolder { .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
}

#[test]
fn w8_weights_that_are_a_link_out_of_the_folder_are_refused() {
    let (elsewhere, inside) = (folder(), folder());
    fs::write(elsewhere.path().join(SINGLE), weights()).unwrap();
    symlink(elsewhere.path().join(SINGLE), inside.path().join(SINGLE)).unwrap();
    outside(inside.path(), SINGLE);
}

#[test]
fn w8_a_shard_that_is_a_link_out_of_the_folder_is_refused() {
    let (elsewhere, inside) = (folder(), folder());
    fs::write(elsewhere.path().join("1.safetensors"), weights()).unwrap();
    fs::write(inside.path().join(INDEX), r#"{"weight_map":{"a":"1.safetensors"}}"#).unwrap();
    symlink(elsewhere.path().join("1.safetensors"), inside.path().join("1.safetensors")).unwrap();
    outside(inside.path(), "1.safetensors");
}

#[test]
fn w8_an_index_that_is_a_link_out_of_the_folder_is_refused() {
    let (elsewhere, inside) = (folder(), folder());
    fs::write(elsewhere.path().join(INDEX), r#"{"weight_map":{"a":"1.safetensors"}}"#).unwrap();
    fs::write(inside.path().join("1.safetensors"), weights()).unwrap();
    symlink(elsewhere.path().join(INDEX), inside.path().join(INDEX)).unwrap();
    outside(inside.path(), INDEX);
}

#[test]
fn w8_what_lies_outside_is_not_opened_even_to_be_refused() {
    let root = TempDir::new().unwrap();
    let inside = root.path().join("model");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("config.json"), "{}").unwrap();
    pipe(&root.path().join("pipe"));
    for name in ["../pipe", "linked"] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        fs::write(inside.join(INDEX), index).unwrap();
        let link = inside.join("linked");
        if !link.exists() {
            symlink("../pipe", link).unwrap();
        }
        outside(&inside, name);
    }
}

#[test]
fn w8_files_beside_the_weights_may_not_lead_out_of_the_folder_either() {
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        let (elsewhere, inside) = (folder(), folder());
        fs::write(inside.path().join(SINGLE), weights()).unwrap();
        fs::write(elsewhere.path().join(name), "{}").unwrap();
        let link = inside.path().join(name);
        if link.exists() {
            fs::remove_file(&link).unwrap();
        }
        symlink(elsewhere.path().join(name), &link).unwrap();
        outside(inside.path(), name);
        let error = HfFolder::open_without_weights(inside.path()).unwrap_err();
        assert!(matches!(error, ModelError::OutsideFolder { .. }), "{error}");

        // A link within the folder is as good as the file.
        fs::remove_file(&link).unwrap();
        fs::write(inside.path().join("real"), "{}").unwrap();
        symlink("real", &link).unwrap();
        opened(inside.path()).unwrap();
    }
}

#[test]
fn hugging_faces_cache_may_link_to_its_blobs() {
    let cache = TempDir::new().unwrap();
    let revision = cache.path().join("snapshots/0123");
    fs::create_dir_all(&revision).unwrap();
    let blobs = cache.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    for (name, bytes) in [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("chat_template.jinja", b"{{ messages }}".to_vec()),
        (SINGLE, weights()),
    ] {
        fs::write(blobs.join(format!("blob-of-{name}")), bytes).unwrap();
        symlink(format!("../../blobs/blob-of-{name}"), revision.join(name)).unwrap();
    }
    let model = HfFolder::open(&revision).unwrap();
    assert_eq!(model.names(), ["a"]);
    assert_eq!(model.tokenizer(), Some(revision.join("tokenizer.json")));

    fs::write(cache.path().join("outside"), "{}").unwrap();
    symlink("../../outside", revision.join("generation_config.json")).unwrap();
    outside(&revision, "generation_config.json");
}

#[test]
fn pipes_in_place_of_files_are_refused_at_once() {
    for name in ["config.json", "tokenizer.json", "chat_template.jinja", INDEX] {
        let folder = folder();
        let path = folder.path().join(name);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        pipe(&path);
        let error = opened(folder.path()).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
        let said = error.to_string();
        assert!(said.contains(name) && said.contains("not a regular file"), "{said}");
    }
}

/// What a pickle may begin with: protocol 2, a TAR header, a ZIP file.
fn pickles() -> [Vec<u8>; 3] {
    let mut tar = vec![0; 512];
    tar[..7].copy_from_slice(b"storage");
    tar[257..265].copy_from_slice(b"ustar\x0000");
    [b"\x80\x02cos\nsystem\n".to_vec(), tar, b"PK\x03\x04archive/data.pkl".to_vec()]
}

/// Asserts that the folder is refused for its pickle `name`.
#[track_caller]
fn pickle_only(folder: &Path, name: &str) {
    let error = opened(folder).unwrap_err();
    assert!(matches!(&error, ModelError::PickleOnly { found, .. } if found == name), "{error}");
    assert_eq!(error.exit_code(), 4);
    let said = error.to_string();
    assert!(said.contains("pickle is not read") && said.contains("convert the model"), "{said}");
}

#[test]
fn w14_pickles_alone_are_refused_by_their_names_unread() {
    for name in PICKLES {
        for body in pickles() {
            let folder = folder();
            fs::write(folder.path().join(name), body).unwrap();
            pickle_only(folder.path(), name);
        }
        let folder = folder();
        pipe(&folder.path().join(name));
        pickle_only(folder.path(), name);
    }
}

#[test]
fn w14_a_pickle_given_as_the_model_is_none() {
    let folder = folder();
    for name in PICKLES {
        let path = folder.path().join(name);
        for body in pickles() {
            fs::write(&path, body).unwrap();
            let error = opened(&path).unwrap_err();
            assert!(matches!(error, ModelError::NotAModel { .. }), "{name}: {error}");
            assert_eq!(error.exit_code(), 4);
        }
        fs::remove_file(&path).unwrap();
        pipe(&path);
        assert!(matches!(opened(&path), Err(ModelError::NotAModel { .. })), "{name}");
    }
}

#[test]
fn w15_a_pickle_beside_safetensors_is_not_opened() {
    for name in PICKLES {
        let folder = folder();
        fs::write(folder.path().join(SINGLE), weights()).unwrap();
        pipe(&folder.path().join(name));
        assert_eq!(opened(folder.path()).unwrap().source().names(), ["a"]);
    }
}
