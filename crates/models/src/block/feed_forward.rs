//! Feed-forward layers: one for all tokens, or experts of which each token is sent to a few.

use burn::module::{Module, Param};
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData, activation};
use rekindle_kernels::{self as kernels, Activation};
use rekindle_peft_core::Projection;

use crate::arch::{self, Experts, Part};

/// What stands where a block has its feed-forward layer.
#[expect(clippy::large_enum_variant, reason = "there is one a block, and most are dense")]
#[derive(Module, Debug)]
pub enum FeedForward {
    /// One layer for all tokens.
    Dense(Mlp),
    /// Experts.
    Experts(ExpertLayer),
}

/// A feed-forward layer.
#[derive(Module, Debug)]
pub struct Mlp {
    /// To gate and gated, by two projections or by one to both in that order; or, without a gate,
    /// to what is bent.
    pub inputs: Vec<Projection>,
    /// Back to the residual stream, `[hidden, intermediate]`.
    pub down: Projection,
    /// What bends it.
    #[module(skip)]
    pub activation: Activation,
    /// Whether it is gated.
    #[module(skip)]
    pub gated: bool,
}

impl Mlp {
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.down.forward(self.bent(x))
    }

    /// `[1]` with the gradients of `Σ grad ⊙ forward(x)`; the last product is not made.
    pub(crate) fn pull(&self, x: Tensor<3>, grad: Tensor<3>) -> Tensor<1> {
        self.down.pull(self.bent(x), grad)
    }

    /// What goes into the last product.
    fn bent(&self, x: Tensor<3>) -> Tensor<3> {
        match self.inputs.as_slice() {
            [gate, up] => {
                let gate = gate.forward(x.clone());
                kernels::gated(gate, up.forward(x), self.activation)
            }
            both if self.gated => {
                let both = both[0].forward(x);
                let wide = both.dims()[2] / 2;
                let [gate, up] = [0, wide].map(|at| both.clone().narrow(2, at, wide));
                kernels::gated(gate, up, self.activation)
            }
            one => kernels::activate(one[0].forward(x), self.activation),
        }
    }

    fn parts(&self) -> &'static [arch::Mlp] {
        match (self.inputs.len(), self.gated) {
            (1, true) => &[arch::Mlp::GateUp],
            (1, false) => &[arch::Mlp::Up],
            _ => &[arch::Mlp::Gate, arch::Mlp::Up],
        }
    }

    fn projections(&self) -> impl Iterator<Item = (arch::Mlp, &Projection)> {
        let inputs = self.parts().iter().copied().zip(&self.inputs);
        inputs.chain([(arch::Mlp::Down, &self.down)])
    }

    fn try_map<E>(
        self,
        mut map: impl FnMut(arch::Mlp, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        let parts = self.parts();
        let inputs = parts.iter().zip(self.inputs).map(|(&part, it)| map(part, it));
        let inputs = inputs.collect::<Result<_, E>>()?;
        Ok(Self { inputs, down: map(arch::Mlp::Down, self.down)?, ..self })
    }
}

/// Experts and the router that chooses among them.
///
/// With `p = softmax(router · x)`, the result is `Σ wₑ · expertₑ(x)` over the few experts of the
/// largest `p`, where `w` is their `p`, divided by its sum if the weights are normalised.
/// Jiang et al. 2024 (arXiv:2401.04088), §2.1.
#[derive(Module, Debug)]
pub struct ExpertLayer {
    router: Param<Tensor<2>>, // [count, hidden]
    /// The experts.
    pub experts: Vec<Mlp>,
    #[module(skip)]
    numbers: Experts,
}

impl ExpertLayer {
    /// A layer from `router [count, hidden]` and as many experts.
    pub fn new(router: Tensor<2>, experts: Vec<Mlp>, numbers: Experts) -> Self {
        Self { router: Param::from_tensor(router), experts, numbers }
    }

    /// The router `[count, hidden]`.
    pub fn router(&self) -> Tensor<2> {
        self.router.val()
    }

    /// Which experts a token is sent to is decided on the host, once a layer.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, hidden] = x.dims();
        let n = batch * seq;
        let x = x.reshape([n, hidden]);
        let router = kernels::in_dtype(self.router(), x.dtype());
        let scores = kernels::in_dtype(kernels::linear(x.clone(), router), DType::F32);
        let scores = activation::softmax(scores, 1);
        let chosen = self.chosen(&scores);
        let device = x.device().inner();
        let count = self.numbers.count;
        let mut mask = vec![0.0f32; n * count];
        for (token, experts) in chosen.iter().enumerate() {
            experts.iter().for_each(|expert| mask[token * count + expert] = 1.0);
        }
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [n, count]), &x.device());
        let mut weights = scores * mask;
        if self.numbers.normalised {
            weights = weights.clone() / weights.sum_dim(1);
        }
        let weights = kernels::in_dtype(weights, x.dtype());
        let mut y = x.zeros_like();
        for (index, expert) in self.experts.iter().enumerate() {
            let tokens: Vec<i32> = (0..n)
                .filter(|&token| chosen[token].contains(&index))
                .map(|token| token as i32)
                .collect();
            if tokens.is_empty() {
                continue;
            }
            let m = tokens.len();
            let tokens: Tensor<1, Int> = Tensor::from_data(TensorData::new(tokens, [m]), &device);
            let part = x.clone().select(0, tokens.clone()).reshape([1, m, hidden]);
            let weight = weights.clone().narrow(1, index, 1).select(0, tokens.clone());
            let part = expert.forward(part).reshape([m, hidden]) * weight;
            y = y.select_assign(0, tokens, part, IndexingUpdateOp::Add);
        }
        y.reshape([batch, seq, hidden])
    }

    /// The experts of each token, those of the highest scores first; of equals the first.
    fn chosen(&self, scores: &Tensor<2>) -> Vec<Vec<usize>> {
        let scores: Vec<f32> = scores.clone().into_data().iter::<f32>().collect();
        let best = |row: &[f32]| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order.truncate(self.numbers.per_token);
            order
        };
        scores.chunks_exact(self.numbers.count).map(best).collect()
    }
}

impl FeedForward {
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Experts(layer) => layer.forward(x),
        }
    }

    pub(super) fn projections(&self) -> Vec<(Part, &Projection)> {
        match self {
            Self::Dense(mlp) => mlp.projections().map(|(part, it)| (Part::Mlp(part), it)).collect(),
            Self::Experts(layer) => {
                let experts = layer.experts.iter().enumerate();
                experts
                    .flat_map(|(index, mlp)| {
                        mlp.projections().map(move |(part, it)| (Part::Expert(index, part), it))
                    })
                    .collect()
            }
        }
    }

    pub(super) fn try_map<E>(
        self,
        map: &mut impl FnMut(Part, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        match self {
            Self::Dense(mlp) => mlp.try_map(|part, it| map(Part::Mlp(part), it)).map(Self::Dense),
            Self::Experts(ExpertLayer { router, experts, numbers }) => {
                let experts = experts
                    .into_iter()
                    .enumerate()
                    .map(|(index, mlp)| mlp.try_map(|part, it| map(Part::Expert(index, part), it)));
                let experts = experts.collect::<Result<_, E>>()?;
                Ok(Self::Experts(ExpertLayer { router, experts, numbers }))
            }
        }
    }
}
