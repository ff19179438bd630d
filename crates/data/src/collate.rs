//! Samples as tensors: the one upload of a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::render::Sample;
use crate::tokenizer::Tokenizer;

/// Rows of tokens, padded on the right to one length; a row holds one sample or several.
///
/// A sample in a row is called a document. Documents of a row stand behind each other and see
/// nothing of each other: `segment` keeps their attention apart, `positions` start anew.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// Token ids, \[batch, seq\].
    pub input_ids: Tensor<2, Int>,
    /// 1, 2, 3 and so on for the documents of a row, 0 where there is padding, \[batch, seq\].
    pub segment: Tensor<2, Int>,
    /// Each token's place in its document, from 0; `batch` rows of `seq`, on the host.
    ///
    /// Padding counts on from the last document, so that rows of one document each have equal
    /// positions and one table of them serves all.
    pub positions: Vec<Vec<u32>>,
    /// 1 where the token at that place is to be predicted, 0 elsewhere, \[batch, seq\].
    ///
    /// The first place of a document is always 0: nothing comes before it to predict it from.
    pub loss_mask: Tensor<2>,
    /// Ones in `loss_mask`, known on the host; may be 0.
    pub n_targets: usize,
    /// Which samples each row holds, in order.
    pub sample_ids: Vec<Vec<usize>>,
    /// Where what is random in training on this batch starts; [`collate`] leaves it to the source.
    pub noise: Option<u64>,
}

/// How the rows of a batch are brought to one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// The id that padding is filled with.
    pub id: u32,
    /// Rows are padded until the number of tokens that predict another, one less than a row has,
    /// is a multiple of this; with 1 the longest row is not padded.
    pub multiple: usize,
}

impl Padding {
    /// Padding with the tokenizer's own id, else its end-of-text, else 0.
    ///
    /// Any id is as good as another, as padding is masked by length.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, multiple: usize) -> Self {
        Self { id: tokenizer.pad().or(tokenizer.eos()).unwrap_or(0), multiple }
    }

    /// Tokens that predict another in a row of `longest` tokens as it is padded.
    #[must_use]
    pub fn predicting(self, longest: usize) -> usize {
        longest.saturating_sub(1).next_multiple_of(self.multiple.max(1))
    }

    fn padded(self, longest: usize) -> usize {
        self.predicting(longest) + 1
    }
}

/// The batch of the given rows, padded on the right to the longest of them or a little more.
///
/// `rows` are lists of indices into `samples`, as a [`crate::Loader`] gives them. What is padding
/// is told by `segment` and by length, never by the id, so a padding id that is also the
/// end-of-text id does not hide a real end-of-text from the loss.
///
/// # Panics
/// If there is no row, none has a token, or an index is out of range: the loader gives no such
/// rows.
#[must_use]
pub fn collate(
    samples: &[Sample],
    rows: &[Vec<usize>],
    padding: Padding,
    device: &Device,
) -> TokenBatch {
    let length = |row: &Vec<usize>| row.iter().map(|&id| samples[id].tokens.len()).sum();
    let longest: usize = rows.iter().map(length).max().unwrap_or(0);
    assert!(longest > 0, "a batch has at least one token");
    let seq = padding.padded(longest);
    let mut host = Host::default();
    for row in rows {
        host.push(row.iter().map(|&id| &samples[id]), seq, padding.id);
    }
    let shape = [rows.len(), seq];
    TokenBatch {
        input_ids: Tensor::from_data(TensorData::new(host.ids, shape), device),
        segment: Tensor::from_data(TensorData::new(host.segment, shape), device),
        positions: host.positions,
        loss_mask: Tensor::from_data(TensorData::new(host.mask, shape), device),
        n_targets: host.n_targets,
        sample_ids: rows.to_vec(),
        noise: None,
    }
}

/// A batch as it grows, row after row.
#[derive(Default)]
struct Host {
    ids: Vec<i32>,
    segment: Vec<i32>,
    mask: Vec<f32>,
    positions: Vec<Vec<u32>>,
    n_targets: usize,
}

impl Host {
    fn push<'a>(
        &mut self,
        documents: impl Iterator<Item = &'a Sample>,
        seq: usize,
        padding_id: u32,
    ) {
        let mut positions = Vec::with_capacity(seq);
        for (segment, sample) in (1..).zip(documents) {
            for (place, (&token, &target)) in (0..).zip(sample.tokens.iter().zip(&sample.target)) {
                self.ids.push(token as i32);
                self.segment.push(segment);
                positions.push(place);
                let counts = target && place > 0;
                self.mask.push(if counts { 1.0 } else { 0.0 });
                self.n_targets += usize::from(counts);
            }
        }
        let end = positions.last().map_or(0, |&last| last + 1);
        positions.extend((end..).take(seq - positions.len()));
        self.positions.push(positions);
        let filled = self.positions.len() * seq;
        self.ids.resize(filled, padding_id as i32);
        self.segment.resize(filled, 0);
        self.mask.resize(filled, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tokens: &[u32], target: &[bool]) -> Sample {
        Sample { tokens: tokens.to_vec(), target: target.to_vec(), truncated: false }
    }

    fn ints(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter().collect()
    }

    fn floats(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn padding_is_masked_by_length_and_position_zero_is_never_a_target() {
        // 9 is the padding id and also a real, trained token.
        let samples = [sample(&[4, 5, 9], &[true, false, true]), sample(&[9, 9], &[true, true])];
        let padding = Padding { id: 9, multiple: 1 };
        let batch = collate(&samples, &[vec![0], vec![1]], padding, &Device::flex());
        assert_eq!(batch.n_targets, 2);
        assert_eq!(ints(batch.input_ids), [4, 5, 9, 9, 9, 9]);
        assert_eq!(ints(batch.segment), [1, 1, 1, 1, 1, 0]);
        assert_eq!(batch.positions, [[0, 1, 2], [0, 1, 2]]);
        assert_eq!(floats(batch.loss_mask), [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn documents_of_a_row_are_told_apart_and_none_predicts_the_next() {
        let all = |tokens: &[u32]| sample(tokens, &vec![true; tokens.len()]);
        let samples = [all(&[1, 2, 3]), all(&[4, 5]), all(&[6, 7, 8, 9])];
        let padding = Padding { id: 0, multiple: 4 };
        let rows = [vec![2, 1], vec![0]];
        let batch = collate(&samples, &rows, padding, &Device::flex());
        assert_eq!(batch.input_ids.dims(), [2, 9]);
        assert_eq!(ints(batch.input_ids)[..10], [6, 7, 8, 9, 4, 5, 0, 0, 0, 1]);
        assert_eq!(ints(batch.segment)[..10], [1, 1, 1, 1, 2, 2, 0, 0, 0, 1]);
        assert_eq!(batch.positions[0], [0, 1, 2, 3, 0, 1, 2, 3, 4]);
        assert_eq!(batch.positions[1], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let mask = floats(batch.loss_mask);
        assert_eq!(mask[..9], [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.n_targets, 3 + 1 + 2);
        assert_eq!(batch.n_targets as f32, mask.iter().sum::<f32>());
        assert_eq!(batch.sample_ids, rows);
    }

    #[test]
    fn a_batch_may_have_no_target() {
        let samples = [sample(&[4, 5], &[true, false])];
        let padding = Padding { id: 0, multiple: 1 };
        let batch = collate(&samples, &[vec![0]], padding, &Device::flex());
        assert_eq!(batch.n_targets, 0);
        assert_eq!(floats(batch.loss_mask), [0.0, 0.0]);
    }

    #[test]
    fn predicting_tokens_are_padded_to_a_multiple() {
        let samples = [sample(&[4; 6], &[true; 6]), sample(&[4; 5], &[true; 5])];
        let padding = Padding { id: 0, multiple: 4 };
        let collate = |row| collate(&samples, &[vec![row]], padding, &Device::flex());
        assert_eq!(collate(0).input_ids.dims(), [1, 9]);
        assert_eq!(collate(0).n_targets, 5);
        assert_eq!(collate(1).input_ids.dims(), [1, 5]);
    }
}
