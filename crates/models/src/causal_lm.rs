//! What objectives and evaluations ask of a language model.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Int, Tensor};
use rekindle_kernels as kernels;

/// A decoder that predicts the next token.
///
/// `input_ids` and `segments` are `[batch, seq]`; a token attends to earlier tokens of its own
/// segment, and segment 0 is padding.
pub trait CausalLm: Module + ModuleDisplay {
    /// Hidden states after the last norm: `[batch, seq, hidden]`.
    fn hidden(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<3>;

    /// The output projection's weight: `[vocab, hidden]`.
    fn head(&self) -> Tensor<2>;

    /// Scores of every token of the vocabulary at every position: `[batch, seq, vocab]`.
    ///
    /// For tests and short inputs: losses never need it.
    fn logits(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<3> {
        kernels::linear(self.hidden(input_ids, segments), self.head())
    }

    /// `Σ −log p(tokenᵢ | tokens before it)` over the tokens whose `mask [batch, seq]` is 1, in
    /// nats: `[1]`.
    ///
    /// The mask of position 0 is not read: nothing predicts the first token.
    fn nll_sum(
        &self,
        input_ids: Tensor<2, Int>,
        segments: Tensor<2, Int>,
        mask: Tensor<2>,
    ) -> Tensor<1> {
        let [batch, seq] = input_ids.dims();
        let targets = input_ids.clone().slice([0..batch, 1..seq]);
        let mask = mask.slice([0..batch, 1..seq]);
        let inputs = input_ids.slice([0..batch, 0..seq - 1]);
        let segments = segments.slice([0..batch, 0..seq - 1]);
        let hidden = self.hidden(inputs, segments);
        let [_, _, width] = hidden.dims();
        let n = batch * (seq - 1);
        kernels::linear_cross_entropy(
            hidden.reshape([n, width]),
            self.head(),
            targets.reshape([n]),
            mask.reshape([n]),
        )
    }

    /// `log p(tokenᵢ | tokens before it)` of tokens `1..seq`, in nats: `[batch, seq − 1]`.
    fn token_logps(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<2> {
        let [batch, seq] = input_ids.dims();
        let targets = input_ids.clone().slice([0..batch, 1..seq]);
        let inputs = input_ids.slice([0..batch, 0..seq - 1]);
        let segments = segments.slice([0..batch, 0..seq - 1]);
        let hidden = self.hidden(inputs, segments);
        let [_, _, width] = hidden.dims();
        let n = batch * (seq - 1);
        let logps =
            kernels::token_logps(hidden.reshape([n, width]), self.head(), targets.reshape([n]));
        logps.reshape([batch, seq - 1])
    }
}
