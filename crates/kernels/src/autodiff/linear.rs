//! Backward passes of the linear maps.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::is_tracked;
use crate::linear::lora_linear_forward;
use crate::ops::LlmOps;
use crate::primitive::scale;

#[derive(Debug)]
struct Linear;

impl<B: LlmOps> Backward<B, 2> for Linear {
    /// The input, only for a trained weight, and the weight.
    type State = (Option<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        linear_grads::<B>(grad, ops.state, ops.parents.map(|it| it.map(|node| node.id)), grads);
    }
}

/// Registers the gradients of a linear map to its input and its weight.
pub(super) fn linear_grads<B: LlmOps>(
    grad: FloatTensor<B>,
    (x, w): (Option<FloatTensor<B>>, FloatTensor<B>),
    [node_x, node_w]: [Option<NodeId>; 2],
    grads: &mut Gradients,
) {
    if let (Some(node), Some(x)) = (node_w, x) {
        let d_w = B::float_matmul(B::float_transpose(grad.clone()), x);
        grads.register::<B>(node, d_w);
    }
    if let Some(node) = node_x {
        grads.register::<B>(node, B::float_matmul(grad, w));
    }
}

pub(super) fn linear<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let trained = is_tracked::<B, C>(&w);
    let prep = Linear.prepare::<C>([x.node(), w.node()]).compute_bound().stateful();
    let (x, w) = (x.into_primitive(), w.into_primitive());
    match prep {
        OpsKind::Tracked(prep) => {
            let state = (trained.then(|| x.clone()), w.clone());
            prep.finish(state, B::project(x, w))
        }
        OpsKind::UnTracked(prep) => prep.finish(B::project(x, w)),
    }
}

#[derive(Debug)]
struct LoraLinear;

#[derive(Debug, Clone)]
pub(super) struct LoraState<B: LlmOps> {
    pub x: FloatTensor<B>,
    pub w: FloatTensor<B>,
    pub a: FloatTensor<B>,
    pub b: FloatTensor<B>,
    /// `scale · x · aᵀ`.
    pub u: FloatTensor<B>,
    pub factor: f32,
}

impl<B: LlmOps> Backward<B, 3> for LoraLinear {
    type State = LoraState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        lora_grads::<B>(grad, ops.state, ops.parents.map(|it| it.map(|node| node.id)), grads);
    }
}

/// Registers the gradients of an adapted linear map to its input and both factors.
pub(super) fn lora_grads<B: LlmOps>(
    grad: FloatTensor<B>,
    state: LoraState<B>,
    [node_x, node_a, node_b]: [Option<NodeId>; 3],
    grads: &mut Gradients,
) {
    let LoraState { x, w, a, b, u, factor } = state;
    let grad_u = scale::<B>(B::float_matmul(grad.clone(), b), factor); // [n, rank]
    if let Some(node) = node_a {
        let d_a = B::float_matmul(B::float_transpose(grad_u.clone()), x);
        grads.register::<B>(node, d_a);
    }
    if let Some(node) = node_b {
        let d_b = B::float_matmul(B::float_transpose(grad.clone()), u);
        grads.register::<B>(node, d_b);
    }
    if let Some(node) = node_x {
        grads.register::<B>(node, B::matmul_sum(grad, w, grad_u, a));
    }
}

pub(super) fn lora_linear<B: LlmOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    a: FloatTensor<Autodiff<B, C>>,
    b: FloatTensor<Autodiff<B, C>>,
    factor: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = LoraLinear.prepare::<C>([x.node(), a.node(), b.node()]).compute_bound().stateful();
    let (x, w) = (x.into_primitive(), w.into_primitive());
    let (a, b) = (a.into_primitive(), b.into_primitive());
    let (y, u) = lora_linear_forward::<B>(x.clone(), w.clone(), a.clone(), b.clone(), factor);
    match prep {
        OpsKind::Tracked(prep) => prep.finish(LoraState { x, w, a, b, u, factor }, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
