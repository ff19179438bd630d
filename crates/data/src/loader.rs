//! Which rows go into which step, in an order that can be taken up again anywhere.

use serde::{Deserialize, Serialize};

use crate::order::{grouped_by_length, permutation};
use crate::pack::pack;
use crate::render::Sample;

/// Where a loader stands: the next step starts at `row` of epoch `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Rows of that epoch already given out, as [`LoaderOptions::batch`] counts them.
    pub row: usize,
}

/// In which order an epoch visits the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they come.
    Given,
    /// In a permutation drawn for each epoch.
    #[default]
    Shuffled,
    /// In a permutation drawn for each epoch, in which rows of like length stand together.
    ///
    /// Groups of fifty steps, or fewer so that there are four groups, are each sorted, longest
    /// first, and the epoch begins with its longest row; as transformers' `LengthGroupedSampler`.
    ByLength,
}

/// How samples share rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// One sample a row; the rows of a micro-batch are padded to one length.
    #[default]
    Padded,
    /// All samples of a micro-batch behind each other in one row.
    PaddingFree,
    /// Samples are packed into rows by [`pack()`], once for all epochs; a step has `batch` such
    /// rows.
    Packed {
        /// The longest row, in tokens.
        max_tokens: usize,
    },
}

/// How a [`Loader`] makes steps of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Rows of a step: samples, or packed rows under [`Layout::Packed`].
    pub batch: usize,
    /// Rows of one forward pass, counted as in `batch`.
    pub micro: usize,
    /// Seed of the order.
    pub seed: u64,
    /// How often the data are gone through; `None`: without end.
    pub epochs: Option<u64>,
    /// The order of the rows.
    pub order: Order,
    /// How samples share rows.
    pub layout: Layout,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        let (order, layout) = (Order::default(), Layout::default());
        Self { batch: 1, micro: 1, seed: 0, epochs: None, order, layout }
    }
}

/// The rows of one forward pass, each a list of indices of the samples in it.
pub type MicroBatch = Vec<Vec<usize>>;

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
    /// A sample fits into no packed row.
    #[error(
        "sample {index} has {tokens} tokens, wanted at most the {max_tokens} of a packed row; cut \
         or drop it before packing"
    )]
    LongSample {
        /// The sample, from 0.
        index: usize,
        /// Its length, in tokens.
        tokens: usize,
        /// The longest row, in tokens.
        max_tokens: usize,
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
/// Epoch *e* visits every sample once, in an order that ChaCha8 draws from (seed, *e*). A step
/// never crosses an epoch; the last step of an epoch may be short and is kept. Every epoch has
/// the same number of steps.
#[derive(Debug, Clone)]
pub struct Loader {
    samples: Vec<Sample>,
    options: LoaderOptions,
    /// The samples of each packed row; none where a row is a sample.
    packed: Option<Vec<Vec<usize>>>,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Loader {
    /// A loader at the start of its first epoch.
    ///
    /// # Errors
    /// [`LoaderError`] if there are no samples, a size is 0 or a sample fits into no packed row.
    pub fn new(samples: Vec<Sample>, options: LoaderOptions) -> Result<Self, LoaderError> {
        if samples.is_empty() {
            return Err(LoaderError::NoSamples);
        }
        for (name, size) in [("batch", options.batch), ("micro", options.micro)] {
            if size == 0 {
                return Err(LoaderError::Zero { name });
            }
        }
        let packed = match options.layout {
            Layout::Packed { max_tokens } => Some(pack(&lengths(&samples), max_tokens)?),
            Layout::Padded | Layout::PaddingFree => None,
        };
        let cursor = Cursor::default();
        let mut loader = Self { samples, options, packed, cursor, order: Vec::new() };
        loader.order = loader.order_of(0);
        Ok(loader)
    }

    /// All samples, in the order in which indices count them.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// A seed for what is random in training on `rows` in an epoch: of the loader's seed, the epoch
    /// and the samples' indices alone, whatever step or micro-batch they are in.
    #[must_use]
    pub fn noise(&self, epoch: u64, rows: &[Vec<usize>]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [self.options.seed, epoch] {
            hasher.update(&part.to_le_bytes());
        }
        for sample in rows.iter().flatten() {
            hasher.update(&(*sample as u64).to_le_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        u64::from_le_bytes(*hash.first_chunk().expect("a blake3 hash has 32 bytes"))
    }

    /// Rows in one epoch, as [`LoaderOptions::batch`] counts them.
    #[must_use]
    pub fn rows_per_epoch(&self) -> usize {
        self.packed.as_ref().map_or(self.samples.len(), Vec::len)
    }

    /// Steps in one epoch, a short last one included.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.rows_per_epoch().div_ceil(self.options.batch)
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
        let rows = self.rows_per_epoch();
        let LoaderOptions { batch, epochs, .. } = self.options;
        let at_end = epochs.is_some_and(|last| cursor.epoch == last && cursor.row == 0);
        let inside = cursor.row.is_multiple_of(batch)
            && cursor.row < rows
            && epochs.is_none_or(|last| cursor.epoch < last);
        if !inside && !at_end {
            let epochs = epochs.map_or_else(|| "any".into(), |last| last.to_string());
            let Cursor { epoch, row } = cursor;
            return Err(LoaderError::Cursor { epoch, row, batch, rows, epochs });
        }
        if cursor.epoch != self.cursor.epoch {
            self.order = self.order_of(cursor.epoch);
        }
        self.cursor = cursor;
        Ok(())
    }

    fn order_of(&self, epoch: u64) -> Vec<usize> {
        let LoaderOptions { batch, seed, order, .. } = self.options;
        let rows = self.rows_per_epoch();
        match order {
            Order::Given => (0..rows).collect(),
            Order::Shuffled => permutation(rows, seed, epoch),
            Order::ByLength => {
                let lengths = lengths(&self.samples);
                let lengths = match &self.packed {
                    None => lengths,
                    Some(packed) => packed
                        .iter()
                        .map(|row| row.iter().map(|&index| lengths[index]).sum())
                        .collect(),
                };
                grouped_by_length(permutation(rows, seed, epoch), &lengths, batch)
            }
        }
    }

    /// The rows of one forward pass.
    fn micro_batch(&self, rows: &[usize]) -> MicroBatch {
        match (&self.packed, self.options.layout) {
            (Some(packed), _) => rows.iter().map(|&row| packed[row].clone()).collect(),
            (None, Layout::PaddingFree) => vec![rows.to_vec()],
            (None, _) => rows.iter().map(|&row| vec![row]).collect(),
        }
    }
}

impl Iterator for Loader {
    type Item = Vec<MicroBatch>;

    /// The next step: its micro-batches, as [`crate::collate()`] takes them.
    fn next(&mut self) -> Option<Self::Item> {
        let LoaderOptions { batch, micro, epochs, .. } = self.options;
        if epochs.is_some_and(|last| self.cursor.epoch >= last) {
            return None;
        }
        let rows = self.rows_per_epoch();
        let end = self.cursor.row.saturating_add(batch).min(rows);
        let step = self.order[self.cursor.row..end].chunks(micro);
        let step = step.map(|rows| self.micro_batch(rows)).collect();
        if end == rows {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, row: 0 };
            self.order = self.order_of(self.cursor.epoch);
        } else {
            self.cursor.row = end;
        }
        Some(step)
    }
}

fn lengths(samples: &[Sample]) -> Vec<usize> {
    samples.iter().map(|sample| sample.tokens.len()).collect()
}

#[cfg(test)]
mod tests;
