//! The decoder: embeddings, blocks, norm and head, laid out as in a Hugging Face checkpoint.

use std::iter::repeat_n;

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_kernels::{self as kernels, RopeTable};
use rekindle_peft_core::adapter::lora::Lora;
use rekindle_peft_core::{Adapter, LoraConfig, PeftError, Projection};

use crate::arch::Arch;
use crate::block::{Block, Norm, Placement};
use crate::cache::Cache;
use crate::causal_lm::CausalLm;

/// Token embeddings; the field carries Hugging Face's name.
#[derive(Module, Debug)]
pub struct Embedding {
    weight: Param<Tensor<2>>, // [vocab, hidden]
}

impl Embedding {
    /// Embeddings from `weight [vocab, hidden]`.
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

/// What Hugging Face calls `model`: everything but the head.
#[derive(Module, Debug)]
pub struct Backbone {
    /// Token embeddings.
    pub embed_tokens: Embedding,
    /// The blocks, first to last.
    pub layers: Vec<Block>,
    /// The norm after the last block.
    pub norm: Norm,
}

/// A decoder-only language model.
///
/// Field names are Hugging Face's parameter names. Without `lm_head` the head is tied to the
/// embeddings.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Embeddings, blocks and last norm.
    pub model: Backbone,
    /// The output projection, where it is not tied.
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

    /// Hidden states after the last norm of `rows` of tokens that follow what `cache` holds:
    /// `[batch, seq, hidden]`, those of each row's new tokens last.
    ///
    /// Positions count from 0 in every row. Rows of different lengths can start an empty cache;
    /// the shorter ones are padded on the left, and all of them where the cache rounds up.
    ///
    /// # Panics
    /// If there are not as many rows as the cache has, or rows that follow others differ in length.
    pub fn hidden_cached(&self, rows: &[&[u32]], cache: &mut Cache) -> Tensor<3> {
        let added: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        assert_eq!(added.len(), cache.seen().len(), "rows of tokens and rows of the cache");
        let starts = cache.seen().iter().all(|&seen| seen == 0);
        assert!(starts || added.iter().all(|&len| len == added[0]), "rows differ in length");
        let device = self.model.norm.weight().device();
        let slots = cache.slots_with(&added);
        let seq = if starts { slots } else { added[0] };
        let padding = |row: &[u32]| repeat_n(0, seq - row.len());
        let ids: Vec<i32> = rows
            .iter()
            .flat_map(|row| padding(row).chain(row.iter().map(|&token| token as i32)))
            .collect();
        let positions = rows.iter().zip(cache.seen()).map(|(row, &seen)| {
            let new = (seen..seen + row.len()).map(|position| position as u32);
            padding(row).map(|_| 0).chain(new).collect()
        });
        let place = self.placement(positions.collect(), cache.segments_with(&added, &device));
        let ids = Tensor::from_data(TensorData::new(ids, [rows.len(), seq]), &device);
        let mut x = self.model.embed_tokens.forward(ids);
        for (block, layer) in self.model.layers.iter().zip(&mut cache.layers) {
            x = block.forward(x, &place, Some((layer, slots)));
        }
        cache.advance(&added);
        self.model.norm.forward(x)
    }

    /// The residual stream before every block and after the last norm: `n_layers + 1` tensors
    /// `[batch, seq, hidden]`, as transformers' `hidden_states`.
    pub fn hidden_states(
        &self,
        input_ids: Tensor<2, Int>,
        segments: Tensor<2, Int>,
    ) -> Vec<Tensor<3>> {
        let [_, seq] = input_ids.dims();
        let place = self.placement(vec![(0..seq as u32).collect()], segments);
        let mut x = self.model.embed_tokens.forward(input_ids);
        let mut states = vec![x.clone()];
        for block in &self.model.layers {
            x = block.forward(x, &place, None);
            states.push(x.clone());
        }
        if let Some(last) = states.last_mut() {
            *last = self.model.norm.forward(x);
        }
        states
    }

    /// `positions` are one row for all sequences, or one a sequence.
    fn placement(&self, positions: Vec<Vec<u32>>, segments: Tensor<2, Int>) -> Placement {
        let frequencies = self.arch.rope.inverse_frequencies(self.arch.head_dim);
        let device = self.model.norm.weight().device().inner();
        Placement { segments, rope: RopeTable::new(&positions, &frequencies, &device) }
    }

    /// Names and values of every linear map, in Hugging Face's naming and in the model's order.
    pub fn projections(&self) -> Vec<(String, &Projection)> {
        let blocks = self.model.layers.iter().enumerate().flat_map(|(index, block)| {
            block
                .projections()
                .map(|(name, projection)| (format!("model.layers.{index}.{name}"), projection))
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
        let Self { model: Backbone { embed_tokens, layers, norm }, lm_head, arch } = self;
        let layers = layers.into_iter().enumerate().map(|(index, block)| {
            block.try_map(|name, it| map(&format!("model.layers.{index}.{name}"), it))
        });
        let layers = layers.collect::<Result<_, E>>()?;
        let lm_head = lm_head.map(|head| map("lm_head", head)).transpose()?;
        Ok(Self { model: Backbone { embed_tokens, layers, norm }, lm_head, arch })
    }

    /// The decoder frozen, with a fresh LoRA adapter on every linear map that `config` targets.
    ///
    /// # Errors
    /// As [`LoraConfig::init`] and [`rekindle_peft_core::Targets::select`].
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, PeftError> {
        let device = self.model.norm.weight().device();
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

    /// Every weight under its Hugging Face name, adapters merged; a tied head is left out.
    pub fn merged_tensors(&self) -> Vec<(String, MergedTensor)> {
        let one = |norm: &Norm| MergedTensor::Vector(norm.weight());
        let embeddings = MergedTensor::Matrix(self.model.embed_tokens.weight.val());
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), embeddings)];
        for (index, block) in self.model.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            tensors.push((name("input_layernorm"), one(&block.input_layernorm)));
            tensors.push((name("post_attention_layernorm"), one(&block.post_attention_layernorm)));
            let attention = &block.self_attn;
            for (part, norm) in [("q_norm", &attention.q_norm), ("k_norm", &attention.k_norm)] {
                let norm = norm.iter().map(|norm| (name(&format!("self_attn.{part}")), one(norm)));
                tensors.extend(norm);
            }
        }
        tensors.push(("model.norm.weight".to_owned(), one(&self.model.norm)));
        for (name, projection) in self.projections() {
            tensors.push((format!("{name}.weight"), MergedTensor::Matrix(projection.merged())));
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

impl CausalLm for Decoder {
    fn hidden(&self, input_ids: Tensor<2, Int>, segments: Tensor<2, Int>) -> Tensor<3> {
        let [_, seq] = input_ids.dims();
        let place = self.placement(vec![(0..seq as u32).collect()], segments);
        let mut x = self.model.embed_tokens.forward(input_ids);
        for block in &self.model.layers {
            x = block.forward(x, &place, None);
        }
        self.model.norm.forward(x)
    }

    fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.merged(),
            None => self.model.embed_tokens.weight.val(),
        }
    }
}

impl Decoder {
    /// Scores of the next token after the last position: `[batch, vocab]`.
    pub(crate) fn last_logits(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch, seq, width] = hidden.dims();
        let last = hidden.slice([0..batch, seq - 1..seq, 0..width]).reshape([batch, width]);
        kernels::linear(last, self.head())
    }
}
