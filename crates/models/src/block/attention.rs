//! Grouped-query attention with its projections.

use burn::module::Module;
use burn::tensor::Tensor;
use rekindle_kernels::{self as kernels, AttentionRule, RopeTable};
use rekindle_peft_core::Projection;

use super::{Norm, Placement};
use crate::arch::Part;
use crate::cache::{LayerCache, Span};

/// Which table a block's queries and keys are rotated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// None.
    None,
    /// [`Placement::rope`].
    Full,
    /// [`Placement::local_rope`].
    Local,
}

/// The numbers of one block's attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// How scores come about.
    pub rule: AttentionRule,
    /// How positions come in.
    pub rotation: Rotation,
    /// Whether the norms of queries and keys take each head for itself.
    pub norm_by_head: bool,
}

/// Grouped-query attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// To queries, keys and values: three projections, or one to all of them, in that order.
    pub inputs: Vec<Projection>,
    /// Back to the residual stream, `[hidden, heads · head_dim]`.
    pub output: Projection,
    /// Norm of queries, where there is one.
    pub q_norm: Option<Norm>,
    /// Norm of keys, where there is one.
    pub k_norm: Option<Norm>,
    /// Its numbers.
    #[module(skip)]
    pub shape: AttentionShape,
}

impl Attention {
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        place: &Placement,
        cache: Option<(&mut LayerCache, &Span)>,
    ) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let AttentionShape { heads, head_dim, rule, rotation, .. } = self.shape;
        let [q, k, v] = self.queries_keys_values(x);
        let table = match rotation {
            Rotation::None => None,
            Rotation::Full => place.rope.as_ref(),
            Rotation::Local => place.local_rope.as_ref(),
        };
        let q = self.turned(q, &self.q_norm, table);
        let k = self.turned(k, &self.k_norm, table);
        let v = self.split(v);
        let segments = place.segments.clone();
        let y = match cache {
            None => kernels::attention(q, k, v, segments, rule),
            Some((cache, span)) => {
                let (k, v) = cache.extend(k, v, span);
                kernels::attention_at(q, k, v, segments, &span.first, rule)
            }
        };
        self.output.forward(y.reshape([batch, seq, heads * head_dim]))
    }

    fn queries_keys_values(&self, x: Tensor<3>) -> [Tensor<3>; 3] {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        match self.inputs.as_slice() {
            [q, k, v] => [q.forward(x.clone()), k.forward(x.clone()), v.forward(x)],
            all => {
                let (q, kv) = (heads * head_dim, kv_heads * head_dim);
                let all = all[0].forward(x);
                [(0, q), (q, kv), (q + kv, kv)].map(|(at, len)| all.clone().narrow(2, at, len))
            }
        }
    }

    /// `[batch, seq, heads · head_dim]` to `[batch, seq, heads, head_dim]`.
    fn split(&self, y: Tensor<3>) -> Tensor<4> {
        let [batch, seq, width] = y.dims();
        y.reshape([batch, seq, width / self.shape.head_dim, self.shape.head_dim])
    }

    /// Queries or keys in heads, normalised and rotated.
    fn turned(&self, y: Tensor<3>, norm: &Option<Norm>, table: Option<&RopeTable>) -> Tensor<4> {
        let y = match norm {
            Some(norm) if self.shape.norm_by_head => norm.forward(self.split(y)),
            Some(norm) => self.split(norm.forward(y)),
            None => self.split(y),
        };
        match table {
            Some(table) => kernels::rope(y, table),
            None => y,
        }
    }

    fn parts(&self) -> &'static [Part] {
        match self.inputs.len() {
            1 => &[Part::QueryKeyValue],
            _ => &[Part::Query, Part::Key, Part::Value],
        }
    }

    pub(super) fn projections(&self) -> Vec<(Part, &Projection)> {
        let inputs = self.parts().iter().copied().zip(&self.inputs);
        inputs.chain([(Part::Output, &self.output)]).collect()
    }

    pub(super) fn try_map<E>(
        self,
        map: &mut impl FnMut(Part, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        let parts = self.parts();
        let inputs = parts.iter().zip(self.inputs).map(|(&part, it)| map(part, it));
        let inputs = inputs.collect::<Result<_, E>>()?;
        Ok(Self { inputs, output: map(Part::Output, self.output)?, ..self })
    }
}
