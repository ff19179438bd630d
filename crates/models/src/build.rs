//! From tensors to a decoder.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rekindle_peft_core::{Projection, init};
use rekindle_quant::BaseWeight;

use crate::arch::Arch;
use crate::block::{Attention, Block, Mlp, Norm};
use crate::decoder::{Backbone, Decoder, Embedding};
use crate::error::ModelError;
use crate::load::WeightSource;

impl Decoder {
    /// Reads a decoder, one tensor at a time, onto `device`.
    ///
    /// Peak memory is the model in f32 and the largest tensor once more.
    ///
    /// # Errors
    /// [`ModelError`] where a tensor is missing, unexpected, of the wrong shape or unreadable.
    pub fn load(
        source: &dyn WeightSource,
        arch: &Arch,
        device: &Device,
    ) -> Result<Self, ModelError> {
        crate::load::strict_check(&arch.tensor_shapes(), source, arch.tied_head)?;
        build(arch, device, |name, _| source.read_f32(name))
    }

    /// A decoder with fresh weights, for training from scratch: matrices normal with standard
    /// deviation `arch.initializer_range`, gains one, biases zero, as transformers' Llama.
    pub fn random(arch: &Arch, seed: u64, device: &Device) -> Self {
        let made = build(arch, device, |name, shape| {
            let n = shape.iter().product();
            Ok::<_, std::convert::Infallible>(match shape {
                [_] if name.ends_with("bias") => vec![0.0; n],
                [_] => vec![1.0; n],
                _ => {
                    let mut rng = init::generator(seed, "weight", name);
                    init::normal(&mut rng, n, arch.initializer_range)
                }
            })
        });
        match made {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }
}

/// Puts a decoder together from `read(name, shape)`.
fn build<E>(
    arch: &Arch,
    device: &Device,
    read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
) -> Result<Decoder, E> {
    let parts = Parts { arch, device, read };
    let layers = (0..arch.n_layers).map(|index| parts.block(index)).collect::<Result<_, E>>()?;
    let backbone = Backbone {
        embed_tokens: Embedding::new(
            parts.matrix("model.embed_tokens.weight", [arch.vocab, arch.hidden])?,
        ),
        layers,
        norm: parts.norm("model.norm.weight", arch.hidden)?,
    };
    let head = if arch.tied_head {
        None
    } else {
        Some(parts.projection("lm_head", [arch.vocab, arch.hidden], false)?)
    };
    Ok(Decoder::new(backbone, head, arch.clone()))
}

struct Parts<'a, F> {
    arch: &'a Arch,
    device: &'a Device,
    read: F,
}

impl<E, F: Fn(&str, &[usize]) -> Result<Vec<f32>, E>> Parts<'_, F> {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, E> {
        let values = (self.read)(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Tensor<1>, E> {
        let values = (self.read)(name, &[len])?;
        Ok(Tensor::from_data(TensorData::new(values, [len]), self.device))
    }

    fn norm(&self, name: &str, len: usize) -> Result<Norm, E> {
        Ok(Norm::new(self.vector(name, len)?, self.arch.norm_eps))
    }

    fn projection(&self, name: &str, shape: [usize; 2], bias: bool) -> Result<Projection, E> {
        let weight = self.matrix(&format!("{name}.weight"), shape)?;
        let bias = match bias {
            true => Some(Param::from_tensor(self.vector(&format!("{name}.bias"), shape[0])?)),
            false => None,
        };
        Ok(Projection::new(BaseWeight::trained(weight), bias))
    }

    fn block(&self, index: usize) -> Result<Block, E> {
        let arch = self.arch;
        let (q, kv) = (arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim);
        let (hidden, wide) = (arch.hidden, arch.intermediate);
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let attn = |part, shape| self.projection(&name(part), shape, arch.qkv_bias);
        let mlp = |part, shape| self.projection(&name(part), shape, arch.mlp_bias);
        let projections = [
            attn("self_attn.q_proj", [q, hidden])?,
            attn("self_attn.k_proj", [kv, hidden])?,
            attn("self_attn.v_proj", [kv, hidden])?,
            self.projection(&name("self_attn.o_proj"), [hidden, q], arch.output_bias)?,
        ];
        let head_norm = |part| match arch.qk_norm {
            true => self.norm(&name(part), arch.head_dim).map(Some),
            false => Ok(None),
        };
        let norms = [head_norm("self_attn.q_norm.weight")?, head_norm("self_attn.k_norm.weight")?];
        Ok(Block {
            self_attn: Attention::new(projections, norms, arch.head_dim),
            mlp: Mlp {
                gate_proj: mlp("mlp.gate_proj", [wide, hidden])?,
                up_proj: mlp("mlp.up_proj", [wide, hidden])?,
                down_proj: mlp("mlp.down_proj", [hidden, wide])?,
            },
            input_layernorm: self.norm(&name("input_layernorm.weight"), hidden)?,
            post_attention_layernorm: self
                .norm(&name("post_attention_layernorm.weight"), hidden)?,
        })
    }
}
