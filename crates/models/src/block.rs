//! One decoder block: attention and feed-forward, each behind a norm and added to its input.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_peft_core::Projection;

use crate::cache::LayerCache;

/// RMSNorm with its gain; the field carries Hugging Face's name.
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// A norm with gain `weight [hidden]`.
    pub fn new(weight: Tensor<1>, eps: f64) -> Self {
        Self { weight: Param::from_tensor(weight), eps }
    }

    /// Normalises `x [.., hidden]` over its last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        kernels::rms_norm(x, self.weight.val(), self.eps)
    }

    /// The gain `[hidden]`.
    pub fn weight(&self) -> Tensor<1> {
        self.weight.val()
    }
}

/// Where the tokens of a forward pass stand.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Segment of every key, `[batch, keys]`.
    pub segments: Tensor<2, Int>,
    /// Rotation of every query.
    pub rope: RopeTable,
}

/// Grouped-query attention with its four projections.
#[derive(Module, Debug)]
pub struct Attention {
    /// To the queries, `[heads · head_dim, hidden]`.
    pub q_proj: Projection,
    /// To the keys, `[kv_heads · head_dim, hidden]`.
    pub k_proj: Projection,
    /// To the values, `[kv_heads · head_dim, hidden]`.
    pub v_proj: Projection,
    /// Back to the residual stream, `[hidden, heads · head_dim]`.
    pub o_proj: Projection,
    /// Norm of each query head, where there is one.
    pub q_norm: Option<Norm>,
    /// Norm of each key head, where there is one.
    pub k_norm: Option<Norm>,
    #[module(skip)]
    head_dim: usize,
}

impl Attention {
    /// Attention over heads of `head_dim`, with the norms of queries and keys if there are any.
    pub fn new(
        [q, k, v, o]: [Projection; 4],
        [q_norm, k_norm]: [Option<Norm>; 2],
        head_dim: usize,
    ) -> Self {
        Self { q_proj: q, k_proj: k, v_proj: v, o_proj: o, q_norm, k_norm, head_dim }
    }

    fn forward(
        &self,
        x: Tensor<3>,
        place: &Placement,
        cache: Option<(&mut LayerCache, usize)>,
    ) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let split = |y: Tensor<3>| {
            let heads = y.dims()[2] / self.head_dim;
            y.reshape([batch, seq, heads, self.head_dim])
        };
        let turned = |y: Tensor<4>, norm: &Option<Norm>| match norm {
            Some(norm) => kernels::rope(norm.forward(y), &place.rope),
            None => kernels::rope(y, &place.rope),
        };
        let q = turned(split(self.q_proj.forward(x.clone())), &self.q_norm);
        let k = turned(split(self.k_proj.forward(x.clone())), &self.k_norm);
        let v = split(self.v_proj.forward(x));
        let (k, v) = match cache {
            Some((cache, slots)) => cache.extend(k, v, slots),
            None => (k, v),
        };
        let scale = (self.head_dim as f64).sqrt().recip();
        let y = kernels::attention(q, k, v, place.segments.clone(), scale);
        let [_, _, heads, head_dim] = y.dims();
        self.o_proj.forward(y.reshape([batch, seq, heads * head_dim]))
    }
}

/// The gated feed-forward layer.
#[derive(Module, Debug)]
pub struct Mlp {
    /// To the gate, `[intermediate, hidden]`.
    pub gate_proj: Projection,
    /// To what is gated, `[intermediate, hidden]`.
    pub up_proj: Projection,
    /// Back to the residual stream, `[hidden, intermediate]`.
    pub down_proj: Projection,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone());
        self.down_proj.forward(kernels::swiglu(gate, self.up_proj.forward(x)))
    }
}

/// One block of the decoder.
#[derive(Module, Debug)]
pub struct Block {
    /// Attention.
    pub self_attn: Attention,
    /// Feed-forward.
    pub mlp: Mlp,
    /// Norm before attention.
    pub input_layernorm: Norm,
    /// Norm before the feed-forward layer.
    pub post_attention_layernorm: Norm,
}

impl Block {
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        place: &Placement,
        cache: Option<(&mut LayerCache, usize)>,
    ) -> Tensor<3> {
        let attended =
            self.self_attn.forward(self.input_layernorm.forward(x.clone()), place, cache);
        let x = x + attended;
        x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x))
    }

    /// Names, within the block, and values of its projections.
    pub(crate) fn projections(&self) -> [(&'static str, &Projection); 7] {
        [
            ("self_attn.q_proj", &self.self_attn.q_proj),
            ("self_attn.k_proj", &self.self_attn.k_proj),
            ("self_attn.v_proj", &self.self_attn.v_proj),
            ("self_attn.o_proj", &self.self_attn.o_proj),
            ("mlp.gate_proj", &self.mlp.gate_proj),
            ("mlp.up_proj", &self.mlp.up_proj),
            ("mlp.down_proj", &self.mlp.down_proj),
        ]
    }

    /// The block with `map` applied to each projection and its name within the block.
    pub(crate) fn try_map<E>(
        self,
        mut map: impl FnMut(&str, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        let Self { self_attn: attn, mlp, input_layernorm, post_attention_layernorm } = self;
        Ok(Self {
            self_attn: Attention {
                q_proj: map("self_attn.q_proj", attn.q_proj)?,
                k_proj: map("self_attn.k_proj", attn.k_proj)?,
                v_proj: map("self_attn.v_proj", attn.v_proj)?,
                o_proj: map("self_attn.o_proj", attn.o_proj)?,
                q_norm: attn.q_norm,
                k_norm: attn.k_norm,
                head_dim: attn.head_dim,
            },
            mlp: Mlp {
                gate_proj: map("mlp.gate_proj", mlp.gate_proj)?,
                up_proj: map("mlp.up_proj", mlp.up_proj)?,
                down_proj: map("mlp.down_proj", mlp.down_proj)?,
            },
            input_layernorm,
            post_attention_layernorm,
        })
    }
}
