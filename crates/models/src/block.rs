//! One decoder block: attention and feed-forward, each between norms and added to its input.

pub mod attention;
pub mod feed_forward;

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_peft_core::Projection;

pub use attention::Attention;
pub use feed_forward::{ExpertLayer, FeedForward, Mlp};

use crate::arch::{NormKind, Part};
use crate::cache::{LayerCache, Span};

/// A norm with its gain, and with its bias where the family has one.
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<1>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// A norm with gain `weight [hidden]`; only [`NormKind::Layer`] reads the bias.
    pub fn new(weight: Tensor<1>, bias: Option<Tensor<1>>, kind: NormKind, eps: f64) -> Self {
        let bias = bias.map(Param::from_tensor);
        Self { weight: Param::from_tensor(weight), bias, kind, eps }
    }

    /// Normalises `x [.., hidden]` over its last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gain = kernels::in_dtype(self.weight.val(), x.dtype());
        match self.kind {
            NormKind::Rms => kernels::rms_norm(x, gain, self.eps),
            NormKind::RmsPlusOne => kernels::rms_norm(x, gain + 1.0, self.eps),
            NormKind::Layer => {
                let bias = self.bias().unwrap_or_else(|| gain.zeros_like());
                kernels::layer_norm(x, gain, bias, self.eps)
            }
        }
    }

    /// The gain `[hidden]`, as files hold it.
    pub fn weight(&self) -> Tensor<1> {
        self.weight.val()
    }

    /// The bias `[hidden]`, where there is one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }
}

/// Where the tokens of a forward pass stand.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Segment of every key, `[batch, keys]`.
    pub segments: Tensor<2, Int>,
    /// Rotation of every query.
    pub rope: Option<RopeTable>,
    /// Rotation in blocks with a window, where it is another.
    pub local_rope: Option<RopeTable>,
}

/// Norms of what goes into a layer and of what comes out of it.
#[derive(Module, Debug)]
pub struct NormPair {
    /// Before the layer, where there is one.
    pub before: Option<Norm>,
    /// After the layer, where there is one.
    pub after: Option<Norm>,
}

impl NormPair {
    /// `after(layer(before(x)))`.
    fn around(&self, x: Tensor<3>, layer: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let x = match &self.before {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let y = layer(x);
        match &self.after {
            Some(norm) => norm.forward(y),
            None => y,
        }
    }
}

/// One block of the decoder.
#[derive(Module, Debug)]
pub struct Block {
    /// Attention.
    pub attention: Attention,
    /// The norms around attention.
    pub attention_norms: NormPair,
    /// Feed-forward.
    pub mlp: FeedForward,
    /// The norms around the feed-forward layer.
    pub mlp_norms: NormPair,
    /// What is added to the residual stream is multiplied by this.
    #[module(skip)]
    pub residual_scale: f64,
}

impl Block {
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        place: &Placement,
        cache: Option<(&mut LayerCache, &Span)>,
    ) -> Tensor<3> {
        let x = self.attended(x, place, cache);
        let fed = self.mlp_norms.around(x.clone(), |x| self.mlp.forward(x));
        x + self.scaled(fed)
    }

    /// `[1]` with the gradients of `Σ grad ⊙ forward(x)`, to be called `backward` on.
    ///
    /// Where the last product only adds to the residual stream, it is not made: nothing reads it.
    pub(crate) fn pull(&self, x: Tensor<3>, place: &Placement, grad: Tensor<3>) -> Tensor<1> {
        let (FeedForward::Dense(mlp), None) = (&self.mlp, &self.mlp_norms.after) else {
            return kernels::pull(self.forward(x, place, None), grad);
        };
        let x = self.attended(x, place, None);
        let fed = match &self.mlp_norms.before {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        mlp.pull(fed, self.scaled(grad.clone())) + kernels::pull(x, grad)
    }

    /// The residual stream after attention.
    fn attended(
        &self,
        x: Tensor<3>,
        place: &Placement,
        cache: Option<(&mut LayerCache, &Span)>,
    ) -> Tensor<3> {
        let attended =
            self.attention_norms.around(x.clone(), |x| self.attention.forward(x, place, cache));
        x + self.scaled(attended)
    }

    fn scaled(&self, y: Tensor<3>) -> Tensor<3> {
        match self.residual_scale {
            1.0 => y,
            scale => y * scale,
        }
    }

    /// Places, within the block, and values of its projections.
    pub(crate) fn projections(&self) -> Vec<(Part, &Projection)> {
        self.attention.projections().into_iter().chain(self.mlp.projections()).collect()
    }

    /// Places, within the block, and values of its norms.
    pub(crate) fn norms(&self) -> impl Iterator<Item = (Part, &Norm)> {
        let around = [
            (Part::AttentionNorm, &self.attention_norms.before),
            (Part::AttentionPostNorm, &self.attention_norms.after),
            (Part::MlpNorm, &self.mlp_norms.before),
            (Part::MlpPostNorm, &self.mlp_norms.after),
            (Part::QueryNorm, &self.attention.q_norm),
            (Part::KeyNorm, &self.attention.k_norm),
        ];
        around.into_iter().filter_map(|(part, norm)| Some((part, norm.as_ref()?)))
    }

    /// The router of its experts, where it has any.
    pub(crate) fn router(&self) -> Option<Tensor<2>> {
        match &self.mlp {
            FeedForward::Dense(_) => None,
            FeedForward::Experts(layer) => Some(layer.router()),
        }
    }

    /// The block with `map` applied to each projection and its place within the block.
    pub(crate) fn try_map<E>(
        self,
        mut map: impl FnMut(Part, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        let attention = self.attention.try_map(&mut map)?;
        Ok(Self { attention, mlp: self.mlp.try_map(&mut map)?, ..self })
    }
}
