//! The forward pass of tokens that follow what a cache holds.

use std::iter::repeat_n;

use burn::tensor::{Int, Tensor, TensorData};
use rekindle_kernels::recorded;

use super::{Decoder, frequencies};
use crate::block::Placement;
use crate::cache::{Cache, LayerCache, Room, Span};

/// What goes into one pass, on the device.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    ids: Tensor<2, Int>,
    /// For a model with a table of positions.
    positions: Option<Tensor<2, Int>>,
    place: Placement,
    span: Span,
}

/// What goes into one pass, on the host.
struct Tokens {
    /// Row by row.
    ids: Vec<i32>,
    positions: Vec<Vec<u32>>,
    room: Room,
}

impl Tokens {
    /// Makes room in `cache` for `rows` of tokens.
    fn admit(rows: &[&[u32]], cache: &mut Cache) -> Self {
        let added: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let seen = cache.seen();
        assert_eq!(added.len(), seen.len(), "rows of tokens and rows of the cache");
        let equal = added.iter().all(|&len| len == added[0]);
        assert!(cache.is_empty() || equal, "rows differ in length");
        let room = cache.admit(&added);
        let padding = |row: &[u32]| repeat_n(0, room.seq - row.len());
        let ids = rows.iter().flat_map(|row| {
            let zeros = padding(row).map(|zero| zero as i32);
            zeros.chain(row.iter().map(|&token| token as i32))
        });
        let positions = rows.iter().zip(&seen).map(|(row, &seen)| {
            let new = (seen..seen + row.len()).map(|position| position as u32);
            padding(row).chain(new).collect()
        });
        Self { ids: ids.collect(), positions: positions.collect(), room }
    }
}

impl Decoder {
    /// Hidden states after the last norm of `rows` of tokens that follow what `cache` holds:
    /// `[batch, seq, hidden]`, those of each row's new tokens last.
    ///
    /// Positions count from 0 in every row. Rows of different lengths can start an empty cache;
    /// the shorter ones are padded on the left, and all of them where the cache rounds up.
    ///
    /// # Panics
    /// If there are not as many rows as the cache has, or rows that follow others differ in length.
    pub fn hidden_cached(&self, rows: &[&[u32]], cache: &mut Cache) -> Tensor<3> {
        let pass = self.admit(rows, cache);
        self.run_pass(&pass, &mut cache.layers)
    }

    /// Makes room in `cache` for `rows` of tokens, whose keys and values [`Decoder::run_pass`] then
    /// writes.
    pub(crate) fn admit(&self, rows: &[&[u32]], cache: &mut Cache) -> Pass {
        let device = self.device();
        let Tokens { ids, positions, room } = Tokens::admit(rows, cache);
        let ids = Tensor::from_data(TensorData::new(ids, [rows.len(), room.seq]), &device);
        let place = self.placement(&positions, cache.segments(room.slots, &device));
        let positions = self.position_ids(&positions);
        Pass { ids, positions, place, span: room.span(&device) }
    }

    /// [`Decoder::admit`] into the tensors of `pass`, so that what was recorded with them takes the
    /// new tokens. `false`, and nothing done, if the cache must grow or the rows are longer.
    pub(crate) fn admit_again(&self, rows: &[&[u32]], cache: &mut Cache, pass: &mut Pass) -> bool {
        let [batch, seq] = pass.ids.dims();
        let equal = rows.len() == batch && rows.iter().all(|row| row.len() == seq);
        if !equal || cache.would_grow(seq) {
            return false;
        }
        let Tokens { ids, positions, room } = Tokens::admit(rows, cache);
        recorded::overwrite_ints(&mut pass.ids, &ids);
        if let (Some(table), Some(places)) = (&mut pass.positions, self.places(&positions)) {
            recorded::overwrite_ints(table, &places);
        }
        let Placement { rope, local_rope, .. } = &mut pass.place;
        for (spec, table) in [(&self.arch.rope, rope), (&self.arch.local_rope, local_rope)] {
            if let (Some(spec), Some(table)) = (spec, table) {
                table.move_to(&positions, &frequencies(spec, &positions), spec.magnitude());
            }
        }
        pass.span.first.move_to(room.first);
        true
    }

    pub(crate) fn run_pass(&self, pass: &Pass, layers: &mut [LayerCache]) -> Tensor<3> {
        let mut x = self.embedded(pass.ids.clone(), pass.positions.clone());
        for (block, layer) in self.model.layers.iter().zip(layers) {
            x = block.forward(x, &pass.place, Some((layer, &pass.span)));
        }
        self.model.norm.forward(x)
    }
}
