//! From tensors to a decoder.

use std::collections::HashMap;

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use rekindle_kernels::AttentionRule;
use rekindle_peft_core::{Projection, init};
use rekindle_quant::BaseWeight;

use crate::arch::{self, Arch, Entry, Experts, NormKind, Part, QkNorm, Shape, Slot};
use crate::block::attention::{AttentionShape, Rotation};
use crate::block::{Attention, Block, ExpertLayer, FeedForward, Mlp, Norm, NormPair};
use crate::decoder::{Backbone, Decoder, Embedding};
use crate::error::ModelError;
use crate::load::{WeightSource, bare};

impl Decoder {
    /// Reads a decoder in f32, one tensor at a time, onto `device`.
    ///
    /// # Errors
    /// As [`Decoder::load_as`].
    pub fn load(
        source: &dyn WeightSource,
        arch: &Arch,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Self::load_as(source, arch, FloatDType::F32, device)
    }

    /// Reads a decoder in any number format, one tensor at a time, onto `device`.
    ///
    /// Peak host memory is the largest tensor once, in the format of its file if that is the one
    /// asked for and in f32 otherwise; the model itself where the device is the processor. Names without the
    /// backbone's prefix, as a checkpoint of the bare model has them, are taken too.
    ///
    /// # Errors
    /// [`ModelError`] where a tensor is missing, unexpected, of the wrong shape or unreadable.
    pub fn load_as(
        source: &dyn WeightSource,
        arch: &Arch,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let prefixed = bare::with_prefix(source, arch.family.backbone());
        let source: &dyn WeightSource = match &prefixed {
            Some(prefixed) => prefixed,
            None => source,
        };
        crate::load::strict_check(&arch.tensor_shapes(), source, arch.tied_head)?;
        build(arch, device, |name, shape, transposed| {
            let data = match (transposed, dtype) {
                (true, _) => TensorData::new(transpose(&source.read_f32(name)?, shape), shape),
                (false, FloatDType::F32) => TensorData::new(source.read_f32(name)?, shape),
                (false, _) => source.read(name)?,
            };
            Ok(data.convert_dtype(dtype.into()))
        })
    }

    /// A decoder with fresh weights, for training from scratch: matrices normal with standard
    /// deviation `arch.initializer_range`, gains one, biases zero, as transformers' Llama.
    pub fn random(arch: &Arch, seed: u64, device: &Device) -> Self {
        let gain = if arch.family.wiring().norm == NormKind::RmsPlusOne { 0.0 } else { 1.0 };
        let made = build(arch, device, |name, shape, _| {
            let n = shape.iter().product();
            let values = match shape {
                [_] if name.ends_with("bias") => vec![0.0; n],
                [_] => vec![gain; n],
                _ => {
                    let mut rng = init::generator(seed, "weight", name);
                    init::normal(&mut rng, n, arch.initializer_range)
                }
            };
            Ok::<_, std::convert::Infallible>(TensorData::new(values, shape))
        });
        match made {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }
}

/// The rows of a `[rows, cols]` matrix that `values` holds column by column.
fn transpose(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let (rows, cols) = (shape[0], shape[1]);
    let mut turned = Vec::with_capacity(values.len());
    for row in 0..rows {
        turned.extend((0..cols).map(|col| values[col * rows + row]));
    }
    turned
}

/// Puts a decoder together from `read(name, shape, transposed)`: the values of a weight in the
/// order of `shape`, which its file holds transposed or not.
fn build<E>(
    arch: &Arch,
    device: &Device,
    read: impl Fn(&str, &[usize], bool) -> Result<TensorData, E>,
) -> Result<Decoder, E> {
    let entries = arch.entries().into_iter().map(|entry| (entry.slot, entry)).collect();
    let parts = Parts { arch, device, entries, read };
    let layers = (0..arch.n_layers()).map(|index| parts.block(index)).collect::<Result<_, E>>()?;
    let backbone = Backbone {
        embed_tokens: Embedding::new(parts.table(Slot::Embeddings)?),
        positions: match arch.rope {
            Some(_) => None,
            None => Some(Embedding::new(parts.table(Slot::Positions)?)),
        },
        layers,
        norm: parts.norm(Slot::FinalNorm)?,
    };
    let head = if arch.tied_head { None } else { Some(parts.projection(Slot::Head)?) };
    Ok(Decoder::new(backbone, head, arch.clone()))
}

struct Parts<'a, F> {
    arch: &'a Arch,
    device: &'a Device,
    entries: HashMap<Slot, Entry>,
    read: F,
}

impl<E, F: Fn(&str, &[usize], bool) -> Result<TensorData, E>> Parts<'_, F> {
    fn weight<const D: usize>(&self, slot: Slot, shape: [usize; D]) -> Result<Tensor<D>, E> {
        let transposed = self.arch.is_transposed(&self.entries[&slot]);
        let name = format!("{}.weight", self.arch.family.name(slot));
        Ok(self.tensor((self.read)(&name, &shape, transposed)?))
    }

    fn bias(&self, slot: Slot, len: usize) -> Result<Option<Tensor<1>>, E> {
        if !self.entries[&slot].bias {
            return Ok(None);
        }
        let name = format!("{}.bias", self.arch.family.name(slot));
        Ok(Some(self.tensor((self.read)(&name, &[len], false)?)))
    }

    /// The tensor on the device, in the format of its data.
    fn tensor<const D: usize>(&self, data: TensorData) -> Tensor<D> {
        let dtype = data.dtype();
        Tensor::from_data(data, (self.device, dtype))
    }

    fn dims(&self, slot: Slot) -> [usize; 2] {
        match self.entries[&slot].shape {
            Shape::Gain(width) => [1, width],
            Shape::Table(dims) | Shape::Map(dims) => dims,
        }
    }

    fn table(&self, slot: Slot) -> Result<Tensor<2>, E> {
        self.weight(slot, self.dims(slot))
    }

    fn norm(&self, slot: Slot) -> Result<Norm, E> {
        let [_, width] = self.dims(slot);
        let (weight, bias) = (self.weight(slot, [width])?, self.bias(slot, width)?);
        Ok(Norm::new(weight, bias, self.arch.family.wiring().norm, self.arch.norm_eps))
    }

    /// A norm that not every architecture has.
    fn norm_if_any(&self, slot: Slot) -> Result<Option<Norm>, E> {
        self.entries.contains_key(&slot).then(|| self.norm(slot)).transpose()
    }

    fn projection(&self, slot: Slot) -> Result<Projection, E> {
        let dims = self.dims(slot);
        let bias = self.bias(slot, dims[0])?.map(Param::from_tensor);
        Ok(Projection::new(BaseWeight::trained(self.weight(slot, dims)?), bias))
    }

    fn block(&self, index: usize) -> Result<Block, E> {
        let slot = |part| Slot::Block(index, part);
        let pair = |before, after| {
            let (before, after) = (self.norm_if_any(slot(before))?, self.norm_if_any(slot(after))?);
            Ok(NormPair { before, after })
        };
        Ok(Block {
            attention: self.attention(index)?,
            attention_norms: pair(Part::AttentionNorm, Part::AttentionPostNorm)?,
            mlp: match self.arch.experts_of(index) {
                None => FeedForward::Dense(self.mlp(|part| slot(Part::Mlp(part)))?),
                Some(experts) => FeedForward::Experts(self.experts(index, experts)?),
            },
            mlp_norms: pair(Part::MlpNorm, Part::MlpPostNorm)?,
            residual_scale: self.arch.scales.residual,
        })
    }

    fn attention(&self, index: usize) -> Result<Attention, E> {
        let arch = self.arch;
        let (layer, slot) = (arch.layers[index], |part| Slot::Block(index, part));
        let parts = arch.attention_parts().filter(|&part| part != Part::Output);
        let rotation = match (layer.rotated && arch.rope.is_some(), layer.window) {
            (false, _) => Rotation::None,
            (true, Some(_)) if arch.local_rope.is_some() => Rotation::Local,
            (true, _) => Rotation::Full,
        };
        let rule = AttentionRule {
            scale: arch.attention_scale() as f32,
            softcap: arch.scales.attention_cap.map(|cap| cap as f32),
            window: layer.window,
            first_query: None,
        };
        Ok(Attention {
            inputs: parts.map(|part| self.projection(slot(part))).collect::<Result<_, E>>()?,
            output: self.projection(slot(Part::Output))?,
            q_norm: self.norm_if_any(slot(Part::QueryNorm))?,
            k_norm: self.norm_if_any(slot(Part::KeyNorm))?,
            shape: AttentionShape {
                heads: arch.heads,
                kv_heads: arch.kv_heads,
                head_dim: arch.head_dim,
                rule,
                rotation,
                norm_by_head: arch.family.wiring().qk_norm == QkNorm::Heads,
            },
        })
    }

    fn mlp(&self, slot: impl Fn(arch::Mlp) -> Slot) -> Result<Mlp, E> {
        let wiring = self.arch.family.wiring();
        let parts = self.arch.mlp_parts().filter(|&part| part != arch::Mlp::Down);
        Ok(Mlp {
            inputs: parts.map(|part| self.projection(slot(part))).collect::<Result<_, E>>()?,
            down: self.projection(slot(arch::Mlp::Down))?,
            activation: wiring.activation,
            gated: wiring.gated,
        })
    }

    fn experts(&self, index: usize, numbers: Experts) -> Result<ExpertLayer, E> {
        let experts = (0..numbers.count)
            .map(|expert| self.mlp(|part| Slot::Block(index, Part::Expert(expert, part))));
        let experts = experts.collect::<Result<_, E>>()?;
        let router = self.table(Slot::Block(index, Part::Router))?;
        Ok(ExpertLayer::new(router, experts, numbers))
    }
}
