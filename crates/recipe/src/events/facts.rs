//! What is known of a run before its first update: its rows and its surroundings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the rows of a run are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DataStatistics {
    /// Rows that are trained on.
    pub train_rows: u64,
    /// Rows that are held out.
    pub validation_rows: u64,
    /// Tokens of the training rows.
    pub total_tokens: u64,
    /// Those of them that are trained on.
    pub target_tokens: u64,
    /// Training rows that were cut.
    pub truncated: u64,
    /// Training rows whose tokens are those of an earlier one.
    pub duplicates: u64,
    /// Number of rows that were left out, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// How long the training rows are.
    pub lengths: Vec<LengthBin>,
    /// BLAKE3 of the files' bytes, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl DataStatistics {
    /// The share of training tokens that are targets, 0 to 1.
    pub fn target_share(&self) -> f64 {
        self.target_tokens as f64 / self.total_tokens.max(1) as f64
    }
}

/// Rows whose lengths lie within one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LengthBin {
    /// Fewest tokens of a row counted here.
    pub from: u64,
    /// Most tokens of a row counted here.
    pub to: u64,
    /// Number of rows.
    pub rows: u64,
}

/// Most bins of a histogram.
const BINS: u64 = 16;

/// A histogram of lengths in tokens: at most 16 bins of one width, from 1 to the longest row.
pub fn length_bins(lengths: impl Iterator<Item = usize>) -> Vec<LengthBin> {
    let lengths: Vec<u64> = lengths.map(|length| (length as u64).max(1)).collect();
    let Some(longest) = lengths.iter().copied().max() else { return Vec::new() };
    let width = longest.div_ceil(BINS);
    let bin = |index: u64| LengthBin { from: index * width + 1, to: (index + 1) * width, rows: 0 };
    let mut bins: Vec<_> = (0..longest.div_ceil(width)).map(bin).collect();
    for length in lengths {
        bins[((length - 1) / width) as usize].rows += 1;
    }
    bins
}

/// What a run computes with and on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Environment {
    /// The version of Rekindle.
    pub version: String,
    /// The operating system.
    pub os: String,
    /// The architecture of the processor.
    pub arch: String,
    /// The processor's name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Threads that the machine runs at once, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// Backends in the program.
    pub features: Vec<String>,
    /// BLAKE3 of the program's file, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_blake3: Option<String>,
    /// BLAKE3 of the base model: of all but its weights, and of either end of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_blake3: Option<String>,
    /// BLAKE3 of every byte of the base model, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_full_blake3: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_bin_of_its_length() {
        assert_eq!(length_bins([].into_iter()), []);
        let one = length_bins([0, 1, 1].into_iter());
        assert_eq!(one, [LengthBin { from: 1, to: 1, rows: 3 }]);
        for longest in [2, 15, 16, 17, 100, 4096] {
            let bins = length_bins(1..=longest);
            assert!(bins.len() <= 16, "{longest}");
            assert_eq!(bins.iter().map(|bin| bin.rows).sum::<u64>(), longest as u64);
            let last = bins.last().unwrap();
            assert!((last.from..=last.to).contains(&(longest as u64)));
            for bin in &bins[..bins.len() - 1] {
                assert_eq!(bin.rows, bin.to - bin.from + 1);
            }
        }
    }
}
