//! What objectives and evaluations ask of a language model.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;
use rekindle_kernels::{self as kernels, CrossEntropy};

use crate::tokens::Tokens;

/// What is added to the plain cross-entropy of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smoothing {
    /// The part of the target's probability that is spread evenly over the vocabulary.
    pub label_smoothing: f64,
    /// The weight of the square of the log-normaliser.
    pub z_loss: f64,
}

/// A decoder that predicts the next token.
pub trait CausalLm: Module + ModuleDisplay {
    /// Hidden states after the last norm: `[batch, seq, hidden]`.
    fn hidden(&self, tokens: Tokens) -> Tensor<3>;

    /// The output projection's weight: `[vocab, hidden]`.
    fn head(&self) -> Tensor<2>;

    /// [`CausalLm::hidden`] of all tokens but the last of each row, from which the tokens after
    /// the first are predicted.
    fn hidden_but_last(&self, tokens: Tokens) -> Tensor<3>;

    /// What logits are multiplied by.
    fn logit_scale(&self) -> f64 {
        1.0
    }

    /// The bound of logits, where there is one: `cap · tanh(logit / cap)` stands for the logit.
    fn logit_cap(&self) -> Option<f64> {
        None
    }

    /// Hidden states to scores of every token of the vocabulary: `[.., hidden]` to `[.., vocab]`.
    fn read_out<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let head = kernels::in_dtype(self.head(), hidden.dtype());
        let logits = kernels::linear(scaled(hidden, self.logit_scale()), head);
        match self.logit_cap() {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// Scores of every token of the vocabulary at every position: `[batch, seq, vocab]`.
    ///
    /// For tests and short inputs: losses never need it.
    fn logits(&self, tokens: Tokens) -> Tensor<3> {
        self.read_out(self.hidden(tokens))
    }

    /// `Σ −log p(tokenᵢ | tokens before it)` over the tokens whose `mask [batch, seq]` is 1, in
    /// nats: `[1]`.
    ///
    /// The mask of position 0 is not read: nothing predicts the first token.
    fn nll_sum(&self, tokens: Tokens, mask: Tensor<2>) -> Tensor<1> {
        self.loss_sum(tokens, mask, Smoothing::default())
    }

    /// [`CausalLm::nll_sum`] with smoothed labels and the square of the log-normaliser, as
    /// [`kernels::CrossEntropy`] has them: `[1]`.
    fn loss_sum(&self, tokens: Tokens, mask: Tensor<2>, smoothing: Smoothing) -> Tensor<1> {
        let [batch, seq] = tokens.dims();
        let targets = tokens.targets();
        let mask = mask.slice([0..batch, 1..seq]);
        let hidden = scaled(self.hidden_but_last(tokens), self.logit_scale());
        let head = kernels::in_dtype(self.head(), hidden.dtype());
        let [_, _, width] = hidden.dims();
        let n = batch * (seq - 1);
        kernels::linear_cross_entropy(
            hidden.reshape([n, width]),
            head,
            targets.reshape([n]),
            mask.reshape([n]),
            CrossEntropy {
                softcap: self.logit_cap(),
                label_smoothing: smoothing.label_smoothing,
                z_loss: smoothing.z_loss,
            },
        )
    }

    /// `log p(tokenᵢ | tokens before it)` of tokens `1..seq`, in nats: `[batch, seq − 1]`.
    fn token_logps(&self, tokens: Tokens) -> Tensor<2> {
        let [batch, seq] = tokens.dims();
        let targets = tokens.targets();
        let hidden = scaled(self.hidden_but_last(tokens), self.logit_scale());
        let [_, _, width] = hidden.dims();
        let n = batch * (seq - 1);
        let head = kernels::in_dtype(self.head(), hidden.dtype());
        let (hidden, targets) = (hidden.reshape([n, width]), targets.reshape([n]));
        let logps = kernels::token_logps(hidden, head, targets, self.logit_cap());
        logps.reshape([batch, seq - 1])
    }
}

fn scaled<const D: usize>(x: Tensor<D>, scale: f64) -> Tensor<D> {
    if scale == 1.0 { x } else { x * scale }
}
