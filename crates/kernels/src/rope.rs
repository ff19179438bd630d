//! Rotary position embedding, in the half-rotation layout of Hugging Face.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::LlmOps;
use crate::primitive::{dims, narrow};

/// Cosines and sines of the rotation angles of a run of positions.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[batch or 1, seq, 1, head_dim / 2]`.
    pub cos: Tensor<4>,
    /// `[batch or 1, seq, 1, head_dim / 2]`.
    pub sin: Tensor<4>,
}

impl RopeTable {
    /// The table of `positions` (one row of them a sequence) for `inverse_frequencies` in radians
    /// a position.
    ///
    /// Frequencies and angles are rounded to f32 first, as transformers does.
    ///
    /// # Panics
    /// If the rows of `positions` differ in length.
    pub fn new(positions: &[Vec<u32>], inverse_frequencies: &[f64], device: &Device) -> Self {
        let (batch, seq, half) =
            (positions.len(), positions.first().map_or(0, Vec::len), inverse_frequencies.len());
        assert!(positions.iter().all(|row| row.len() == seq), "rows of positions differ in length");
        let angle = |position: u32, freq: f64| (position as f32) * (freq as f32);
        let angles = || {
            positions
                .iter()
                .flatten()
                .flat_map(|&p| inverse_frequencies.iter().map(move |&f| angle(p, f)))
        };
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(TensorData::new(values, [batch, seq, 1, half]), device)
        };
        Self {
            cos: tensor(angles().map(f32::cos).collect()),
            sin: tensor(angles().map(f32::sin).collect()),
        }
    }
}

/// Rotates the pairs `(xᵢ, xᵢ₊ₕ)`, `h = head_dim / 2`, of each head by its position's angles.
///
/// Su et al. 2021 (arXiv:2104.09864), eq. 34, with the pairs taken half a head apart instead of
/// side by side. `x [batch, seq, heads, head_dim]`. The backward pass is the rotation by the
/// negative angle and keeps nothing but the table.
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
    let half = head_dim / 2;
    let low = narrow::<B>(x.clone(), 4, 3, 0..half);
    let high = narrow::<B>(x, 4, 3, half..head_dim);
    let rotated_low = B::float_sub(
        B::float_mul(low.clone(), cos.clone()),
        B::float_mul(high.clone(), sin.clone()),
    );
    let rotated_high = B::float_add(B::float_mul(high, cos), B::float_mul(low, sin));
    B::float_cat(vec![rotated_low, rotated_high], 3)
}
