//! Tests of the reader: against gguf-py, and against files that lie.

mod faults;
mod golden;
mod mutations;
mod writer;

use std::path::{Path, PathBuf};

use super::{GgufError, GgufFile};

/// The file that gguf-py wrote.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/quant/gguf/blocks.gguf")
}

/// Opens bytes as a file.
fn open(bytes: &[u8]) -> Result<GgufFile, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}
