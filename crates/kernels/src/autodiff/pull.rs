//! Backward passes without a forward pass: the gradient of what comes after is at hand already.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::is_tracked;
use super::linear::{LoraState, linear_grads, lora_grads};
use crate::ops::LlmOps;
use crate::primitive::scale;
use crate::pull::zero;

#[derive(Debug)]
struct Pull;

impl<B: LlmOps> Backward<B, 1> for Pull {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

pub(super) fn pull<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    grad: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = Pull.prepare::<C>([x.node()]).compute_bound().stateful();
    let total = zero::<B>(x.primitive());
    match prep {
        OpsKind::Tracked(prep) => prep.finish(grad.into_primitive(), total),
        OpsKind::UnTracked(prep) => prep.finish(total),
    }
}

#[derive(Debug)]
struct LinearPull;

impl<B: LlmOps> Backward<B, 2> for LinearPull {
    /// The gradient, the input, only for a trained weight, and the weight.
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, x, w) = ops.state;
        linear_grads::<B>(grad, (x, w), ops.parents.map(|it| it.map(|node| node.id)), grads);
    }
}

pub(super) fn linear<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    grad: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let trained = is_tracked::<B, C>(&w);
    let prep = LinearPull.prepare::<C>([x.node(), w.node()]).compute_bound().stateful();
    let (x, w) = (x.into_primitive(), w.into_primitive());
    let total = zero::<B>(&x);
    match prep {
        OpsKind::Tracked(prep) => {
            prep.finish((grad.into_primitive(), trained.then_some(x), w), total)
        }
        OpsKind::UnTracked(prep) => prep.finish(total),
    }
}

#[derive(Debug)]
struct LoraPull;

impl<B: LlmOps> Backward<B, 3> for LoraPull {
    type State = (FloatTensor<B>, LoraState<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, state) = ops.state;
        lora_grads::<B>(grad, state, ops.parents.map(|it| it.map(|node| node.id)), grads);
    }
}

pub(super) fn lora_linear<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    a: FloatTensor<Autodiff<B, C>>,
    b: FloatTensor<Autodiff<B, C>>,
    factor: f32,
    grad: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = LoraPull.prepare::<C>([x.node(), a.node(), b.node()]).compute_bound().stateful();
    let (x, w) = (x.into_primitive(), w.into_primitive());
    let (a, b) = (a.into_primitive(), b.into_primitive());
    let total = zero::<B>(&x);
    match prep {
        OpsKind::Tracked(prep) => {
            let u = scale::<B>(B::float_matmul(x.clone(), B::float_transpose(a.clone())), factor);
            prep.finish((grad.into_primitive(), LoraState { x, w, a, b, u, factor }), total)
        }
        OpsKind::UnTracked(prep) => prep.finish(total),
    }
}
