//! `attention`.

use burn::tensor::{Tensor, TensorData, activation};
use rekindle_kernels::{AttentionRule, attention};
use rekindle_testkit::{assert_close, device};

use crate::comparison::{assert_agrees, check, constant, host, ints, values};

/// Sizes and segments of one call.
#[derive(Clone)]
struct Case {
    batch: usize,
    seq: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// `[batch, keys]`.
    segments: Vec<i64>,
    rule: AttentionRule,
}

const PLAIN: AttentionRule =
    AttentionRule { scale: 0.6, softcap: None, window: None, first_query: None };

impl Case {
    fn inputs(&self) -> [Vec<f32>; 3] {
        let keys = self.batch * self.keys * self.kv_heads * self.head_dim;
        let queries = self.batch * self.seq * self.heads * self.head_dim;
        [values(queries, 1), values(keys, 2), values(keys, 3)]
    }

    fn tensors(&self, flat: &[Tensor<1>]) -> [Tensor<4>; 3] {
        let of_keys = [self.batch, self.keys, self.kv_heads, self.head_dim];
        let of_queries = [self.batch, self.seq, self.heads, self.head_dim];
        [
            flat[0].clone().reshape(of_queries),
            flat[1].clone().reshape(of_keys),
            flat[2].clone().reshape(of_keys),
        ]
    }

    fn fused(&self, flat: &[Tensor<1>]) -> Tensor<1> {
        let [q, k, v] = self.tensors(flat);
        let segments = ints(&self.segments, [self.batch, self.keys], &q.device());
        attention(q, k, v, segments, self.rule).flatten(0, 3)
    }

    fn plain(&self, flat: &[Tensor<1>]) -> Tensor<1> {
        let [q, k, v] = self.tensors(flat);
        let q = q.swap_dims(1, 2);
        let scores = q.matmul(self.repeated(k).transpose()) * self.rule.scale;
        let scores = match self.rule.softcap {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        let shape = [self.batch, 1, self.seq, self.keys];
        let mask = Tensor::from_data(TensorData::new(self.mask(), shape), &scores.device());
        let p = activation::softmax(scores + mask, 3);
        p.matmul(self.repeated(v)).swap_dims(1, 2).flatten(0, 3)
    }

    /// `[batch, keys, kv_heads, d]` to `[batch, heads, keys, d]`.
    fn repeated(&self, x: Tensor<4>) -> Tensor<4> {
        let Self { batch, keys, heads, kv_heads, head_dim, .. } = *self;
        let x = x.swap_dims(1, 2).reshape([batch, kv_heads, 1, keys, head_dim]);
        x.repeat_dim(2, heads / kv_heads).reshape([batch, heads, keys, head_dim])
    }

    /// 0 where a query sees a key, else −10⁹.
    fn mask(&self) -> Vec<f32> {
        let mut mask = Vec::new();
        for row in self.segments.chunks_exact(self.keys) {
            let first = self.rule.first_query.unwrap_or(self.keys - self.seq);
            for query in first..first + self.seq {
                let near = |key| self.rule.window.is_none_or(|window| query - key < window);
                let sees = |key| key <= query && near(key) && row[key] == row[query];
                mask.extend((0..self.keys).map(|key| if sees(key) { 0.0 } else { -1e9 }));
            }
        }
        mask
    }

    fn check(&self, eps: f32) {
        check(|v| self.fused(v), |v| self.plain(v), &self.inputs(), eps);
    }
}

fn one_segment(batch: usize, seq: usize, heads: usize, kv_heads: usize) -> Case {
    let segments = vec![1; batch * seq];
    Case { batch, seq, keys: seq, heads, kv_heads, head_dim: 4, segments, rule: PLAIN }
}

#[test]
fn attention_is_causal_softmax_attention() {
    one_segment(1, 5, 2, 2).check(3e-2);
}

#[test]
fn attention_shares_keys_among_grouped_queries() {
    one_segment(2, 5, 4, 2).check(3e-2);
    one_segment(2, 4, 3, 1).check(3e-2);
}

#[test]
fn attention_keeps_segments_and_padding_apart() {
    let segments = vec![1, 1, 2, 2, 2, 0, 0, 1, 1, 1, 1, 2, 3, 3];
    Case { segments, ..one_segment(2, 7, 4, 2) }.check(3e-2);
}

#[test]
fn attention_over_a_cache_asks_for_the_last_positions() {
    let segments = vec![1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1];
    Case { seq: 2, keys: 6, segments, ..one_segment(2, 6, 4, 2) }.check(3e-2);
    Case { seq: 1, ..one_segment(1, 6, 2, 1) }.check(3e-2);
}

#[test]
fn attention_agrees_across_chunks_of_queries() {
    let seq = 130;
    let case = Case { head_dim: 2, ..one_segment(1, seq, 2, 1) };
    case.check(5e-2);
}

#[test]
fn attention_agrees_across_chunks_with_batch_groups_segments_and_cache() {
    let (seq, keys) = (261, 290);
    let row = |cuts: [usize; 3]| {
        (0..keys).map(move |i| match cuts.iter().position(|&cut| i < cut) {
            Some(segment) => segment as i64 + 1,
            None => 0,
        })
    };
    let segments = row([20, 140, 250]).chain(row([129, 130, 290])).collect();
    let case = Case { seq, keys, segments, head_dim: 8, ..one_segment(2, keys, 6, 2) };
    assert_agrees(|v| case.fused(v), |v| case.plain(v), &case.inputs(), 1e-5);
}

#[test]
fn attention_caps_scores_softly() {
    let rule = AttentionRule { softcap: Some(0.7), ..PLAIN };
    Case { rule, ..one_segment(2, 5, 4, 2) }.check(3e-2);
    let segments = vec![1, 1, 2, 2, 2, 0, 0, 1, 1, 1, 1, 2, 3, 3];
    Case { rule, segments, ..one_segment(2, 7, 4, 2) }.check(3e-2);
}

#[test]
fn attention_sees_no_further_than_its_window() {
    for window in [1, 3, 7, 20] {
        let rule = AttentionRule { window: Some(window), ..PLAIN };
        let segments = vec![1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1];
        Case { rule, segments, ..one_segment(2, 7, 4, 2) }.check(3e-2);
        let cached = Case { seq: 2, keys: 9, rule, ..one_segment(1, 9, 2, 1) };
        cached.check(3e-2);
    }
}

#[test]
fn attention_agrees_across_chunks_with_a_window_and_a_cap() {
    for window in [5, 64, 150] {
        let rule = AttentionRule { window: Some(window), softcap: Some(0.5), ..PLAIN };
        let segments = (0..290).map(|at| 1 + i64::from(at > 140)).collect();
        let case = Case { seq: 261, segments, head_dim: 8, rule, ..one_segment(1, 290, 4, 2) };
        assert_agrees(|v| case.fused(v), |v| case.plain(v), &case.inputs(), 1e-5);
    }
}

#[test]
fn queries_amid_the_keys_see_nothing_behind_themselves() {
    for seq in [1, 3] {
        let rule = AttentionRule { first_query: Some(4), window: Some(6), ..PLAIN };
        let segments = vec![0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        Case { seq, keys: 9, rule, segments, ..one_segment(2, 9, 4, 2) }.check(3e-2);
    }
}

#[test]
fn attention_agrees_on_permuted_and_sliced_inputs() {
    let case = one_segment(2, 5, 4, 2);
    // Heads before positions, as a projection split into heads may lie in memory, and keys and
    // values as two halves of one tensor.
    let views = |v: &[Tensor<1>]| -> Vec<Tensor<1>> {
        let q = v[0].clone().reshape([2, 4, 5, 4]).swap_dims(1, 2);
        let both = v[1].clone().reshape([2, 5, 4, 4]);
        vec![
            q.flatten(0, 3),
            both.clone().narrow(2, 0, 2).flatten(0, 3),
            both.narrow(2, 2, 2).flatten(0, 3),
        ]
    };
    let fused = |v: &[Tensor<1>]| {
        let q = v[0].clone().reshape([2, 4, 5, 4]).swap_dims(1, 2);
        let both = v[1].clone().reshape([2, 5, 4, 4]);
        let (k, values) = (both.clone().narrow(2, 0, 2), both.narrow(2, 2, 2));
        let segments = ints(&case.segments, [2, 5], &q.device());
        attention(q, k, values, segments, case.rule).flatten(0, 3)
    };
    check(fused, |v| case.plain(&views(v)), &[values(160, 1), values(160, 2)], 3e-2);
}

#[test]
fn attention_trains_values_alone() {
    let case = one_segment(1, 5, 2, 1);
    let with_constants = |v: &[Tensor<1>]| {
        let device = v[0].device();
        vec![constant([40], 1, &device), constant([20], 2, &device), v[0].clone()]
    };
    check(
        |v| case.fused(&with_constants(v)),
        |v| case.plain(&with_constants(v)),
        &[values(20, 3)],
        1e-1,
    );
}

/// Rows `rows` of the single sequence of `case`, attended to on their own.
fn alone(case: &Case, rows: std::ops::Range<usize>) -> Vec<f32> {
    let device = device();
    let flat = case.inputs().map(|x| Tensor::<1>::from_floats(x.as_slice(), &device));
    let [q, k, v] = case.tensors(&flat).map(|x| x.narrow(1, rows.start, rows.len()));
    let segments = ints(&vec![1; rows.len()], [1, rows.len()], &device);
    host(attention(q, k, v, segments, case.rule))
}

fn together(case: &Case) -> Vec<f32> {
    let device = device();
    host(case.fused(&case.inputs().map(|x| Tensor::<1>::from_floats(x.as_slice(), &device))))
}

#[test]
fn packed_segments_attend_as_if_alone() {
    for (first, second) in [(5, 4), (70, 100), (128, 33)] {
        let segments = [vec![1; first], vec![2; second]].concat();
        let case = Case { segments, ..one_segment(1, first + second, 4, 2) };
        let parts = [alone(&case, 0..first), alone(&case, first..first + second)].concat();
        assert_close(&together(&case), &parts, 0.0, 1e-6);
    }
}

#[test]
fn padding_on_either_side_changes_no_real_row() {
    let (real, padding, width) = (9, 6, 4 * 4);
    let right = [vec![1; real], vec![0; padding]].concat();
    let case = Case { segments: right, ..one_segment(1, real + padding, 4, 2) };
    assert_close(&together(&case)[..real * width], &alone(&case, 0..real), 0.0, 1e-6);
    let left = [vec![0; padding], vec![1; real]].concat();
    let case = Case { segments: left, ..case };
    let expected = alone(&case, padding..padding + real);
    assert_close(&together(&case)[padding * width..], &expected, 0.0, 1e-6);
}

#[test]
fn a_cache_gives_the_last_rows_of_the_whole() {
    let case = one_segment(1, 12, 4, 2);
    let device = device();
    let flat = case.inputs().map(|x| Tensor::<1>::from_floats(x.as_slice(), &device));
    let [q, k, v] = case.tensors(&flat);
    let segments = ints(&case.segments, [1, 12], &device);
    let last = host(attention(q.narrow(1, 9, 3), k, v, segments, case.rule));
    assert_close(&last, &together(&case)[9 * 16..], 0.0, 1e-6);
}

#[test]
fn attention_survives_scores_far_beyond_the_range_of_exp() {
    let device = device();
    let [q, k] = [1, 2].map(|seed| constant::<4>([1, 6, 2, 4], seed, &device) * 100.0);
    let v = constant([1, 6, 2, 4], 3, &device);
    let out = host(attention(q, k, v, ints(&[1; 6], [1, 6], &device), AttentionRule::scaled(1.0)));
    assert!(out.iter().all(|x| x.abs() <= 1.0), "a mean of values left their range: {out:?}");
}

#[test]
#[should_panic(expected = "2 keys for 3 queries")]
fn fewer_keys_than_queries_are_refused() {
    let device = device();
    let (q, k) = (constant([1, 3, 1, 2], 1, &device), constant([1, 2, 1, 2], 2, &device));
    attention(q, k.clone(), k, ints(&[1, 1], [1, 2], &device), AttentionRule::scaled(1.0));
}
