//! Attention of few queries: a cube for each query and head walks over the keys once.

use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::reduce::{Fold, fold};
use super::{addresses, element, empty, gcd, vector_size, with_dense_rows};
use crate::attention::{AttentionRule, HIDDEN_SCORE, Sizes};

/// Units of a cube, which look at as many keys at a time.
const UNITS: u32 = 128;

/// What is fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    units: usize,
    head_dim: usize,
    /// Loads that a key takes.
    loads: usize,
    /// Heads that read the same keys.
    group: usize,
    capped: bool,
    /// Whether the first query's place is in the tensor `slot`.
    slotted: bool,
}

impl Plan {
    /// Columns of the result that a unit sums up.
    fn columns(self) -> usize {
        self.head_dim.div_ceil(self.units)
    }

    /// Parts that the keys are dealt to where there are more units than columns.
    fn parts(self) -> usize {
        (self.units / self.head_dim).max(1)
    }
}

/// Numbers of one call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Rule {
    scale: f32,
    cap: f32,
    /// Where the first query stands among the keys.
    offset: usize,
    /// Keys a query sees at most.
    window: usize,
}

/// Softmax over the keys as they come (Milakov & Gimelshein 2018, arXiv:1805.02867, alg. 3): sums
/// so far are scaled down whenever a larger score turns up.
#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<E: Float, I: Int, N: Size>(
    q: &Tensor<E>,
    k: &Tensor<Vector<E, N>>,
    v: &Tensor<E>,
    segments: &Tensor<I>,
    slot: &Tensor<I>,
    out: &mut Tensor<E>,
    rule: &Rule,
    #[comptime] plan: Plan,
    #[define(E, I)] _formats: [ElemType; 2],
) {
    let units = plan.units;
    let (head, query, row) = (CUBE_POS_X as usize, CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let kv_head = head / plan.group;
    let position = if comptime!(plan.slotted) {
        usize::cast_from(slot[0]) + query
    } else {
        rule.offset + query
    };
    let last = position + 1;
    let mut start = last - min(rule.window, last);
    let mut q_shared = Shared::<[f32]>::new_slice(plan.head_dim);
    let mut weights = Shared::<[f32]>::new_slice(units);
    let mut scratch = Shared::<[f32]>::new_slice(units);
    let q_row = ((row * q.shape(1) + query) * q.shape(2) + head) * plan.head_dim;
    keep_query(q, q_row, rule.scale, &mut q_shared, plan);
    let marks = row * segments.stride(0);
    let own = segments[marks + position];
    let k_row = row * k.stride(0) + kv_head * k.stride(2);
    let v_row = row * v.stride(0) + kv_head * v.stride(2);
    let mut largest = f32::new(HIDDEN_SCORE);
    let mut total = f32::new(0.0);
    let mut sums = Array::<f32>::new(comptime!(plan.columns()));
    #[unroll]
    for at in 0..comptime!(plan.columns()) {
        sums[at] = f32::new(0.0);
    }
    while start < last {
        let key = start + UNIT_POS as usize;
        let mut score = f32::new(HIDDEN_SCORE);
        let seen = key < last && segments[marks + min(key, position)] == own;
        if seen {
            score = score_of(&q_shared, k, k_row + key * k.stride(1), rule, plan);
        }
        let before = largest;
        largest = max(before, fold(score, &mut scratch, units, Fold::Max));
        let mut weight = f32::new(0.0);
        if seen {
            weight = (score - largest).exp();
        }
        weights[UNIT_POS as usize] = weight;
        let shrink = (before - largest).exp();
        total = total * shrink + fold(weight, &mut scratch, units, Fold::Sum);
        let keys = min(last - start, units);
        add_values(&mut sums, shrink, &weights, v, v_row + start * v.stride(1), keys, plan);
        sync_cube();
        start += units;
    }
    write(&sums, total, &mut scratch, out, q_row, plan);
}

/// Puts the scaled query that begins at element `start` into shared memory.
#[cube]
fn keep_query<E: Float>(
    q: &Tensor<E>,
    start: usize,
    scale: f32,
    kept: &mut Shared<[f32]>,
    #[comptime] plan: Plan,
) {
    let mut at = UNIT_POS as usize;
    while at < plan.head_dim {
        kept[at] = f32::cast_from(q[start + at]) * scale;
        at += plan.units;
    }
    sync_cube();
}

/// The score of the key whose first element is element `start` of `k`.
#[cube]
fn score_of<E: Float, N: Size>(
    q: &Shared<[f32]>,
    k: &Tensor<Vector<E, N>>,
    start: usize,
    rule: &Rule,
    #[comptime] plan: Plan,
) -> f32 {
    let line = start / N::value();
    let mut dot = f32::new(0.0);
    #[unroll]
    for at in 0..plan.loads {
        let values = Vector::<f32, N>::cast_from(k[line + at]);
        #[unroll]
        for lane in 0..N::value() {
            dot += q[at * N::value() + lane] * values.extract(lane);
        }
    }
    if comptime!(plan.capped) {
        dot = (dot / rule.cap).tanh() * rule.cap;
    }
    dot
}

/// Scales the sums down and adds the weighted values of the next `keys` keys: each unit its columns
/// of its part of them.
#[cube]
fn add_values<E: Float>(
    sums: &mut Array<f32>,
    shrink: f32,
    weights: &Shared<[f32]>,
    v: &Tensor<E>,
    start: usize,
    keys: usize,
    #[comptime] plan: Plan,
) {
    let (head_dim, parts) = comptime!((plan.head_dim, plan.parts()));
    let unit = UNIT_POS as usize;
    let (part, column) = (unit / head_dim, unit % head_dim);
    #[unroll]
    for at in 0..comptime!(plan.columns()) {
        let dim = column + at * plan.units;
        let mut sum = sums[at] * shrink;
        if part < parts && dim < head_dim {
            let mut key = part;
            while key < keys {
                sum += weights[key] * f32::cast_from(v[start + key * v.stride(1) + dim]);
                key += parts;
            }
        }
        sums[at] = sum;
    }
}

/// Adds the parts' sums and writes the result.
#[cube]
fn write<E: Float>(
    sums: &Array<f32>,
    total: f32,
    scratch: &mut Shared<[f32]>,
    out: &mut Tensor<E>,
    row: usize,
    #[comptime] plan: Plan,
) {
    let head_dim = plan.head_dim;
    let unit = UNIT_POS as usize;
    let (part, column) = (unit / head_dim, unit % head_dim);
    #[unroll]
    for at in 0..comptime!(plan.columns()) {
        scratch[unit] = sums[at];
        sync_cube();
        let dim = column + at * plan.units;
        if part == 0 && dim < head_dim {
            let mut sum = scratch[unit];
            #[unroll]
            for other in 1..comptime!(plan.parts()) {
                sum += scratch[unit + other * head_dim];
            }
            out[row + dim] = E::cast_from(sum / total);
        }
        sync_cube();
    }
}

/// As [`crate::ops::LlmOps::attention`], or [`crate::ops::LlmOps::attention_at`] with a slot.
pub(super) fn forward(
    q: CubeTensor,
    k: CubeTensor,
    v: CubeTensor,
    segments: CubeTensor,
    slot: Option<CubeTensor>,
    rule: AttentionRule,
) -> CubeTensor {
    let sizes = Sizes::of(&q, &k, rule);
    let (q, segments) = (into_contiguous(q), into_contiguous(segments));
    let (k, v) = (with_dense_rows(k), with_dense_rows(v));
    let out = empty(&q, [sizes.batch, sizes.seq, sizes.heads, sizes.head_dim], q.dtype);
    let strides = k.meta.strides();
    let step = [strides[0], strides[1], strides[2], sizes.head_dim].into_iter().fold(0, gcd);
    let vector = vector_size(&k, step);
    let plan = Plan {
        units: UNITS as usize,
        head_dim: sizes.head_dim,
        loads: sizes.head_dim / vector,
        group: sizes.group(),
        capped: rule.softcap.is_some(),
        slotted: slot.is_some(),
    };
    let numbers = RuleLaunch::new(
        rule.scale,
        rule.softcap.unwrap_or(1.0),
        sizes.offset,
        rule.window.unwrap_or(sizes.keys).min(sizes.keys),
    );
    let formats = [element(q.dtype), element(segments.dtype)];
    // SAFETY: keys read are those up to the query's own position, which is below their number;
    // heads, rows and columns are below the tensors' sizes by the grid and the plan.
    unsafe {
        kernel::launch_unchecked(
            &out.client,
            CubeCount::new_3d(sizes.heads as u32, sizes.seq as u32, sizes.batch as u32),
            CubeDim::new_1d(UNITS),
            addresses(&[&q, &k, &v, &out]),
            vector,
            q.into_tensor_arg(),
            k.into_tensor_arg(),
            v.into_tensor_arg(),
            segments.clone().into_tensor_arg(),
            slot.unwrap_or(segments).into_tensor_arg(),
            out.clone().into_tensor_arg(),
            numbers,
            plan,
            formats,
        );
    }
    out
}
