//! Rotary position embedding, in the half-rotation layout of Hugging Face.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::ops::LlmOps;
use crate::primitive::{dims, narrow, narrowed, widened};
use crate::recorded;

/// Cosines and sines of the rotation angles of a run of positions.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[batch or 1, seq, 1, rotated / 2]`.
    pub cos: Tensor<4>,
    /// `[batch or 1, seq, 1, rotated / 2]`.
    pub sin: Tensor<4>,
}

impl RopeTable {
    /// The table of `positions` (one row of them a sequence) for `inverse_frequencies` in radians
    /// a position, one list of them a row, cosines and sines multiplied by `magnitude`.
    ///
    /// Frequencies and angles are rounded to f32 first, as transformers does.
    ///
    /// # Panics
    /// If the rows of `positions` differ in length, or the lists of frequencies do.
    pub fn new(
        positions: &[Vec<u32>],
        inverse_frequencies: &[Vec<f64>],
        magnitude: f64,
        device: &Device,
    ) -> Self {
        let shape = [positions.len(), positions.first().map_or(0, Vec::len)];
        let half = inverse_frequencies.first().map_or(0, Vec::len);
        let [cos, sin] = columns(positions, inverse_frequencies, magnitude).map(|values| {
            let data = TensorData::new(values, [shape[0], shape[1], 1, half]);
            Tensor::from_data(data, (device, DType::F32))
        });
        Self { cos, sin }
    }

    /// The table of `positions [batch, seq]` from this one, which is that of 0, 1, 2.. in one row.
    #[must_use]
    pub fn at(&self, positions: Tensor<2, Int>) -> Self {
        let [batch, seq] = positions.dims();
        let places = positions.reshape([batch * seq]);
        let [cos, sin] = [&self.cos, &self.sin].map(|column| {
            let [_, _, _, half] = column.dims();
            column.clone().select(1, places.clone()).reshape([batch, seq, 1, half])
        });
        Self { cos, sin }
    }

    /// Makes it the table of other positions, in the same memory, so that what was recorded with
    /// it ([`crate::Recorded`]) takes the new one.
    ///
    /// # Panics
    /// As [`RopeTable::new`], and if the table would have another size.
    pub fn move_to(
        &mut self,
        positions: &[Vec<u32>],
        inverse_frequencies: &[Vec<f64>],
        magnitude: f64,
    ) {
        let [cos, sin] = columns(positions, inverse_frequencies, magnitude);
        recorded::overwrite_floats(&mut self.cos, &cos);
        recorded::overwrite_floats(&mut self.sin, &sin);
    }
}

/// Cosines and sines, `[batch, seq, rotated / 2]` each.
fn columns(
    positions: &[Vec<u32>],
    inverse_frequencies: &[Vec<f64>],
    magnitude: f64,
) -> [Vec<f32>; 2] {
    let (batch, seq) = (positions.len(), positions.first().map_or(0, Vec::len));
    let half = inverse_frequencies.first().map_or(0, Vec::len);
    assert!(positions.iter().all(|row| row.len() == seq), "rows of positions differ in length");
    assert_eq!(inverse_frequencies.len(), batch, "lists of frequencies and rows of positions");
    assert!(inverse_frequencies.iter().all(|row| row.len() == half), "frequencies differ");
    let angle = |position: u32, freq: f64| (position as f32) * (freq as f32);
    let angles = || {
        positions.iter().zip(inverse_frequencies).flat_map(|(row, frequencies)| {
            row.iter().flat_map(|&p| frequencies.iter().map(move |&f| angle(p, f)))
        })
    };
    let magnitude = magnitude as f32;
    let cos = angles().map(|it| it.cos() * magnitude).collect();
    [cos, angles().map(|it| it.sin() * magnitude).collect()]
}

/// Rotates the pairs `(xᵢ, xᵢ₊ₕ)`, `h = rotated / 2`, of each head by its position's angles.
///
/// Su et al. 2021 (arXiv:2104.09864), eq. 34, with the pairs taken `h` apart instead of side by
/// side. `x [batch, seq, heads, head_dim]`; the table has `h` columns, and dimensions from `2h` up
/// stay as they are (Black et al. 2022, arXiv:2204.06745, §2.1.1). The backward pass is the rotation
/// by the negative angle and keeps nothing but the table.
pub fn rope(x: Tensor<4>, table: &RopeTable) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::rope(
        x.into_dispatch(),
        table.cos.clone().into_dispatch(),
        table.sin.clone().into_dispatch(),
    ))
}

pub(crate) fn reference<B: Backend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
) -> FloatTensor<B> {
    let [_, _, _, head_dim] = dims::<4>(&x);
    let dtype = x.dtype();
    let x = widened::<B>(x);
    let [_, _, _, half] = dims::<4>(&cos);
    let low = narrow::<B>(x.clone(), 4, 3, 0..half);
    let high = narrow::<B>(x.clone(), 4, 3, half..2 * half);
    let rotated_low = B::float_sub(
        B::float_mul(low.clone(), cos.clone()),
        B::float_mul(high.clone(), sin.clone()),
    );
    let rotated_high = B::float_add(B::float_mul(high, cos), B::float_mul(low, sin));
    let mut parts = vec![rotated_low, rotated_high];
    if 2 * half < head_dim {
        parts.push(narrow::<B>(x, 4, 3, 2 * half..head_dim));
    }
    narrowed::<B>(B::float_cat(parts, 3), dtype)
}
