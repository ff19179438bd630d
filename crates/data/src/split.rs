//! Which rows are trained on and which are held out.

use std::fmt;

use crate::error::DataError;
use crate::order::permutation;

/// Stream of the generator that draws splits, apart from those of the loader's epochs.
const SPLIT_STREAM: u64 = u64::MAX;

/// How much is held out for validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validation {
    /// That many rows.
    Rows(usize),
    /// That part of all rows, from 0 to 1, rounded to the nearest row and at least one.
    Fraction(f64),
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Fraction(part) => write!(f, "the fraction `{part}`"),
        }
    }
}

/// Row indices for training and for validation, each in ascending order.
///
/// The split depends on `n` and `seed` alone, never on what the rows hold.
///
/// # Errors
/// [`DataError::EmptySplit`] if either side would have no row.
pub fn split(
    n: usize,
    validation: Validation,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let empty = |side| DataError::EmptySplit { rows: n, validation: validation.to_string(), side };
    let held_out = match validation {
        Validation::Rows(rows) => rows,
        Validation::Fraction(part) if part > 0.0 && part <= 1.0 => {
            ((n as f64 * part).round() as usize).max(1)
        }
        Validation::Fraction(_) => 0,
    };
    if held_out == 0 {
        return Err(empty("validation"));
    }
    if held_out >= n {
        return Err(empty("training"));
    }
    let mut held = permutation(n, seed, SPLIT_STREAM);
    let mut train = held.split_off(held_out);
    train.sort_unstable();
    held.sort_unstable();
    Ok((train, held))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_is_on_exactly_one_side(n in 2usize..300, rows in 1usize..300, seed: u64) {
            prop_assume!(rows < n);
            let (train, held) = split(n, Validation::Rows(rows), seed).unwrap();
            prop_assert_eq!(held.len(), rows);
            let mut all = [train, held].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_empty_side_is_an_error() {
        for (n, validation) in [
            (10, Validation::Rows(10)),
            (10, Validation::Rows(0)),
            (1, Validation::Fraction(0.5)),
            (10, Validation::Fraction(0.0)),
            (10, Validation::Fraction(f64::NAN)),
            (10, Validation::Fraction(1.0)),
        ] {
            let error = split(n, validation, 0).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{n} {validation}");
        }
    }

    #[test]
    fn a_small_fraction_still_holds_out_one_row() {
        let (train, held) = split(10, Validation::Fraction(0.01), 3).unwrap();
        assert_eq!((train.len(), held.len()), (9, 1));
    }
}
