//! Inference: few rows, few queries, a cache. No gradients here, so that a backend's own bodies for
//! them run.

use burn::tensor::{DType, FloatDType, Tensor, TensorData, activation};
use rekindle_kernels::{
    Activation, AttentionRule, Check, Recorded, RopeTable, Slot, argmax_rows, attention,
    attention_at, cache_write, gated, linear, lora_linear, recorded, rms_norm, rope, self_check,
};
use rekindle_testkit::{assert_close, device};

use crate::comparison::{constant, host, ints, values};

/// Products of sums written out, in f64.
fn product(x: &[f32], w: &[f32], d_in: usize) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| {
        x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32
    };
    x.chunks_exact(d_in).flat_map(|x| w.chunks_exact(d_in).map(move |w| dot(x, w))).collect()
}

#[test]
fn a_product_of_few_rows_is_the_product() {
    let device = device();
    for rows in [1, 2, 3, 7, 16, 17, 33, 64, 65] {
        for [d_in, d_out] in [[1, 1], [5, 3], [64, 9], [132, 65], [576, 40]] {
            let x = constant([rows, d_in], 1, &device);
            let w = constant([d_out, d_in], 2, &device);
            let expected = product(&host(x.clone()), &host(w.clone()), d_in);
            assert_close(&host(linear(x, w)), &expected, 1e-5, 1e-5);
        }
    }
}

#[test]
fn a_product_of_few_rows_with_a_view_of_a_weight() {
    let device = device();
    let (x, w) = (constant([3, 24], 1, &device), constant([24, 40], 2, &device));
    let transposed = w.clone().transpose();
    let expected = product(&host(x.clone()), &host(transposed.clone()), 24);
    assert_close(&host(linear(x.clone(), transposed)), &expected, 1e-5, 1e-5);
    let part = constant([40, 24], 3, &device).narrow(0, 8, 16);
    let expected = product(&host(x.clone()), &host(part.clone()), 24);
    assert_close(&host(linear(x, part)), &expected, 1e-5, 1e-5);
}

#[test]
fn an_adapter_on_few_rows_adds_its_update() {
    let device = device();
    let (d_in, d_out, rank) = (48, 33, 4);
    for rows in [1, 5, 64] {
        let x = constant([rows, d_in], 1, &device);
        let w = constant([d_out, d_in], 2, &device);
        let (a, b) = (constant([rank, d_in], 3, &device), constant([d_out, rank], 4, &device));
        let updated = w.clone() + b.clone().matmul(a.clone()) * 0.5;
        let expected = product(&host(x.clone()), &host(updated), d_in);
        assert_close(&host(lora_linear(x, w, a, b, 0.5)), &expected, 1e-5, 1e-5);
    }
}

/// One row of queries at a time, in plain tensor operations of one head each.
fn plain_attention([q, k, v]: [&Tensor<4>; 3], segments: &[i64], rule: AttentionRule) -> Vec<f32> {
    let [batch, seq, heads, _] = q.dims();
    let [_, keys, kv_heads, _] = k.dims();
    let offset = rule.first_query.unwrap_or(keys - seq);
    let mut out = Vec::new();
    for (row, query) in (0..batch).flat_map(|row| (0..seq).map(move |query| (row, query))) {
        let position = offset + query;
        let first = rule.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let marks = &segments[row * keys..(row + 1) * keys];
        let mask = (0..keys).map(|key| {
            let seen = key >= first && key <= position && marks[key] == marks[position];
            if seen { 0.0f32 } else { -1e9 }
        });
        let mask = Tensor::<2>::from_data(
            TensorData::new(mask.collect::<Vec<f32>>(), [1, keys]),
            &q.device(),
        );
        for head in 0..heads {
            let of = |x: &Tensor<4>, head: usize| {
                let [_, len, _, width] = x.dims();
                x.clone()
                    .slice([row..row + 1, 0..len, head..head + 1, 0..width])
                    .reshape([len, width])
            };
            let kv_head = head / (heads / kv_heads);
            let line = of(q, head).narrow(0, query, 1);
            let scores = line.matmul(of(k, kv_head).transpose()) * rule.scale;
            let scores = match rule.softcap {
                Some(cap) => (scores / cap).tanh() * cap,
                None => scores,
            };
            let p = activation::softmax(scores + mask.clone(), 1);
            out.extend(host(p.matmul(of(v, kv_head))));
        }
    }
    out
}

fn check_attention(
    [batch, seq, keys]: [usize; 3],
    [heads, kv_heads, head_dim]: [usize; 3],
    segments: &[i64],
    rule: AttentionRule,
) {
    let device = device();
    let q = constant([batch, seq, heads, head_dim], 1, &device);
    let k = constant([batch, keys, kv_heads, head_dim], 2, &device);
    let v = constant([batch, keys, kv_heads, head_dim], 3, &device);
    let expected = plain_attention([&q, &k, &v], segments, rule);
    let marks = ints(segments, [batch, keys], &device);
    let found = attention(q.clone(), k.clone(), v.clone(), marks.clone(), rule);
    assert_close(&host(found), &expected, 1e-5, 1e-5);
    if let Some(first) = rule.first_query {
        let mut slot = Slot::new(0, &device);
        slot.move_to(first);
        let found = attention_at(q, k, v, marks, &slot, rule);
        assert_close(&host(found), &expected, 1e-5, 1e-5);
    }
}

#[test]
fn attention_of_few_queries_for_every_width_of_a_head() {
    for head_dim in [2, 12, 64, 80, 96, 128, 256, 260] {
        let segments = vec![1; 300];
        check_attention([1, 1, 300], [4, 2, head_dim], &segments, AttentionRule::scaled(0.3));
    }
}

#[test]
fn attention_of_few_queries_with_padding_window_cap_and_room_behind() {
    let keys = 290;
    let segments: Vec<i64> = [0, 17, 200]
        .iter()
        .flat_map(|&start| (0..keys).map(move |key| i64::from(key >= start && key < 270)))
        .collect();
    for window in [None, Some(1), Some(5), Some(140), Some(4096)] {
        for softcap in [None, Some(0.4)] {
            for (seq, first) in [(1, 269), (1, 200), (3, 240)] {
                let rule = AttentionRule { scale: 0.5, softcap, window, first_query: Some(first) };
                check_attention([3, seq, keys], [6, 3, 8], &segments, rule);
            }
        }
    }
}

#[test]
fn attention_reads_a_narrowed_cache() {
    let device = device();
    let q = constant([2, 1, 4, 16], 1, &device);
    let [k, v] = [2, 3].map(|seed| constant::<4>([2, 96, 2, 16], seed, &device).narrow(1, 0, 64));
    let segments = vec![1; 128];
    let rule = AttentionRule { first_query: Some(40), ..AttentionRule::scaled(0.25) };
    let expected = plain_attention([&q, &k, &v], &segments, rule);
    let found = attention(q, k, v, ints(&segments, [2, 64], &device), rule);
    assert_close(&host(found), &expected, 1e-5, 1e-5);
}

#[test]
fn new_tokens_go_to_their_slots_and_nowhere_else() {
    let device = device();
    let shape = [2, 7, 3, 4];
    for (first, added) in [(0, 7), (2, 3), (6, 1)] {
        let [keys, values] = [1, 2].map(|seed| constant::<4>(shape, seed, &device));
        let [new_keys, new_values] =
            [3, 4].map(|seed| constant::<4>([2, added, 3, 4], seed, &device));
        let assigned = |old: &Tensor<4>, new: &Tensor<4>| {
            let place = [0..2, first..first + added, 0..3, 0..4];
            host(old.clone().slice_assign(place, new.clone()))
        };
        let expected = [assigned(&keys, &new_keys), assigned(&values, &new_values)];
        let before = [host(keys.clone()), host(values.clone())];
        let kept = (keys.clone(), values.clone());
        let written = cache_write((keys, values), new_keys, new_values, &Slot::new(first, &device));
        assert_eq!([host(written.0), host(written.1)], expected);
        assert_eq!([host(kept.0), host(kept.1)], before, "tensors that others hold");
    }
}

#[test]
#[should_panic(expected = "2 tokens from slot 6 on, of 7 slots")]
fn a_write_past_the_last_slot_is_refused() {
    let device = device();
    let [keys, values] = [1, 2].map(|seed| constant::<4>([1, 7, 1, 2], seed, &device));
    let new = constant([1, 2, 1, 2], 3, &device);
    cache_write((keys, values), new.clone(), new, &Slot::new(6, &device));
}

/// Numbers in f16, computed in f32 and rounded once, differ from the same in f32 by a rounding.
#[test]
fn half_formats_are_computed_in_single_precision() {
    let device = device();
    let half = |x: &Tensor<4>| x.clone().cast(FloatDType::F16);
    let close = |found: Tensor<4>, expected: Tensor<4>| {
        assert_eq!(found.dtype(), DType::F16);
        assert_close(&host(found.cast(FloatDType::F32)), &host(expected), 1e-3, 1e-3);
    };
    let exact = |x: &Tensor<4>| half(x).cast(FloatDType::F32);
    let [x, y] = [1, 2].map(|seed| constant::<4>([2, 3, 4, 16], seed, &device));
    let gamma = constant([16], 3, &device).cast(FloatDType::F16);
    close(
        rms_norm(half(&x), gamma.clone(), 1e-5),
        rms_norm(exact(&x), gamma.cast(FloatDType::F32), 1e-5),
    );
    for activation in [Activation::Silu, Activation::GeluTanh] {
        close(gated(half(&x), half(&y), activation), gated(exact(&x), exact(&y), activation));
    }
    let positions = [vec![0, 1, 2], vec![5, 6, 7]];
    let table = RopeTable::new(&positions, &[vec![1.0, 0.1], vec![1.0, 0.1]], 1.0, &device);
    close(rope(half(&x), &table), rope(exact(&x), &table));
    let segments = ints(&[1; 6], [2, 3], &device);
    let rule = AttentionRule::scaled(0.25);
    close(
        attention(half(&x), half(&y), half(&x), segments.clone(), rule),
        attention(exact(&x), exact(&y), exact(&x), segments, rule),
    );
    let w = Tensor::<2>::from_data(TensorData::new(values(10 * 16, 4), [10, 16]), &device)
        .cast(FloatDType::F16);
    close(linear(half(&x), w.clone()), linear(exact(&x), w.cast(FloatDType::F32)));
}

/// On a device that can record; elsewhere there is nothing to see.
#[test]
fn a_recorded_step_is_repeated_on_what_its_inputs_hold_by_then() {
    let device = device();
    if !recorded::can_record(&device) {
        return;
    }
    let shape = [2, 6, 2, 4];
    let w = constant([8, 8], 1, &device);
    let mut x = constant([2, 8], 2, &device);
    let mut slot = Slot::new(0, &device);
    let segments = ints(&[1; 12], [2, 6], &device);
    let zeros = || Tensor::<4>::zeros(shape, &device);
    let mut held = Some((zeros(), zeros()));
    let (line, first) = (x.clone(), slot.clone());
    let mut step = || {
        let new = linear(line.clone(), w.clone()).reshape([2, 1, 2, 4]);
        let cache = cache_write(held.take().expect("put back"), new.clone(), new.clone(), &first);
        held = Some(cache.clone());
        let rule = AttentionRule::scaled(0.5);
        attention_at(new, cache.0, cache.1, segments.clone(), &first, rule)
    };
    step();
    let mut recorded = Recorded::new(&device, step).expect("the device can record");
    let (mut keys, line) = (zeros(), |seed: u64| values(16, seed));
    for at in 0..6 {
        let seed = at as u64 + 2;
        recorded::overwrite_floats(&mut x, &line(seed));
        slot.move_to(at);
        let found = host(recorded.repeat().clone());
        let new = linear(constant([2, 8], seed, &device), w.clone()).reshape([2, 1, 2, 4]);
        keys = keys.slice_assign([0..2, at..at + 1, 0..2, 0..4], new.clone());
        let rule = AttentionRule { first_query: Some(at), ..AttentionRule::scaled(0.5) };
        let expected = plain_attention([&new, &keys, &keys], &[1; 12], rule);
        assert_close(&found, &expected, 1e-5, 1e-5);
    }
}

#[test]
fn the_largest_of_each_row_is_the_first_of_equal_ones() {
    let device = device();
    for width in [1, 3, 256, 257, 5000] {
        let mut rows = values(3 * width, 7);
        rows[width - 1] = 2.0;
        rows[width] = 3.0;
        rows[2 * width - 1] = 3.0;
        let first = rows[2 * width..].iter().copied().fold(f32::MIN, f32::max);
        let first = rows[2 * width..].iter().position(|&x| x == first).expect("it is one of them");
        let x = Tensor::<2>::from_data(TensorData::new(rows, [3, width]), &device);
        let found: Vec<i64> = argmax_rows(x).into_data().iter::<i64>().collect();
        assert_eq!(found, [width as i64 - 1, 0, first as i64], "width {width}");
    }
}

/// Sizes that matrix units take, and some that they do not.
#[test]
fn a_product_of_few_rows_in_half_formats() {
    let device = device();
    for rows in [1, 4, 5, 15, 16, 31, 48, 64] {
        for [d_in, d_out] in [[16, 16], [144, 48], [576, 96], [512, 4128], [40, 24]] {
            let half = |x: Tensor<2>| x.cast(FloatDType::F16);
            let x = half(constant([rows, d_in], 1, &device) * 0.25);
            let w = half(constant([d_out, d_in], 2, &device) * 0.25);
            let single = |x: &Tensor<2>| host(x.clone().cast(FloatDType::F32));
            let expected = product(&single(&x), &single(&w), d_in);
            assert_close(&single(&linear(x, w)), &expected, 1e-3, 1e-3);
        }
    }
}

#[test]
fn the_device_passes_its_own_checks() {
    let checks = self_check(&device(), FloatDType::F32).expect("the device works");
    assert!(checks.len() >= 16, "{checks:?}");
    assert!(checks.iter().all(Check::passes), "{checks:?}");
}

#[test]
fn a_difference_beyond_its_limit_or_none_at_all_does_not_pass() {
    let check = |difference| Check { what: String::new(), difference, limit: 1e-3 };
    assert!(check(1e-3).passes());
    assert!(![1.1e-3, f64::INFINITY, f64::NAN].into_iter().any(|it| check(it).passes()));
}
