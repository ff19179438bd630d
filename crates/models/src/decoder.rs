//! The decoder: embeddings, blocks, norm and head, laid out as in a Hugging Face checkpoint.

mod cached;
mod freeze;
mod precision;

use std::convert::Infallible;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_peft_core::adapter::lora::Lora;
use rekindle_peft_core::{Adapter, LoraConfig, PeftError, Projection};

use crate::arch::{Arch, Part, RopeSpec, Slot};
use crate::block::{Block, Norm, Placement};
use crate::causal_lm::CausalLm;
use crate::recompute::{BlockPass, Recompute, neftune};
use crate::tokens::Tokens;
pub(crate) use cached::Pass;

/// Embeddings of tokens or positions.
#[derive(Module, Debug)]
pub struct Embedding {
    weight: Param<Tensor<2>>, // [rows, hidden]
}

impl Embedding {
    /// Embeddings from `weight [rows, hidden]`.
    pub fn new(weight: Tensor<2>) -> Self {
        Self { weight: Param::from_tensor(weight) }
    }

    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = ids.dims();
        let rows = self.weight.val().select(0, ids.reshape([batch * seq]));
        let hidden = rows.dims()[1];
        rows.reshape([batch, seq, hidden])
    }
}

/// Everything but the head.
#[derive(Module, Debug)]
pub struct Backbone {
    /// Token embeddings.
    pub embed_tokens: Embedding,
    /// Embeddings of positions, where they are learned.
    pub positions: Option<Embedding>,
    /// The blocks, first to last.
    pub layers: Vec<Block>,
    /// The norm after the last block.
    pub norm: Norm,
}

/// A decoder-only language model.
///
/// One set of modules runs every family; [`Arch`] says how they are put together and what their
/// weights are called. Without `lm_head` the head is tied to the embeddings.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Embeddings, blocks and last norm.
    pub model: Backbone,
    /// The output projection; without it the head is the embeddings.
    pub lm_head: Option<Projection>,
    #[module(skip)]
    arch: Arch,
    #[module(skip)]
    recompute: Recompute,
    #[module(skip)]
    neftune_noise_alpha: Option<f64>,
    /// Format of activations, where it is not that of the weights.
    #[module(skip)]
    compute: Option<DType>,
}

impl Decoder {
    /// A decoder from its parts.
    pub fn new(model: Backbone, lm_head: Option<Projection>, arch: Arch) -> Self {
        let (recompute, neftune_noise_alpha, compute) = (Recompute::default(), None, None);
        Self { model, lm_head, arch, recompute, neftune_noise_alpha, compute }
    }

    /// The same decoder with some blocks run again in the backward pass instead of kept.
    ///
    /// It is the same function with the same gradients; off the autodiff device nothing is kept
    /// anyway.
    #[must_use]
    pub fn recomputing(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// The same decoder with noise on its embeddings while it trains on tokens with a seed
    /// ([`Tokens::with_noise`]): NEFTune (Jain et al. 2023, arXiv:2310.05914, algorithm 1).
    #[must_use]
    pub fn with_neftune(self, noise_alpha: f64) -> Self {
        Self { neftune_noise_alpha: Some(noise_alpha), ..self }
    }

    /// The architecture's numbers.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The device that its weights are on.
    pub fn device(&self) -> Device {
        self.model.norm.weight().device()
    }

    /// The residual stream before every block and after the last norm: `n_layers + 1` tensors
    /// `[batch, seq, hidden]`, as transformers' `hidden_states`.
    pub fn hidden_states(&self, tokens: Tokens) -> Vec<Tensor<3>> {
        let mut states = Vec::new();
        let last = self.run(tokens, |x| states.push(x.clone()));
        states.push(last);
        states
    }

    /// The forward pass without a cache; `see` is shown what goes into every block.
    fn run(&self, tokens: Tokens, mut see: impl FnMut(&Tensor<3>)) -> Tensor<3> {
        let positions = tokens.positions();
        let place = self.training_placement(&positions, tokens.segments.clone());
        let mut x = self.embedded(tokens.ids.clone(), self.position_ids(&positions));
        let training = x.is_autodiff();
        if training {
            x = self.noised(x, &tokens);
        }
        for (index, block) in self.model.layers.iter().enumerate() {
            see(&x);
            let pass = BlockPass::new(block, &place, tokens.noise(), index);
            x = match self.recompute.covers(index) && training {
                true => kernels::recomputed(pass, x, self.recompute.keep()),
                false => pass.forward(x),
            };
        }
        self.model.norm.forward(x)
    }

    /// The embeddings `x` with noise, where that is asked for and the tokens have a seed for it.
    fn noised(&self, x: Tensor<3>, tokens: &Tokens) -> Tensor<3> {
        match (self.neftune_noise_alpha, tokens.noise()) {
            (Some(alpha), Some(seed)) => neftune(x, &tokens.segments, alpha, seed),
            _ => x,
        }
    }

    /// The residual stream before the first block; `positions` as [`Decoder::position_ids`] makes
    /// them.
    fn embedded(&self, ids: Tensor<2, Int>, positions: Option<Tensor<2, Int>>) -> Tensor<3> {
        let dtype = self.compute_dtype();
        let x = kernels::in_dtype(self.model.embed_tokens.forward(ids), dtype);
        let x = match self.arch.scales.embeddings {
            1.0 => x,
            scale => x * scale,
        };
        match (&self.model.positions, positions) {
            (Some(table), Some(positions)) => {
                x + kernels::in_dtype(table.forward(positions), dtype)
            }
            _ => x,
        }
    }

    /// The positions as the model's own table takes them, where it has one: one row for all
    /// sequences, or one a sequence.
    fn position_ids(&self, positions: &[Vec<u32>]) -> Option<Tensor<2, Int>> {
        let shape = [positions.len(), positions[0].len()];
        let places = self.places(positions)?;
        Some(Tensor::from_data(TensorData::new(places, shape), &self.device()))
    }

    /// Rows of the table of positions. Padding, and texts that have ended and are carried along,
    /// may reach past the table; they are given the last place.
    fn places(&self, positions: &[Vec<u32>]) -> Option<Vec<i32>> {
        let last = self.model.positions.as_ref()?.weight.dims()[0].saturating_sub(1) as u32;
        Some(positions.iter().flatten().map(|&at| at.min(last) as i32).collect())
    }

    /// As [`Decoder::placement`], for many positions a row: angles are worked out once for each of
    /// them and gathered on the device.
    fn training_placement(&self, positions: &[Vec<u32>], segments: Tensor<2, Int>) -> Placement {
        let ropes = [&self.arch.rope, &self.arch.local_rope];
        let by_text = ropes.into_iter().flatten().any(RopeSpec::depends_on_length);
        if positions.len() == 1 && counts(&positions[0]) || by_text {
            return self.placement(positions, segments);
        }
        let longest = positions.iter().flatten().max().map_or(0, |&last| last + 1);
        let all = self.placement(&[(0..longest).collect()], segments);
        let shape = [positions.len(), positions[0].len()];
        let places = positions.iter().flatten().map(|&at| at as i32).collect();
        let places: Tensor<2, Int> =
            Tensor::from_data(TensorData::new::<i32, _>(places, shape), &self.device().inner());
        let gathered = |table: Option<RopeTable>| table.map(|it| it.at(places.clone()));
        let (rope, local_rope) = (gathered(all.rope), gathered(all.local_rope));
        Placement { segments: all.segments, rope, local_rope }
    }

    fn placement(&self, positions: &[Vec<u32>], segments: Tensor<2, Int>) -> Placement {
        let device = self.device().inner();
        let table = |rope: &Option<RopeSpec>| {
            let rope = rope.as_ref()?;
            let frequencies = frequencies(rope, positions);
            Some(RopeTable::new(positions, &frequencies, rope.magnitude(), &device))
        };
        let (rope, local_rope) = (table(&self.arch.rope), table(&self.arch.local_rope));
        Placement { segments, rope, local_rope }
    }

    /// Whether a forward pass asks the device for nothing, so that it can be recorded. Experts are
    /// chosen on the host.
    pub(crate) fn stays_on_device(&self) -> bool {
        self.arch.experts.is_none()
    }

    /// Hugging Face's name of a part of block `index`.
    fn name(&self, index: usize, part: Part) -> String {
        self.arch.family.name(Slot::Block(index, part))
    }

    /// Names and values of every linear map, in Hugging Face's naming and in the model's order.
    pub fn projections(&self) -> Vec<(String, &Projection)> {
        let blocks = self.model.layers.iter().enumerate().flat_map(|(index, block)| {
            let parts = block.projections().into_iter();
            parts.map(move |(part, projection)| (self.name(index, part), projection))
        });
        let head = self.lm_head.iter().map(|head| ("lm_head".to_owned(), head));
        blocks.chain(head).collect()
    }

    /// The same decoder with `map` applied to every linear map and its name.
    ///
    /// # Errors
    /// The first error that `map` returns.
    pub fn try_map_projections<E>(
        self,
        mut map: impl FnMut(&str, Projection) -> Result<Projection, E>,
    ) -> Result<Self, E> {
        let Self { model: Backbone { layers, embed_tokens, positions, norm }, lm_head, .. } = self;
        let family = self.arch.family;
        let layers = layers.into_iter().enumerate().map(|(index, block)| {
            block.try_map(|part, it| map(&family.name(Slot::Block(index, part)), it))
        });
        let layers = layers.collect::<Result<_, E>>()?;
        let lm_head = lm_head.map(|head| map("lm_head", head)).transpose()?;
        let model = Backbone { layers, embed_tokens, positions, norm };
        Ok(Self { model, lm_head, ..self })
    }

    /// The decoder frozen, with a fresh LoRA adapter on every linear map that `config` targets.
    ///
    /// # Errors
    /// As [`LoraConfig::init`] and [`rekindle_peft_core::Targets::select`].
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, PeftError> {
        let device = self.device();
        self.with_adapters(config, |name, dims| config.init(dims, seed, name, &device))
    }

    /// The decoder frozen, with `make(name, [d_out, d_in])` as adapter of each targeted map.
    ///
    /// # Errors
    /// As [`rekindle_peft_core::Targets::select`] and whatever `make` returns.
    pub fn with_adapters(
        self,
        config: &LoraConfig,
        mut make: impl FnMut(&str, [usize; 2]) -> Result<Lora, PeftError>,
    ) -> Result<Self, PeftError> {
        config.validate()?;
        let names: Vec<String> = self.projections().into_iter().map(|(name, _)| name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = config.target_modules.select(&names)?;
        let frozen = self.set_require_grad(false);
        frozen.try_map_projections(|name, projection| {
            if !chosen.contains(&name) {
                return Ok(projection);
            }
            let lora = make(name, projection.base().dims())?;
            Ok(projection.attach(Adapter::Lora(lora)))
        })
    }

    /// The decoder without its adapters: the model they were put on, as a reference beside them.
    ///
    /// Every weight is shared with `self`; nothing is copied.
    #[must_use]
    pub fn without_adapters(&self) -> Self {
        let bare = self.clone().try_map_projections(|_, it| Ok(it.without_adapter()));
        bare.unwrap_or_else(|never: Infallible| match never {})
    }

    /// Every weight as a Hugging Face folder holds it, adapters merged; a tied head is left out.
    pub fn merged_tensors(&self) -> Vec<(String, MergedTensor)> {
        let family = self.arch.family;
        let transposed = family.wiring().transposed;
        let table = |slot, it: &Embedding| {
            (format!("{}.weight", family.name(slot)), MergedTensor::Matrix(it.weight.val()))
        };
        let mut tensors = vec![table(Slot::Embeddings, &self.model.embed_tokens)];
        tensors.extend(self.model.positions.iter().map(|it| table(Slot::Positions, it)));
        let blocks = self.model.layers.iter().enumerate();
        let norms = blocks.clone().flat_map(|(index, block)| {
            block.norms().map(move |(part, norm)| (self.name(index, part), norm))
        });
        for (name, norm) in norms.chain([(family.name(Slot::FinalNorm), &self.model.norm)]) {
            tensors.push((format!("{name}.weight"), MergedTensor::Vector(norm.weight())));
            let bias = norm.bias().map(MergedTensor::Vector);
            tensors.extend(bias.map(|bias| (format!("{name}.bias"), bias)));
        }
        tensors.extend(blocks.filter_map(|(index, block)| {
            let name = format!("{}.weight", self.name(index, Part::Router));
            Some((name, MergedTensor::Matrix(block.router()?)))
        }));
        for (name, projection) in self.projections() {
            let merged = projection.merged();
            let merged = if transposed && name != "lm_head" { merged.transpose() } else { merged };
            tensors.push((format!("{name}.weight"), MergedTensor::Matrix(merged)));
            if let Some(bias) = projection.bias() {
                tensors.push((format!("{name}.bias"), MergedTensor::Vector(bias)));
            }
        }
        tensors
    }

    /// Names and values of the adapters' tensors, without PEFT's `base_model.model.` prefix.
    pub fn adapter_tensors(&self) -> Vec<(String, Tensor<2>)> {
        let mut tensors = Vec::new();
        for (name, projection) in self.projections() {
            if let Some(adapter) = projection.adapter() {
                let named = adapter.math().tensors().into_iter();
                tensors.extend(named.map(|(part, tensor)| (format!("{name}.{part}"), tensor)));
            }
        }
        tensors
    }
}

/// A weight of a merged model.
#[derive(Clone, Debug)]
pub enum MergedTensor {
    /// A bias or a gain.
    Vector(Tensor<1>),
    /// A linear map or the embeddings.
    Matrix(Tensor<2>),
}

/// Whether positions are 0, 1, 2..
pub(crate) fn counts(positions: &[u32]) -> bool {
    positions.iter().zip(0..).all(|(&position, at)| position == at)
}

/// The frequencies of each row of positions; those that depend on a text's length are by row.
fn frequencies(rope: &RopeSpec, positions: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let lengths = positions.iter().map(|row| row.iter().max().map_or(0, |&last| last as usize + 1));
    lengths.map(|len| rope.inverse_frequencies(len)).collect()
}

impl CausalLm for Decoder {
    fn hidden(&self, tokens: Tokens) -> Tensor<3> {
        self.run(tokens, |_| ())
    }

    /// A rotation that depends on the text's length is that of the whole text, as in transformers,
    /// whose loss runs over all of it.
    fn hidden_but_last(&self, tokens: Tokens) -> Tensor<3> {
        if self.arch.rope.as_ref().is_some_and(RopeSpec::depends_on_length) {
            let ([batch, seq], width) = (tokens.dims(), self.arch.hidden);
            return self.hidden(tokens).slice([0..batch, 0..seq - 1, 0..width]);
        }
        self.hidden(tokens.but_last())
    }

    fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.merged(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    fn logit_scale(&self) -> f64 {
        self.arch.scales.logits
    }

    fn logit_cap(&self) -> Option<f64> {
        self.arch.scales.logits_cap
    }
}
