//! Backward pass of attention.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::attention::AttentionRule;
use crate::ops::LlmOps;

#[derive(Debug)]
struct Attention;

#[derive(Debug, Clone)]
struct State<B: LlmOps> {
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    segments: IntTensor<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    rule: AttentionRule,
}

impl<B: LlmOps> Backward<B, 3> for Attention {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let State { q, k, v, segments, out, lse, rule } = ops.state;
        let (d_q, d_k, d_v) = B::attention_backward(grad, q, k, v, segments, out, lse, rule);
        for (node, grad) in ops.parents.into_iter().zip([d_q, d_k, d_v]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

pub(super) fn attention<B: LlmOps, C: CheckpointStrategy>(
    q: FloatTensor<Autodiff<B, C>>,
    k: FloatTensor<Autodiff<B, C>>,
    v: FloatTensor<Autodiff<B, C>>,
    segments: IntTensor<B>,
    rule: AttentionRule,
) -> FloatTensor<Autodiff<B, C>> {
    let prep = Attention.prepare::<C>([q.node(), k.node(), v.node()]).compute_bound().stateful();
    let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
    let (out, lse) = B::attention_forward(q.clone(), k.clone(), v.clone(), segments.clone(), rule);
    match prep {
        OpsKind::Tracked(prep) => {
            let state = State { q, k, v, segments, out: out.clone(), lse, rule };
            prep.finish(state, out)
        }
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}
