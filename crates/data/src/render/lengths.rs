//! What becomes of a row that is longer than it may be.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Sample;
use crate::error::RowError;

/// What becomes of a row with more than the longest length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooLong {
    /// Its end is cut off.
    #[default]
    TruncateRight,
    /// Its beginning is cut off.
    TruncateLeft,
    /// It becomes several samples of at most the longest length; those without a target are left
    /// out, and counted.
    Split,
    /// It is left out, and counted.
    Drop,
    /// The whole work stops.
    Error,
}

impl TooLong {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::TruncateRight, "truncate_right"),
        (Self::TruncateRight, "truncate"),
        (Self::TruncateLeft, "truncate_left"),
        (Self::Split, "split"),
        (Self::Drop, "drop"),
        (Self::Error, "error"),
    ];
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(policy, _)| policy == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// A name of a policy for long rows that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no policy for long rows is called `{0}`; wanted truncate_right, truncate_left, split, drop or \
     error"
)]
pub struct UnknownTooLongName(pub String);

impl FromStr for TooLong {
    type Err = UnknownTooLongName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let plain = name.to_lowercase().replace('-', "_");
        let known = Self::NAMES.iter().find(|(_, known)| *known == plain);
        known.map(|(policy, _)| *policy).ok_or_else(|| UnknownTooLongName(name.into()))
    }
}

/// The samples that a row gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Each sample with the place of its first token in the row; at least one.
    pub samples: Vec<(usize, Sample)>,
    /// Pieces that were left out because they hold no target.
    pub dropped: usize,
    /// The row's length before anything was done about it, in tokens.
    pub tokens: usize,
}

impl Pieces {
    /// Whether the row was split.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.samples.len() + self.dropped > 1
    }
}

/// The samples of a row after `policy` was applied to it.
///
/// A piece's first token is no target that can be predicted, as in any sample.
pub(super) fn fit(row: Sample, policy: TooLong, max_tokens: usize) -> Result<Pieces, RowError> {
    if row.n_targets() == 0 {
        return Err(RowError::NoTarget);
    }
    let tokens = row.tokens.len();
    if tokens <= max_tokens {
        return Ok(Pieces { samples: vec![(0, row)], dropped: 0, tokens });
    }
    let mut samples = match policy {
        TooLong::Drop | TooLong::Error => return Err(RowError::TooLong { tokens, max_tokens }),
        TooLong::TruncateRight => vec![part(&row, 0..max_tokens, true)],
        TooLong::TruncateLeft => vec![part(&row, tokens - max_tokens..tokens, true)],
        TooLong::Split => {
            let starts = (0..tokens).step_by(max_tokens.max(1));
            let end = |start| tokens.min(start + max_tokens);
            starts.map(|start| part(&row, start..end(start), false)).collect()
        }
    };
    let all = samples.len();
    samples.retain(|(_, sample)| sample.n_targets() > 0);
    if samples.is_empty() {
        return Err(RowError::TargetCutAway { tokens, max_tokens });
    }
    Ok(Pieces { dropped: all - samples.len(), samples, tokens })
}

fn part(row: &Sample, range: Range<usize>, truncated: bool) -> (usize, Sample) {
    let (tokens, target) = (row.tokens[range.clone()].to_vec(), row.target[range.clone()].to_vec());
    (range.start, Sample { tokens, target, truncated })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Sample> {
        prop::collection::vec(any::<bool>(), 1..80).prop_map(|target| {
            let tokens = (0..target.len() as u32).collect();
            Sample { tokens, target, truncated: false }
        })
    }

    proptest! {
        #[test]
        fn splitting_loses_and_doubles_no_token(row in row(), max_tokens in 1usize..30) {
            let len = row.tokens.len();
            match fit(row.clone(), TooLong::Split, max_tokens) {
                Ok(pieces) => {
                    prop_assert_eq!(pieces.tokens, len);
                    prop_assert_eq!(pieces.samples.len() + pieces.dropped, len.div_ceil(max_tokens));
                    let mut kept = vec![false; len];
                    for (start, sample) in &pieces.samples {
                        let range = *start..start + sample.tokens.len();
                        prop_assert!(sample.tokens.len() <= max_tokens && sample.n_targets() > 0);
                        prop_assert_eq!(&sample.tokens, &row.tokens[range.clone()]);
                        prop_assert_eq!(&sample.target, &row.target[range.clone()]);
                        prop_assert!(!sample.truncated && !kept[range.clone()].contains(&true));
                        kept[range].fill(true);
                    }
                    // What is in no piece could not have been trained on in any.
                    let lost = (0..len).filter(|&place| !kept[place] && row.target[place]);
                    prop_assert!(lost.into_iter().all(|place| place.is_multiple_of(max_tokens)));
                }
                Err(error) => {
                    let trainable = |place: usize| row.target[place] && !place.is_multiple_of(max_tokens);
                    prop_assert!(!(0..len).any(trainable), "{}", error);
                }
            }
        }

        #[test]
        fn a_cut_keeps_the_end_that_it_names(row in row(), max_tokens in 2usize..30) {
            let len = row.tokens.len();
            for (policy, kept) in [
                (TooLong::TruncateRight, 0..max_tokens.min(len)),
                (TooLong::TruncateLeft, len.saturating_sub(max_tokens)..len),
            ] {
                let Ok(pieces) = fit(row.clone(), policy, max_tokens) else {
                    prop_assert!(!row.target[kept][1..].contains(&true));
                    continue;
                };
                prop_assert_eq!((pieces.samples.len(), pieces.dropped), (1, 0));
                let (start, sample) = &pieces.samples[0];
                prop_assert_eq!(*start, kept.start);
                prop_assert_eq!(&sample.tokens, &row.tokens[kept.clone()]);
                prop_assert_eq!(&sample.target, &row.target[kept]);
                prop_assert_eq!(sample.truncated, len > max_tokens);
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for (policy, _) in TooLong::NAMES {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("truncate".parse(), Ok(TooLong::TruncateRight));
        assert!("cut".parse::<TooLong>().is_err());
    }

    #[test]
    fn no_limit_makes_it_panic() {
        let row = Sample { tokens: vec![1; 3], target: vec![true; 3], truncated: false };
        for (policy, name) in TooLong::NAMES {
            assert!(fit(row.clone(), policy, 0).is_err(), "{name}");
            assert!(fit(row.clone(), policy, usize::MAX).is_ok(), "{name}");
        }
    }
}
