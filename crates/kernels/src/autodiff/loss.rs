//! Backward passes of the projected cross-entropy and of the token log-probabilities.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, TensorMetadata};

use super::is_tracked;
use crate::linear_cross_entropy::CrossEntropy;
use crate::ops::LlmOps;
use crate::primitive::{narrowed, reshape};

#[derive(Debug)]
struct LinearCrossEntropy;

impl<B: LlmOps> Backward<B, 2> for LinearCrossEntropy {
    /// Both gradients for an upstream gradient of one.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = reshape::<B, 2>(grads.consume::<B>(&ops.node), [1, 1]);
        let (d_hidden, d_weight) = ops.state;
        let [node_hidden, node_weight] = ops.parents;
        if let Some(node) = node_hidden {
            let grad = narrowed::<B>(grad.clone(), d_hidden.dtype());
            grads.register::<B>(node.id, B::float_mul(d_hidden, grad));
        }
        if let Some(node) = node_weight {
            let grad = narrowed::<B>(grad, d_weight.dtype());
            grads.register::<B>(node.id, B::float_mul(d_weight, grad));
        }
    }
}

pub(super) fn linear_cross_entropy<B: LlmOps, C: CheckpointStrategy>(
    hidden: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    targets: IntTensor<B>,
    mask: FloatTensor<Autodiff<B, C>>,
    rule: CrossEntropy,
) -> FloatTensor<Autodiff<B, C>> {
    let trained = is_tracked::<B, C>(&weight);
    let prep =
        LinearCrossEntropy.prepare::<C>([hidden.node(), weight.node()]).compute_bound().stateful();
    let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
    let mask = mask.into_primitive();
    match prep {
        OpsKind::Tracked(prep) => {
            let (total, d_hidden, d_weight) =
                B::linear_cross_entropy_grad(hidden, weight, targets, mask, rule, trained);
            prep.finish((d_hidden, d_weight), total)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::linear_cross_entropy(hidden, weight, targets, mask, rule))
        }
    }
}

#[derive(Debug)]
struct TokenLogps;

#[derive(Debug, Clone)]
struct LogpsState<B: LlmOps> {
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    softcap: Option<f32>,
    trained: bool,
}

impl<B: LlmOps> Backward<B, 2> for TokenLogps {
    type State = LogpsState<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let LogpsState { hidden, weight, targets, softcap, trained } = ops.state;
        let (d_hidden, d_weight) =
            B::token_logps_backward(grad, hidden, weight, targets, softcap, trained);
        let [node_hidden, node_weight] = ops.parents;
        if let Some(node) = node_hidden {
            grads.register::<B>(node.id, d_hidden);
        }
        if let Some(node) = node_weight {
            grads.register::<B>(node.id, d_weight);
        }
    }
}

pub(super) fn token_logps<B: LlmOps, C: CheckpointStrategy>(
    hidden: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    targets: IntTensor<B>,
    softcap: Option<f32>,
) -> FloatTensor<Autodiff<B, C>> {
    let trained = is_tracked::<B, C>(&weight);
    let prep = TokenLogps.prepare::<C>([hidden.node(), weight.node()]).compute_bound().stateful();
    let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
    let logps = B::token_logps(hidden.clone(), weight.clone(), targets.clone(), softcap);
    match prep {
        OpsKind::Tracked(prep) => {
            prep.finish(LogpsState { hidden, weight, targets, softcap, trained }, logps)
        }
        OpsKind::UnTracked(prep) => prep.finish(logps),
    }
}
