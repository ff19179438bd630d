//! Samples as tensors: the one upload of a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::render::Sample;
use crate::tokenizer::Tokenizer;

/// Rows of tokens, padded on the right to one length.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// Token ids, \[batch, seq\].
    pub input_ids: Tensor<2, Int>,
    /// 1 where a token is real, 0 where it is padding, \[batch, seq\].
    pub segment: Tensor<2, Int>,
    /// 1 where the token at that place is to be predicted, 0 elsewhere, \[batch, seq\].
    ///
    /// The first place of a row is always 0: nothing comes before it to predict it from.
    pub loss_mask: Tensor<2>,
    /// Ones in `loss_mask`, known on the host.
    pub n_targets: usize,
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

    fn padded(self, longest: usize) -> usize {
        (longest - 1).next_multiple_of(self.multiple.max(1)) + 1
    }
}

/// The batch of the given samples, padded on the right to the longest of them or a little more.
///
/// What is padding is told by `segment` and by length, never by the id, so a padding id that is
/// also the end-of-text id does not hide a real end-of-text from the loss.
///
/// # Panics
/// If there is no sample, or none has a token: the loader gives neither.
#[must_use]
pub fn collate(samples: &[&Sample], padding: Padding, device: &Device) -> TokenBatch {
    let batch = samples.len();
    let longest = samples.iter().map(|sample| sample.tokens.len()).max().unwrap_or(0);
    assert!(longest > 0, "a batch has at least one token");
    let seq = padding.padded(longest);
    let mut ids = vec![padding.id as i32; batch * seq];
    let mut segment = vec![0_i32; batch * seq];
    let mut mask = vec![0_f32; batch * seq];
    let mut n_targets = 0;
    for (row, sample) in samples.iter().enumerate() {
        for (col, (&token, &target)) in sample.tokens.iter().zip(&sample.target).enumerate() {
            let place = row * seq + col;
            ids[place] = token as i32;
            segment[place] = 1;
            if target && col > 0 {
                mask[place] = 1.0;
                n_targets += 1;
            }
        }
    }
    let shape = [batch, seq];
    TokenBatch {
        input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
        segment: Tensor::from_data(TensorData::new(segment, shape), device),
        loss_mask: Tensor::from_data(TensorData::new(mask, shape), device),
        n_targets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tokens: &[u32], target: &[bool]) -> Sample {
        Sample { tokens: tokens.to_vec(), target: target.to_vec(), truncated: false }
    }

    #[test]
    fn padding_is_masked_by_length_and_position_zero_is_never_a_target() {
        let device = Device::flex();
        // 9 is the padding id and also a real, trained token.
        let long = sample(&[4, 5, 9], &[true, false, true]);
        let short = sample(&[9, 9], &[true, true]);
        let batch = collate(&[&long, &short], Padding { id: 9, multiple: 1 }, &device);
        assert_eq!(batch.n_targets, 2);
        let ints = |tensor: Tensor<2, Int>| -> Vec<i64> { tensor.into_data().iter().collect() };
        assert_eq!(ints(batch.input_ids), [4, 5, 9, 9, 9, 9]);
        assert_eq!(ints(batch.segment), [1, 1, 1, 1, 1, 0]);
        let mask: Vec<f32> = batch.loss_mask.into_data().iter().collect();
        assert_eq!(mask, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }
    #[test]
    fn predicting_tokens_are_padded_to_a_multiple() {
        let row = sample(&[4; 6], &[true; 6]);
        let padding = Padding { id: 0, multiple: 4 };
        let batch = collate(&[&row], padding, &Device::flex());
        assert_eq!(batch.input_ids.dims(), [1, 9]);
        assert_eq!(batch.n_targets, 5);
        assert_eq!(
            collate(&[&sample(&[4; 5], &[true; 5])], padding, &Device::flex()).input_ids.dims(),
            [1, 5]
        );
    }
}
