//! Backward passes of the normalisation, the rotation and the gated activation.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use crate::gated::Activation;
use crate::ops::LlmOps;

#[derive(Debug)]
struct RmsNorm;

impl<B: LlmOps> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gamma, eps) = ops.state;
        let (d_x, d_gamma) = B::rms_norm_backward(grad, x, gamma, eps);
        let [node_x, node_gamma] = ops.parents;
        if let Some(node) = node_x {
            grads.register::<B>(node.id, d_x);
        }
        if let Some(node) = node_gamma {
            grads.register::<B>(node.id, d_gamma);
        }
    }
}

pub(super) fn rms_norm<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    eps: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = RmsNorm.prepare::<C>([x.node(), gamma.node()]).compute_bound().stateful();
    let (x, gamma) = (x.into_primitive(), gamma.into_primitive());
    let y = B::rms_norm(x.clone(), gamma.clone(), eps);
    match prep {
        OpsKind::Tracked(prep) => prep.finish((x, gamma, eps), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Rope;

impl<B: LlmOps> Backward<B, 1> for Rope {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin) = ops.state;
        let [node] = ops.parents;
        if let Some(node) = node {
            // A rotation's transpose is the rotation by the negative angle.
            grads.register::<B>(node.id, B::rope(grad, cos, B::float_neg(sin)));
        }
    }
}

pub(super) fn rope<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    cos: FloatTensor<Autodiff<B, C>>,
    sin: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = Rope.prepare::<C>([x.node()]).compute_bound().stateful();
    let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
    let y = B::rope(x.into_primitive(), cos.clone(), sin.clone());
    match prep {
        OpsKind::Tracked(prep) => prep.finish((cos, sin), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Gated;

impl<B: LlmOps> Backward<B, 2> for Gated {
    type State = (FloatTensor<B>, FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up, activation) = ops.state;
        let (d_gate, d_up) = B::gated_backward(grad, gate, up, activation);
        let [node_gate, node_up] = ops.parents;
        if let Some(node) = node_gate {
            grads.register::<B>(node.id, d_gate);
        }
        if let Some(node) = node_up {
            grads.register::<B>(node.id, d_up);
        }
    }
}

pub(super) fn gated<B: LlmOps, C: CheckpointStrategy>(
    gate: FloatTensor<Autodiff<B, C>>,
    up: FloatTensor<Autodiff<B, C>>,
    activation: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = Gated.prepare::<C>([gate.node(), up.node()]).compute_bound().stateful();
    let (gate, up) = (gate.into_primitive(), up.into_primitive());
    let y = B::gated(gate.clone(), up.clone(), activation);
    match prep {
        OpsKind::Tracked(prep) => prep.finish((gate, up, activation), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
