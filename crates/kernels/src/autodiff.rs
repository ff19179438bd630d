//! Hand-written backward passes: what each operation keeps, and its gradients.
//!
//! Every implementation has the same three parts: the state kept for the backward pass, the
//! gradients made from it, and the choice between tracked and untracked.

mod attention;
mod elementwise;
mod linear;
mod loss;
mod pull;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::attention::AttentionRule;
use crate::gated::Activation;
use crate::linear_cross_entropy::CrossEntropy;
use crate::ops::LlmOps;

impl<B: LlmOps, C: CheckpointStrategy> LlmOps for Autodiff<B, C> {
    fn project(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::linear::<B, C>(x, w)
    }

    fn lora_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        linear::lora_linear::<B, C>(x, w, a, b, scale)
    }

    fn pull(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        pull::pull::<B, C>(x, grad)
    }

    fn project_pull(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        pull::linear::<B, C>(x, w, grad)
    }

    fn lora_linear_pull(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        pull::lora_linear::<B, C>(x, w, a, b, scale, grad)
    }

    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        elementwise::rms_norm::<B, C>(x, gamma, eps)
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        elementwise::rope::<B, C>(x, cos, sin)
    }

    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        elementwise::gated::<B, C>(gate, up, activation)
    }

    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        rule: AttentionRule,
    ) -> FloatTensor<Self> {
        attention::attention::<B, C>(q, k, v, segments, rule)
    }

    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        rule: CrossEntropy,
    ) -> FloatTensor<Self> {
        loss::linear_cross_entropy::<B, C>(hidden, weight, targets, mask, rule)
    }

    fn token_logps(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
    ) -> FloatTensor<Self> {
        loss::token_logps::<B, C>(hidden, weight, targets, softcap)
    }
}

/// A node without a gradient of its own, used to ask whether a tensor is tracked.
#[derive(Debug)]
struct Probe;

impl<B: LlmOps> Backward<B, 1> for Probe {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {
        unreachable!("a probe is never recorded")
    }
}

/// Whether a gradient to `x` is wanted, be it a trained leaf or made from one.
fn is_tracked<B: LlmOps, C: CheckpointStrategy>(x: &FloatTensor<Autodiff<B, C>>) -> bool {
    let prep = Backward::<B, 1>::prepare::<C>(Probe, [x.node()]).compute_bound().stateful();
    matches!(prep, OpsKind::Tracked(_))
}
