//! What a run cannot know by itself: the program it is part of and the machine.

use std::fmt;
use std::path::Path;

use crate::dataset::Dataset;
use crate::error::RunError;
use crate::events::{DataStatistics, Environment, length_bins};
use crate::fingerprint::{self, Extent};

/// What the program says of itself and its machine; all of it may be left out.
#[derive(Clone, Default)]
pub struct Host {
    /// The processor's name.
    pub cpu: Option<String>,
    /// Threads that the machine runs at once.
    pub threads: Option<u64>,
    /// Backends in the program.
    pub features: Vec<String>,
    /// BLAKE3 of the program's file.
    pub program_blake3: Option<String>,
    /// Says how much memory the process has held at most, in bytes; asked after every update.
    pub memory: Option<fn() -> Option<u64>>,
}

impl Host {
    /// Most memory that the process has held at once, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory.and_then(|ask| ask())
    }

    /// What a run computes with and on.
    pub fn environment(&self) -> Environment {
        Environment {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: self.cpu.clone(),
            threads: self.threads,
            features: self.features.clone(),
            program_blake3: self.program_blake3.clone(),
            model_blake3: None,
            model_full_blake3: None,
        }
    }

    /// The same with the hash of the model at `path`; every byte is hashed only if `full`.
    pub(super) fn with_model(&self, path: &Path, full: bool) -> Result<Environment, RunError> {
        let hash = |extent| {
            fingerprint::model(path, extent)
                .map_err(|source| RunError::Io { path: path.to_owned(), source })
        };
        Ok(Environment {
            model_blake3: Some(hash(Extent::Ends)?),
            model_full_blake3: full.then(|| hash(Extent::Whole)).transpose()?,
            ..self.environment()
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.environment())
    }
}

/// What the rows of `dataset` are like; `blake3` is the hash of the files' bytes.
pub(super) fn statistics(dataset: &Dataset, blake3: &str) -> DataStatistics {
    let mut statistics = DataStatistics {
        train_rows: dataset.train.len() as u64,
        validation_rows: dataset.validation.len() as u64,
        total_tokens: dataset.total_tokens,
        target_tokens: dataset.target_tokens,
        truncated: dataset.lengths.truncated as u64,
        duplicates: dataset.duplicates() as u64,
        lengths: length_bins(dataset.train.iter().map(|sample| sample.tokens.len())),
        blake3: Some(blake3.to_owned()),
        ..DataStatistics::default()
    };
    for (_, reject) in &dataset.rejects {
        *statistics.rejected.entry(reject.reason.kind().to_owned()).or_default() += 1;
    }
    statistics
}
