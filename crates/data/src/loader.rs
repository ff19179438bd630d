//! Which rows go into which step, in an order that can be taken up again anywhere.

use serde::{Deserialize, Serialize};

use crate::order::permutation;
use crate::render::Sample;

/// Where a loader stands: the next step starts at `row` of epoch `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Rows of that epoch already given out.
    pub row: usize,
}

/// A number that a loader cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// There is nothing to load.
    #[error("the loader got no samples; wanted at least one")]
    NoSamples,
    /// A batch size is zero.
    #[error("`{name}` is 0; wanted at least 1")]
    Zero {
        /// Which size.
        name: &'static str,
    },
    /// The cursor is not one that this loader can have given.
    #[error(
        "the cursor is at row {row} of epoch {epoch}, wanted a multiple of {batch} below {rows} in \
         an epoch before {epochs}; the checkpoint was made with other data or another batch size"
    )]
    Cursor {
        /// Epoch of the cursor.
        epoch: u64,
        /// Row of the cursor.
        row: usize,
        /// Rows per step.
        batch: usize,
        /// Rows per epoch.
        rows: usize,
        /// Epochs in all, in words.
        epochs: String,
    },
}

/// Samples in a seeded order, cut into steps and steps into micro-batches.
///
/// Epoch *e* visits every sample once, in the permutation that ChaCha8 draws from (seed, *e*).
/// A step never crosses an epoch; the last step of an epoch may be short and is kept.
#[derive(Debug, Clone)]
pub struct Loader {
    samples: Vec<Sample>,
    batch: usize,
    micro: usize,
    seed: u64,
    epochs: Option<u64>,
    shuffle: bool,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Loader {
    /// A loader at the start of its first epoch.
    ///
    /// `batch` is rows per step, `micro` rows per forward pass, `epochs` how often the data are
    /// gone through (`None`: without end). Without `shuffle` the order is that of `samples`.
    ///
    /// # Errors
    /// [`LoaderError`] if there are no samples or a size is 0.
    pub fn new(
        samples: Vec<Sample>,
        batch: usize,
        micro: usize,
        seed: u64,
        epochs: Option<u64>,
        shuffle: bool,
    ) -> Result<Self, LoaderError> {
        if samples.is_empty() {
            return Err(LoaderError::NoSamples);
        }
        for (name, size) in [("batch", batch), ("micro", micro)] {
            if size == 0 {
                return Err(LoaderError::Zero { name });
            }
        }
        let cursor = Cursor::default();
        let mut loader =
            Self { samples, batch, micro, seed, epochs, shuffle, cursor, order: Vec::new() };
        loader.order = loader.order_of(0);
        Ok(loader)
    }

    /// All samples, in the order in which indices count them.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Steps in one epoch, a short last one included.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.samples.len().div_ceil(self.batch)
    }

    /// Where the next step starts.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes to a place that [`Loader::cursor`] has given, of this or of an equal loader.
    ///
    /// # Errors
    /// [`LoaderError::Cursor`] if no step starts there.
    pub fn seek(&mut self, cursor: Cursor) -> Result<(), LoaderError> {
        let rows = self.samples.len();
        let at_end = self.epochs.is_some_and(|last| cursor.epoch == last && cursor.row == 0);
        let inside = cursor.row.is_multiple_of(self.batch)
            && cursor.row < rows
            && self.epochs.is_none_or(|last| cursor.epoch < last);
        if !inside && !at_end {
            return Err(LoaderError::Cursor {
                epoch: cursor.epoch,
                row: cursor.row,
                batch: self.batch,
                rows,
                epochs: self.epochs.map_or_else(|| "any".into(), |last| last.to_string()),
            });
        }
        if cursor.epoch != self.cursor.epoch {
            self.order = self.order_of(cursor.epoch);
        }
        self.cursor = cursor;
        Ok(())
    }

    fn order_of(&self, epoch: u64) -> Vec<usize> {
        if self.shuffle {
            permutation(self.samples.len(), self.seed, epoch)
        } else {
            (0..self.samples.len()).collect()
        }
    }
}

impl Iterator for Loader {
    type Item = Vec<Vec<usize>>;

    /// The next step: its micro-batches, each a list of sample indices.
    fn next(&mut self) -> Option<Self::Item> {
        if self.epochs.is_some_and(|last| self.cursor.epoch >= last) {
            return None;
        }
        let rows = self.samples.len();
        let end = self.cursor.row.saturating_add(self.batch).min(rows);
        let step = self.order[self.cursor.row..end].chunks(self.micro).map(<[usize]>::to_vec);
        let step = step.collect();
        if end == rows {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, row: 0 };
            self.order = self.order_of(self.cursor.epoch);
        } else {
            self.cursor.row = end;
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loader(n: usize, batch: usize, micro: usize, epochs: Option<u64>) -> Loader {
        let sample = Sample { tokens: vec![1, 2], target: vec![false, true], truncated: false };
        Loader::new(vec![sample; n], batch, micro, 5, epochs, true).unwrap()
    }

    proptest! {
        #[test]
        fn seeking_equals_running_on(
            n in 1usize..40, batch in 1usize..9, micro in 1usize..9, steps in 0usize..60,
        ) {
            let mut straight = loader(n, batch, micro, None);
            for _ in 0..steps {
                straight.next();
            }
            let mut sought = loader(n, batch, micro, None);
            sought.seek(straight.cursor()).unwrap();
            for _ in 0..20 {
                prop_assert_eq!(straight.next(), sought.next());
                prop_assert_eq!(straight.cursor(), sought.cursor());
            }
        }

        #[test]
        fn an_epoch_gives_every_sample_once(
            n in 1usize..60, batch in 1usize..9, micro in 1usize..9,
        ) {
            let one = loader(n, batch, micro, Some(1));
            prop_assert_eq!(one.clone().count(), one.steps_per_epoch());
            let mut seen: Vec<usize> = one.flatten().flatten().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_short_last_step_is_kept_and_cut_into_micro_batches() {
        let mut loader = loader(5, 4, 3, Some(1));
        let sizes = |step: Vec<Vec<usize>>| step.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(loader.next().unwrap()), [3, 1]);
        assert_eq!(sizes(loader.next().unwrap()), [1]);
        assert_eq!(loader.next(), None);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let mut loader = loader(10, 4, 2, Some(2));
        for (epoch, row) in [(0, 3), (0, 12), (2, 4), (3, 0)] {
            assert!(loader.seek(Cursor { epoch, row }).is_err(), "{epoch} {row}");
        }
        loader.seek(Cursor { epoch: 2, row: 0 }).unwrap();
        assert_eq!(loader.next(), None);
    }

    #[test]
    fn sizes_of_zero_and_no_samples_are_refused() {
        let sample = Sample { tokens: vec![1, 2], target: vec![false, true], truncated: false };
        assert!(Loader::new(vec![], 1, 1, 0, None, true).is_err());
        assert!(Loader::new(vec![sample.clone()], 0, 1, 0, None, true).is_err());
        assert!(Loader::new(vec![sample], 1, 0, 0, None, true).is_err());
    }
}
