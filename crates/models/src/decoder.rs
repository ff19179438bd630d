//! The decoder: embeddings, blocks, norm and head, laid out as in a Hugging Face checkpoint.

mod cached;

use std::convert::Infallible;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use rekindle_kernels::RopeTable;
use rekindle_peft_core::adapter::lora::Lora;
use rekindle_peft_core::{Adapter, LoraConfig, PeftError, Projection};

use crate::arch::{Arch, Part, RopeSpec, Slot};
use crate::block::{Block, Norm, Placement};
use crate::causal_lm::CausalLm;
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
}

impl Decoder {
    /// A decoder from its parts.
    pub fn new(model: Backbone, lm_head: Option<Projection>, arch: Arch) -> Self {
        Self { model, lm_head, arch }
    }

    /// The architecture's numbers.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The decoder with every weight in another number format, adapters included.
    ///
    /// Activations and the cache take the weights' format; norms, attention weights and
    /// probabilities are computed in f32.
    #[must_use]
    pub fn cast(self, dtype: FloatDType) -> Self {
        self.map(&mut Cast(dtype))
    }

    /// The device that its weights are on.
    pub fn device(&self) -> Device {
        self.model.norm.weight().device()
    }

    /// The residual stream before every block and after the last norm: `n_layers + 1` tensors
    /// `[batch, seq, hidden]`, as transformers' `hidden_states`.
    pub fn hidden_states(
        &self,
        input_ids: Tensor<2, Int>,
        segments: Tensor<2, Int>,
    ) -> Vec<Tensor<3>> {
        let mut states = Vec::new();
        let last = self.run(input_ids, segments, |x| states.push(x.clone()));
        states.push(last);
        states
    }

    /// The forward pass without a cache; `see` is shown what goes into every block.
    fn run(
        &self,
        input_ids: Tensor<2, Int>,
        segments: Tensor<2, Int>,
        mut see: impl FnMut(&Tensor<3>),
    ) -> Tensor<3> {
        let [_, seq] = input_ids.dims();
        let positions = vec![(0..seq as u32).collect()];
        let place = self.placement(&positions, segments);
        let mut x = self.embedded(input_ids, self.position_ids(&positions));
        for block in &self.model.layers {
            see(&x);
            x = block.forward(x, &place, None);
        }
        self.model.norm.forward(x)
    }

    /// The residual stream before the first block; `positions` as [`Decoder::position_ids`] makes
    /// them.
    fn embedded(&self, ids: Tensor<2, Int>, positions: Option<Tensor<2, Int>>) -> Tensor<3> {
        let x = self.model.embed_tokens.forward(ids);
        let x = match self.arch.scales.embeddings {
            1.0 => x,
            scale => x * scale,
        };
        match (&self.model.positions, positions) {
            (Some(table), Some(positions)) => x + table.forward(positions),
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
        let Self { model: Backbone { layers, embed_tokens, positions, norm }, lm_head, arch } =
            self;
        let family = arch.family;
        let layers = layers.into_iter().enumerate().map(|(index, block)| {
            block.try_map(|part, it| map(&family.name(Slot::Block(index, part)), it))
        });
        let layers = layers.collect::<Result<_, E>>()?;
        let lm_head = lm_head.map(|head| map("lm_head", head)).transpose()?;
        Ok(Self { model: Backbone { layers, embed_tokens, positions, norm }, lm_head, arch })
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

/// Casts every parameter.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|it| it.cast(self.0))
    }
}

/// The frequencies of each row of positions; those that depend on a text's length are by row.
fn frequencies(rope: &RopeSpec, positions: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let lengths = positions.iter().map(|row| row.iter().max().map_or(0, |&last| last as usize + 1));
    lengths.map(|len| rope.inverse_frequencies(len)).collect()
}

impl CausalLm for Decoder {
    fn hidden(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<3> {
        self.run(input_ids, segments, |_| ())
    }

    /// A rotation that depends on the text's length is that of the whole text, as in transformers,
    /// whose loss runs over all of it.
    fn hidden_but_last(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = input_ids.dims();
        if self.arch.rope.as_ref().is_some_and(RopeSpec::depends_on_length) {
            let width = self.arch.hidden;
            return self.hidden(input_ids, segments).slice([0..batch, 0..seq - 1, 0..width]);
        }
        let but_last = |x: Tensor<2, Int>| x.slice([0..batch, 0..seq - 1]);
        self.hidden(but_last(input_ids), but_last(segments))
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
