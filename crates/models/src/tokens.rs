//! Rows of tokens, as a forward pass takes them.

use burn::tensor::{Int, Tensor};

use crate::decoder::counts;

/// Rows of tokens with what tells their texts apart.
///
/// A row holds one text or several, one after the other; a token attends to earlier tokens of its
/// own segment, and segment 0 is padding.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Token ids, `[batch, seq]`.
    pub ids: Tensor<2, Int>,
    /// The text within its row that each token belongs to, `[batch, seq]`.
    pub segments: Tensor<2, Int>,
    positions: Option<Vec<Vec<u32>>>,
    noise: Option<u64>,
}

impl Tokens {
    /// Rows whose positions count from 0.
    pub fn new(ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Self {
        Self { ids, segments, positions: None, noise: None }
    }

    /// The same with the position of every token, row by row, as where several texts share a row.
    ///
    /// # Panics
    /// If they are not `batch` rows of `seq` positions.
    #[must_use]
    pub fn at(mut self, positions: Vec<Vec<u32>>) -> Self {
        let [batch, seq] = self.ids.dims();
        let fits = positions.len() == batch && positions.iter().all(|row| row.len() == seq);
        assert!(fits, "positions are [batch, seq] as tokens are");
        // One row of positions serves all rows that count from 0.
        self.positions = (!positions.iter().all(|row| counts(row))).then_some(positions);
        self
    }

    /// The same with a seed for what is random while training: dropout and noise on embeddings.
    #[must_use]
    pub fn with_noise(self, seed: u64) -> Self {
        Self { noise: Some(seed), ..self }
    }

    /// Rows and tokens a row.
    pub fn dims(&self) -> [usize; 2] {
        self.ids.dims()
    }

    /// The tokens after the first of each row: `[batch, seq − 1]`.
    pub(crate) fn targets(&self) -> Tensor<2, Int> {
        let [batch, seq] = self.dims();
        self.ids.clone().slice([0..batch, 1..seq])
    }

    /// All tokens but the last of each row.
    pub(crate) fn but_last(self) -> Self {
        let [batch, seq] = self.dims();
        let but_last = |x: Tensor<2, Int>| x.slice([0..batch, 0..seq - 1]);
        let positions = self
            .positions
            .map(|rows| rows.into_iter().map(|row| row[..seq - 1].to_vec()).collect());
        Self { ids: but_last(self.ids), segments: but_last(self.segments), positions, ..self }
    }

    /// Positions: one row for all sequences, or one a sequence.
    pub(crate) fn positions(&self) -> Vec<Vec<u32>> {
        let [_, seq] = self.dims();
        self.positions.clone().unwrap_or_else(|| vec![(0..seq as u32).collect()])
    }

    pub(crate) fn noise(&self) -> Option<u64> {
        self.noise
    }
}
