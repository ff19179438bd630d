//! Which weights an architecture has, and of which shapes.

use super::names::{Mlp, Part, Slot};
use super::{Arch, NormKind, NormPlace, QkNorm};

/// A module with weights: its place, its shape, and whether it has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place.
    pub slot: Slot,
    /// The weight's shape, as the model holds it.
    pub shape: Shape,
    /// Whether there is a bias, one number a row.
    pub bias: bool,
}

/// The shape of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A norm's gain.
    Gain(usize),
    /// Embeddings or a router, `[rows, width]`, held in files as they are.
    Table([usize; 2]),
    /// A linear map, `[d_out, d_in]`.
    Map([usize; 2]),
}

impl Arch {
    /// Whether block `index` has experts, and then of which width.
    fn mlp_entries(&self, index: usize) -> Vec<Entry> {
        let maps = |wide: usize| {
            self.mlp_parts().map(move |part| {
                let shape = match part {
                    Mlp::Down => [self.hidden, wide],
                    Mlp::GateUp => [2 * wide, self.hidden],
                    Mlp::Gate | Mlp::Up => [wide, self.hidden],
                };
                (part, Shape::Map(shape))
            })
        };
        let slot = |part| Slot::Block(index, part);
        let Some(experts) = self.experts_of(index) else {
            return maps(self.intermediate)
                .map(|(part, shape)| Entry {
                    slot: slot(Part::Mlp(part)),
                    shape,
                    bias: self.mlp_bias,
                })
                .collect();
        };
        let table = Shape::Table([experts.count, self.hidden]);
        let mut entries = vec![Entry { slot: slot(Part::Router), shape: table, bias: false }];
        entries.extend((0..experts.count).flat_map(|expert| {
            maps(experts.intermediate).map(move |(part, shape)| Entry {
                slot: slot(Part::Expert(expert, part)),
                shape,
                bias: false,
            })
        }));
        entries
    }

    /// The projections of a feed-forward layer, the one back to the stream last.
    pub(crate) fn mlp_parts(&self) -> impl Iterator<Item = Mlp> + use<> {
        let wiring = self.family.wiring();
        let inputs: &[Mlp] = match (wiring.gated, wiring.fused) {
            (false, _) => &[Mlp::Up],
            (true, true) => &[Mlp::GateUp],
            (true, false) => &[Mlp::Gate, Mlp::Up],
        };
        inputs.iter().copied().chain([Mlp::Down])
    }

    /// The projections of attention, the one back to the stream last.
    pub(crate) fn attention_parts(&self) -> impl Iterator<Item = Part> + use<> {
        let inputs: &[Part] = match self.family.wiring().fused {
            true => &[Part::QueryKeyValue],
            false => &[Part::Query, Part::Key, Part::Value],
        };
        inputs.iter().copied().chain([Part::Output])
    }

    /// The norms of a block's inputs and outputs.
    pub(crate) fn block_norms(&self) -> &'static [Part] {
        match self.family.wiring().place {
            NormPlace::Before => &[Part::AttentionNorm, Part::MlpNorm],
            NormPlace::After => &[Part::AttentionPostNorm, Part::MlpPostNorm],
            NormPlace::Around => {
                &[Part::AttentionNorm, Part::AttentionPostNorm, Part::MlpNorm, Part::MlpPostNorm]
            }
        }
    }

    /// Widths of what the norms of queries and keys normalise, where there are any.
    pub(crate) fn qk_norm_widths(&self) -> Option<[usize; 2]> {
        match self.family.wiring().qk_norm {
            QkNorm::None => None,
            QkNorm::Heads => Some([self.head_dim; 2]),
            QkNorm::Whole => Some([self.heads, self.kv_heads].map(|heads| heads * self.head_dim)),
        }
    }

    fn attention_entries(&self, index: usize) -> Vec<Entry> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let projections = self.attention_parts().map(|part| {
            let (shape, bias) = match part {
                Part::Query => ([q, self.hidden], self.qkv_bias),
                Part::QueryKeyValue => ([q + 2 * kv, self.hidden], self.qkv_bias),
                Part::Output => ([self.hidden, q], self.output_bias),
                _ => ([kv, self.hidden], self.qkv_bias),
            };
            Entry { slot: Slot::Block(index, part), shape: Shape::Map(shape), bias }
        });
        let norms = self.qk_norm_widths().into_iter().flat_map(|[q, k]| {
            [(Part::QueryNorm, q), (Part::KeyNorm, k)].map(|(part, width)| Entry {
                slot: Slot::Block(index, part),
                shape: Shape::Gain(width),
                bias: false,
            })
        });
        norms.chain(projections).collect()
    }

    /// Every module with weights, in the order of the model; a tied head is left out.
    pub fn entries(&self) -> Vec<Entry> {
        let table =
            |slot, rows| Entry { slot, shape: Shape::Table([rows, self.hidden]), bias: false };
        let norm = |slot| Entry {
            slot,
            shape: Shape::Gain(self.hidden),
            bias: self.family.wiring().norm == NormKind::Layer,
        };
        let mut entries = vec![table(Slot::Embeddings, self.vocab)];
        if self.rope.is_none() {
            entries.push(table(Slot::Positions, self.max_positions));
        }
        for index in 0..self.n_layers() {
            entries.extend(self.block_norms().iter().map(|&part| norm(Slot::Block(index, part))));
            entries.extend(self.attention_entries(index));
            entries.extend(self.mlp_entries(index));
        }
        entries.push(norm(Slot::FinalNorm));
        if !self.tied_head {
            let shape = Shape::Map([self.vocab, self.hidden]);
            entries.push(Entry { slot: Slot::Head, shape, bias: false });
        }
        entries
    }

    /// Whether files hold the weight as `[d_in, d_out]`.
    pub(crate) fn is_transposed(&self, entry: &Entry) -> bool {
        let map = matches!(entry.shape, Shape::Map(_)) && entry.slot != Slot::Head;
        map && self.family.wiring().transposed
    }

    /// Names and shapes of every weight, as a Hugging Face folder holds them.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = Vec::new();
        for entry in self.entries() {
            let name = self.family.name(entry.slot);
            let (on_disk, rows) = match entry.shape {
                Shape::Gain(width) => (vec![width], width),
                Shape::Map([rows, cols]) if self.is_transposed(&entry) => (vec![cols, rows], rows),
                Shape::Table([rows, cols]) | Shape::Map([rows, cols]) => (vec![rows, cols], rows),
            };
            tensors.push((format!("{name}.weight"), on_disk));
            if entry.bias {
                tensors.push((format!("{name}.bias"), vec![rows]));
            }
        }
        tensors
    }

    /// Names of all linear maps, in Hugging Face's naming and in the model's order.
    pub fn linear_maps(&self) -> Vec<String> {
        let maps = self.entries().into_iter().filter(|it| matches!(it.shape, Shape::Map(_)));
        maps.map(|entry| self.family.name(entry.slot)).collect()
    }

    /// Numbers in all weights; a tied head counts once.
    pub fn n_parameters(&self) -> usize {
        self.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
