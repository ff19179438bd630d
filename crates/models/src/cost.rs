//! What a training step costs before anything is allocated: bytes that it keeps, and floating
//! point operations.

use std::collections::BTreeSet;

use rekindle_kernels::CHUNK_LOGITS;

use crate::arch::{Arch, Entry, Mlp, NormPlace, Part, QkNorm, Shape, Slot};
use crate::recompute::Recompute;

/// Which numbers are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    /// All weights but embeddings, if they are frozen, and the blocks before `first_block`.
    Weights {
        /// Whether the embeddings, and a head that is tied to them, are left as they are.
        frozen_embeddings: bool,
        /// Blocks before this one are left as they are.
        first_block: usize,
    },
    /// Low-rank adapters of rank `r` on the linear maps `names`, in Hugging Face's naming.
    Adapters {
        /// Rank.
        r: usize,
        /// The adapted maps.
        names: BTreeSet<String>,
    },
}

/// What one forward pass of a step sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Rows.
    pub rows: usize,
    /// Tokens of a row that predict another.
    pub seq: usize,
    /// Tokens with a loss.
    pub targets: usize,
}

/// Bytes of a step's parts, for numbers of `width` bytes in products and four elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Weights of the model.
    pub weights: u64,
    /// Numbers that are trained; four bytes each, as are their gradients.
    pub trained: u64,
    /// Bytes of the trained numbers that are not among the weights.
    pub adapters: u64,
    /// Inputs of the blocks that are run again in the backward pass, on the device.
    pub block_inputs: u64,
    /// What blocks that are not run again keep for the backward pass.
    pub kept: u64,
    /// Most that one block needs beside that in its backward pass.
    pub working: u64,
    /// What the loss needs: states, their gradient, a chunk of logits, a trained head's gradient.
    pub loss: u64,
    /// Gradient of the last hidden states, which outlives the loss.
    pub hidden_grad: u64,
    /// Numbers of the largest trained tensor: an update makes some copies of it.
    pub largest: u64,
}

impl Trained {
    fn adapts(&self, name: &str) -> Option<usize> {
        match self {
            Self::Adapters { r, names } if names.contains(name) => Some(*r),
            _ => None,
        }
    }

    fn trains_block(&self, index: usize) -> bool {
        matches!(self, Self::Weights { first_block, .. } if index >= *first_block)
    }

    fn trains(&self, entry: &Entry) -> bool {
        let Self::Weights { frozen_embeddings, .. } = self else { return false };
        match entry.slot {
            Slot::Embeddings | Slot::Positions => !frozen_embeddings,
            Slot::Block(index, _) => self.trains_block(index),
            Slot::FinalNorm | Slot::Head => true,
        }
    }
}

fn numbers(entry: &Entry) -> (u64, u64) {
    let (weight, rows) = match entry.shape {
        Shape::Gain(width) => (width, width),
        Shape::Table([rows, cols]) | Shape::Map([rows, cols]) => (rows * cols, rows),
    };
    (weight as u64, if entry.bias { rows as u64 } else { 0 })
}

impl Footprint {
    /// The parts of a step of `size` on a model of `arch`.
    pub fn of(
        arch: &Arch,
        trained: &Trained,
        size: StepSize,
        recompute: Recompute,
        width: usize,
    ) -> Self {
        let mut footprint = Self::default();
        footprint.add_weights(arch, trained, width as u64);
        let tokens = (size.rows * size.seq) as u64;
        let stream = tokens * arch.hidden as u64 * width as u64;
        for index in 0..arch.n_layers() {
            let block = Block::of(arch, trained, index, size);
            let (kept, passing) = (block.kept * width as u64, block.passing * width as u64);
            let kept = kept + block.kept_f32 * 4;
            if recompute.covers(index) {
                footprint.block_inputs += if recompute.offload { 0 } else { stream };
                footprint.working = footprint.working.max(kept + passing);
            } else {
                footprint.kept += kept;
                footprint.working = footprint.working.max(passing);
            }
        }
        footprint.hidden_grad = stream;
        footprint.add_loss(arch, trained, size, stream, width as u64);
        footprint
    }

    fn add_weights(&mut self, arch: &Arch, trained: &Trained, width: u64) {
        for entry in arch.entries() {
            let (weight, bias) = numbers(&entry);
            if trained.trains(&entry) {
                self.weights += 4 * (weight + bias);
                self.trained += weight + bias;
                self.largest = self.largest.max(weight);
            } else {
                self.weights += width * (weight + bias);
            }
            if let (Some(r), Shape::Map([d_out, d_in])) =
                (trained.adapts(&arch.family.name(entry.slot)), entry.shape)
            {
                let pair = (r * (d_out + d_in)) as u64;
                self.trained += pair;
                self.adapters += 4 * pair;
                self.largest = self.largest.max((r * d_out.max(d_in)) as u64);
            }
        }
    }

    fn add_loss(
        &mut self,
        arch: &Arch,
        trained: &Trained,
        size: StepSize,
        stream: u64,
        width: u64,
    ) {
        let (vocab, hidden) = (arch.vocab as u64, arch.hidden as u64);
        let targets = size.targets as u64;
        let chunk = (CHUNK_LOGITS as u64).min(targets * vocab);
        // The states before and after the last norm, those of targets with their gradient.
        self.loss = 2 * stream + 2 * targets * hidden * width + stream + 4 * chunk;
        let head = match (trained, arch.tied_head) {
            (Trained::Weights { frozen_embeddings, .. }, tied) => !(tied && *frozen_embeddings),
            (Trained::Adapters { .. }, _) => false,
        };
        if head {
            self.loss += 4 * vocab * hidden;
        }
    }

    /// Most bytes held at once: weights, adapters, the optimizer's state of `optimizer` bytes, and
    /// the largest of what the end of the forward pass, the backward pass and the update need.
    ///
    /// With several micro-batches a step, `accumulates`, gradients wait beside those being made.
    pub fn peak(&self, optimizer: u64, accumulates: bool) -> u64 {
        let gradients = 4 * self.trained;
        let waiting = if accumulates { gradients } else { 0 };
        let activations = self.block_inputs + self.kept;
        let forward = activations + self.loss + waiting;
        let backward = activations + self.working + self.hidden_grad + gradients + waiting;
        let update = gradients + UPDATE_COPIES * 4 * self.largest;
        let phases = forward.max(backward).max(update);
        self.weights + self.adapters + optimizer + phases
    }
}

/// Names and shapes of the trained tensors, in Hugging Face's and PEFT's naming.
pub fn trained_tensors(arch: &Arch, trained: &Trained) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for entry in arch.entries() {
        let name = arch.family.name(entry.slot);
        if let (Some(r), Shape::Map([d_out, d_in])) = (trained.adapts(&name), entry.shape) {
            tensors.push((format!("{name}.lora_A.weight"), vec![r, d_in]));
            tensors.push((format!("{name}.lora_B.weight"), vec![d_out, r]));
        }
        if trained.trains(&entry) {
            let (shape, rows) = match entry.shape {
                Shape::Gain(width) => (vec![width], width),
                Shape::Table([rows, cols]) | Shape::Map([rows, cols]) => (vec![rows, cols], rows),
            };
            tensors.push((format!("{name}.weight"), shape));
            if entry.bias {
                tensors.push((format!("{name}.bias"), vec![rows]));
            }
        }
    }
    tensors
}

/// Copies of the largest trained tensor that an update makes at most.
const UPDATE_COPIES: u64 = 3;

/// Numbers of one block.
struct Block {
    /// Kept for the backward pass, in the format of products.
    kept: u64,
    /// Kept in f32.
    kept_f32: u64,
    /// Made and freed in the backward pass at its widest.
    passing: u64,
}

impl Block {
    fn of(arch: &Arch, trained: &Trained, index: usize, size: StepSize) -> Self {
        let tokens = (size.rows * size.seq) as u64;
        let (hidden, heads) = (arch.hidden as u64, arch.heads as u64);
        let q = (arch.heads * arch.head_dim) as u64;
        let kv = (arch.kv_heads * arch.head_dim) as u64;
        let wiring = arch.family.wiring();
        let full = trained.trains_block(index);
        let rank = |part: Part| trained.adapts(&arch.family.name(Slot::Block(index, part)));
        // Inputs are kept for the gradient of a weight or of an adapter.
        let reads = |parts: &[Part]| full || parts.iter().any(|&part| rank(part).is_some());
        let ranks = |parts: &[Part]| parts.iter().filter_map(|&part| rank(part)).sum::<usize>();

        let inputs: Vec<Part> = arch.attention_parts().filter(|it| *it != Part::Output).collect();
        let norms = match wiring.place {
            NormPlace::Before | NormPlace::After => 2,
            NormPlace::Around => 4,
        };
        let mut a_token = norms * hidden + q + 2 * kv + q;
        a_token += if reads(&inputs) { hidden } else { 0 };
        a_token += (ranks(&inputs) + ranks(&[Part::Output])) as u64;
        if wiring.qk_norm != QkNorm::None {
            a_token += q + kv;
        }
        let (wide, copies, parts) = mlp(arch, index);
        let (ins, down): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| !matches!(part, Part::Mlp(Mlp::Down)));
        let experts = arch.layers[index].experts;
        let mlp_ranks = if experts { 0 } else { ranks(&ins) + ranks(&down) };
        let gates = if wiring.gated { 2 } else { 1 };
        a_token += gates * wide * copies + mlp_ranks as u64;
        a_token += if experts || reads(&ins) { hidden * copies } else { 0 };
        a_token += if experts || reads(&down) { wide * copies } else { 0 };
        let passing = gates * wide * copies + 2 * hidden;
        Self { kept: tokens * a_token, kept_f32: tokens * heads, passing: tokens * passing }
    }
}

/// Width of a block's feed-forward layer, how many of them a token goes through, and its parts.
fn mlp(arch: &Arch, index: usize) -> (u64, u64, Vec<Part>) {
    let parts = arch.mlp_parts().map(Part::Mlp).collect();
    match arch.experts.filter(|_| arch.layers[index].experts) {
        Some(experts) => (experts.intermediate as u64, experts.per_token as u64, parts),
        None => (arch.intermediate as u64, 1, parts),
    }
}

/// The counts that FLOPs per token are made of.
///
/// A multiply-add is two FLOPs. Embedding look-ups, norms and elementwise work count nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Weights of all linear maps that a token goes through, the head included.
    pub n_matmul: f64,
    /// Those of the blocks that are run again in the backward pass, but for products whose result
    /// is not needed again.
    pub n_recomputed: f64,
    /// Numbers of the adapters.
    pub n_adapters: f64,
    /// FLOPs per token of causal attention, forward: `2 · seq · heads · head_dim · layers`.
    pub attention: f64,
}

impl Flops {
    /// The counts of `arch` for rows of `seq` tokens.
    pub fn of(arch: &Arch, trained: &Trained, seq: usize, recompute: Recompute) -> Self {
        let q = arch.heads * arch.head_dim;
        let attention = 2.0 * (seq * q * arch.n_layers()) as f64;
        let mut flops = Self { n_matmul: 0.0, n_recomputed: 0.0, n_adapters: 0.0, attention };
        for entry in arch.entries() {
            let Shape::Map([d_out, d_in]) = entry.shape else { continue };
            let mut weights = (d_out * d_in) as f64;
            if let Slot::Block(index, part) = entry.slot {
                if let (Part::Expert(..), Some(experts)) = (part, arch.experts) {
                    weights *= experts.per_token as f64 / experts.count as f64;
                }
                let skipped = part == Part::Mlp(Mlp::Down)
                    && matches!(arch.family.wiring().place, NormPlace::Before);
                if recompute.covers(index) && !skipped {
                    flops.n_recomputed += weights;
                }
            }
            flops.n_matmul += weights;
            if let Some(r) = trained.adapts(&arch.family.name(entry.slot)) {
                flops.n_adapters += (r * (d_out + d_in)) as f64;
            }
        }
        if arch.tied_head {
            flops.n_matmul += (arch.vocab * arch.hidden) as f64;
        }
        flops
    }

    /// FLOPs per token of one step, forward and backward: of the mathematics, recomputation left
    /// out.
    ///
    /// All weights trained: `6 N + 3 A`. Adapters: `4 N + 6 N_adapters + 3 A`, as a frozen weight
    /// has no gradient.
    pub fn per_token(&self, trained: &Trained) -> f64 {
        let products = match trained {
            Trained::Weights { .. } => 6.0 * self.n_matmul,
            Trained::Adapters { .. } => 4.0 * self.n_matmul + 6.0 * self.n_adapters,
        };
        products + 3.0 * self.attention
    }

    /// [`Flops::per_token`] with what recomputation adds.
    pub fn done_per_token(&self, trained: &Trained) -> f64 {
        let share = if self.n_recomputed > 0.0 { 1.0 } else { 0.0 };
        self.per_token(trained) + 2.0 * self.n_recomputed + share * self.attention
    }
}

#[cfg(test)]
mod tests;
