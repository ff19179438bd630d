//! Operations on a device against the same in f64 on the host.

use core::f64::consts::PI;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::argmax::argmax_rows;
use crate::attention::{AttentionRule, attention_at};
use crate::cache::{Slot, cache_write};
use crate::gated::{Activation, gated};
use crate::linear::linear;
use crate::recorded::{self, Recorded};
use crate::rms_norm::rms_norm;
use crate::rope::{RopeTable, rope};

/// One operation, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The operation and its size.
    pub what: String,
    /// The largest difference to f64, over the largest number of the right result.
    pub difference: f64,
    /// What rounding explains.
    pub limit: f64,
}

impl Check {
    /// Whether the difference is within the limit.
    pub fn passes(&self) -> bool {
        self.difference <= self.limit
    }
}

/// Rows of the products, one size for each kind of kernel that a device may have.
const ROWS: [usize; 5] = [1, 4, 16, 50, 130];
const D_IN: usize = 320;
/// Fewer and more columns than a kernel takes at a time.
const D_OUT: [usize; 2] = [192, 4128];
const KEYS: usize = 300;
const HEADS: [usize; 2] = [4, 2];
const HEAD_DIM: usize = 64;

/// Runs the operations of generation in `format` on `device`.
///
/// # Errors
/// What the device says where it fails.
pub fn self_check(device: &Device, format: FloatDType) -> Result<Vec<Check>, String> {
    let device = &device.clone().inner();
    let at = Site { device, format };
    let mut checks = Vec::new();
    for (rows, d_out) in ROWS.into_iter().flat_map(|rows| D_OUT.map(|d_out| (rows, d_out))) {
        checks.push(at.product(rows, d_out)?);
    }
    checks.push(at.norm()?);
    for activation in [Activation::Silu, Activation::GeluTanh] {
        checks.push(at.gate(activation)?);
    }
    checks.push(at.rotation()?);
    checks.push(at.largest()?);
    checks.extend(at.attention(false)?);
    if recorded::can_record(device) {
        checks.extend(at.attention(true)?);
    }
    Ok(checks)
}

/// Where numbers are and how they are written.
struct Site<'a> {
    device: &'a Device,
    format: FloatDType,
}

impl Site<'_> {
    /// Fixed numbers in `[−1, 1)` and what they are once they are written in the format.
    fn numbers<const D: usize>(
        &self,
        shape: [usize; D],
        seed: u64,
    ) -> Result<(Tensor<D>, Vec<f64>), String> {
        let mut state = seed;
        let mut next = || {
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), self.device);
        let tensor = tensor.cast(self.format);
        let held = host(tensor.clone())?;
        Ok((tensor, held))
    }

    fn check<const D: usize>(
        &self,
        what: String,
        found: Tensor<D>,
        right: &[f64],
    ) -> Result<Check, String> {
        let found = host(found)?;
        let largest = right.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        if found.len() != right.len() {
            return Err(format!("{what} gave {} numbers for {}", found.len(), right.len()));
        }
        let worst = found.iter().zip(right).map(|(a, b)| (a - b).abs());
        // A number that is none is an error beyond every limit.
        let worst =
            worst.fold(0.0f64, |worst, x| if x.is_nan() { f64::INFINITY } else { worst.max(x) });
        let limit = match self.format {
            FloatDType::BF16 => 1e-2,
            FloatDType::F16 => 2e-3,
            // GPUs with TF32 multiply with eleven bits.
            _ if recorded::can_record(self.device) => 2e-3,
            _ => 1e-5,
        };
        Ok(Check { what, difference: worst / largest, limit })
    }

    fn product(&self, rows: usize, d_out: usize) -> Result<Check, String> {
        let (x, left) = self.numbers([rows, D_IN], 1)?;
        let (w, right) = self.numbers([d_out, D_IN], 2)?;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let right: Vec<f64> = left
            .chunks_exact(D_IN)
            .flat_map(|x| right.chunks_exact(D_IN).map(move |w| dot(x, w)))
            .collect();
        self.check(format!("product of {rows} x {D_IN} and {d_out} columns"), linear(x, w), &right)
    }

    fn norm(&self) -> Result<Check, String> {
        let (x, values) = self.numbers([3, D_IN], 3)?;
        let (gamma, gains) = self.numbers([D_IN], 4)?;
        let right: Vec<f64> = values
            .chunks_exact(D_IN)
            .flat_map(|row| {
                let square = row.iter().map(|x| x * x).sum::<f64>() / D_IN as f64;
                let scale = (square + 1e-5).sqrt().recip();
                row.iter().zip(&gains).map(move |(x, gain)| x * gain * scale)
            })
            .collect();
        self.check("norm".to_owned(), rms_norm(x, gamma, 1e-5), &right)
    }

    fn gate(&self, activation: Activation) -> Result<Check, String> {
        let (gate, left) = self.numbers([3, D_IN], 5)?;
        let (up, right) = self.numbers([3, D_IN], 6)?;
        let bent = |z: f64| match activation {
            Activation::Silu => z / (1.0 + (-z).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / PI).sqrt() * (z + 0.044_715 * z.powi(3));
                z / 2.0 * (1.0 + inner.tanh())
            }
        };
        let right: Vec<f64> = left.iter().zip(&right).map(|(&z, up)| bent(z) * up).collect();
        self.check(format!("gate, {activation:?}"), gated(gate, up, activation), &right)
    }

    /// Three positions, the last quarter of each head not rotated.
    fn rotation(&self) -> Result<Check, String> {
        let (x, values) = self.numbers([1, 3, 2, HEAD_DIM], 10)?;
        let half = HEAD_DIM * 3 / 8;
        let frequencies: Vec<f64> = (0..half).map(|at| 0.7f64.powi(at as i32)).collect();
        let positions: [u32; 3] = [0, 5, 90];
        let lists = [frequencies.clone()];
        let table = RopeTable::new(&[positions.to_vec()], &lists, 1.0, self.device);
        let heads = values.chunks_exact(HEAD_DIM).zip(positions.iter().flat_map(|&it| [it; 2]));
        let right = heads.flat_map(|(head, position)| {
            let mut turned = head.to_vec();
            for (at, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (f64::from(position) * frequency).sin_cos();
                turned[at] = head[at] * cos - head[at + half] * sin;
                turned[at + half] = head[at + half] * cos + head[at] * sin;
            }
            turned
        });
        self.check("rotation".to_owned(), rope(x, &table), &right.collect::<Vec<_>>())
    }

    /// The largest of each row, as the number that stands there.
    fn largest(&self) -> Result<Check, String> {
        let (x, values) = self.numbers([5, 4 * D_IN + 3], 11)?;
        let found = x.clone().gather(1, argmax_rows(x));
        let rows = values.chunks_exact(4 * D_IN + 3);
        let right: Vec<f64> =
            rows.map(|row| row.iter().copied().fold(f64::MIN, f64::max)).collect();
        self.check("largest of each row".to_owned(), found, &right)
    }

    /// One query over a cache that it is written to; `repeated` from a recording that was made
    /// with other numbers.
    fn attention(&self, repeated: bool) -> Result<Option<Check>, String> {
        let [heads, kv_heads] = HEADS;
        let (q, queries) = self.numbers([1, 1, heads, HEAD_DIM], 7)?;
        let (k, keys) = self.numbers([1, KEYS, kv_heads, HEAD_DIM], 8)?;
        let (v, values) = self.numbers([1, KEYS, kv_heads, HEAD_DIM], 9)?;
        let segments = Tensor::<2, Int>::ones([1, KEYS], self.device);
        let rule = AttentionRule::scaled(0.125);
        let newest = |x: &Tensor<4>| x.clone().narrow(1, KEYS - 1, 1);
        let (new_k, new_v) = (newest(&k), newest(&v));
        // The newest key is not there yet.
        let older = |x: Tensor<4>| {
            let zeros = Tensor::zeros([1, 1, kv_heads, HEAD_DIM], (self.device, x.dtype()));
            x.slice_assign([0..1, KEYS - 1..KEYS, 0..kv_heads, 0..HEAD_DIM], zeros)
        };
        let mut held = Some((older(k), older(v)));
        let mut slot = Slot::new(if repeated { 0 } else { KEYS - 1 }, self.device);
        let first = slot.clone();
        let mut step = || {
            let cache = held.take().expect("every step puts it back");
            let (k, v) = cache_write(cache, new_k.clone(), new_v.clone(), &first);
            held = Some((k.clone(), v.clone()));
            attention_at(q.clone(), k, v, segments.clone(), &first, rule)
        };
        let found = match repeated {
            false => step(),
            true => {
                // A device that cannot is right all the same.
                let Some(mut recorded) = Recorded::new(self.device, step) else { return Ok(None) };
                slot.move_to(KEYS - 1);
                recorded.repeat().clone()
            }
        };
        let mut keys = keys;
        let mut values = values;
        if repeated {
            // The recording was made at the first slot, which now holds the newest too.
            let width = kv_heads * HEAD_DIM;
            for x in [&mut keys, &mut values] {
                x.copy_within((KEYS - 1) * width.., 0);
            }
        }
        let what = if repeated { "attention, recorded and repeated" } else { "attention" };
        self.check(what.to_owned(), found, &plain_attention(&queries, &keys, &values)).map(Some)
    }
}

/// One query, all keys.
fn plain_attention(q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let [heads, kv_heads] = HEADS;
    let row = |x: &[f64], key: usize, head: usize| -> Vec<f64> {
        let start = (key * kv_heads + head) * HEAD_DIM;
        x[start..start + HEAD_DIM].to_vec()
    };
    let mut out = Vec::new();
    for (head, q) in q.chunks_exact(HEAD_DIM).enumerate() {
        let kv_head = head / (heads / kv_heads);
        let score = |key: usize| {
            let k = row(k, key, kv_head);
            (q.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>() * 0.125).exp()
        };
        let weights: Vec<f64> = (0..KEYS).map(score).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = vec![0.0; HEAD_DIM];
        for (key, weight) in weights.iter().enumerate() {
            for (sum, v) in sums.iter_mut().zip(row(v, key, kv_head)) {
                *sum += weight / total * v;
            }
        }
        out.extend(sums);
    }
    out
}

/// The numbers as they are, on the host.
fn host<const D: usize>(x: Tensor<D>) -> Result<Vec<f64>, String> {
    let data = x.try_into_data().map_err(|error| error.to_string())?;
    Ok(data.iter::<f64>().collect())
}
