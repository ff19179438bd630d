use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::order::permutation;

const GOLDEN: &str = include_str!("../../../../fixtures/data/packing/packing.json");

fn loads(rows: &[Vec<usize>], lengths: &[usize]) -> Vec<usize> {
    rows.iter().map(|row| row.iter().map(|&index| lengths[index]).sum()).collect()
}

/// The same by looking at every row for every sample.
fn by_looking(lengths: &[usize], max_tokens: usize) -> Vec<usize> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by_key(|&length| Reverse(length));
    let mut filled: Vec<usize> = Vec::new();
    for length in sorted {
        let fitting = filled.iter_mut().filter(|load| **load + length <= max_tokens);
        match fitting.max_by_key(|load| **load) {
            Some(load) => *load += length,
            None => filled.push(length),
        }
    }
    filled.sort_unstable();
    filled
}

fn instance() -> impl Strategy<Value = (Vec<usize>, usize)> {
    (1usize..200).prop_flat_map(|max| (prop::collection::vec(0..=max, 0..120), Just(max)))
}

/// Lengths that fill `rows` rows of `max_tokens` to the last token, in a shuffled order.
fn cut_from_full_rows() -> impl Strategy<Value = (Vec<usize>, usize, usize)> {
    let cuts = prop::collection::vec(prop::collection::btree_set(1usize..100, 0..6), 1..40);
    (cuts, any::<u64>()).prop_map(|(rows, seed)| {
        let mut lengths = Vec::new();
        for cuts in &rows {
            let mut start = 0;
            for &end in cuts.iter().chain([&100]) {
                lengths.push(end - start);
                start = end;
            }
        }
        let order = permutation(lengths.len(), seed, 0);
        (order.into_iter().map(|index| lengths[index]).collect(), 100, rows.len())
    })
}

proptest! {
    #[test]
    fn every_sample_is_in_one_row_and_no_row_is_too_long((lengths, max_tokens) in instance()) {
        let rows = pack(&lengths, max_tokens).unwrap();
        let mut seen = rows.concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        let mut loads = loads(&rows, &lengths);
        prop_assert!(loads.iter().all(|&load| load <= max_tokens));
        loads.sort_unstable();
        prop_assert_eq!(loads, by_looking(&lengths, max_tokens));
    }

    #[test]
    fn best_fit_decreasing_keeps_its_bound((lengths, max_tokens, fewest) in cut_from_full_rows()) {
        let rows = pack(&lengths, max_tokens).unwrap();
        prop_assert!(rows.len() >= fewest);
        prop_assert!(9 * rows.len() <= 11 * fewest + 36, "{} of {fewest}", rows.len());
    }
}

#[test]
fn packing_fills_the_rows_that_trl_fills() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = golden["packing"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        let lengths: Vec<usize> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let wanted: Vec<Vec<usize>> = serde_json::from_value(case["rows"].clone()).unwrap();
        let max_tokens = case["max_tokens"].as_u64().unwrap() as usize;
        let rows = pack(&lengths, max_tokens).unwrap();
        let found: Vec<Vec<usize>> =
            rows.iter().map(|row| row.iter().map(|&index| lengths[index]).collect()).collect();
        assert_eq!(found, wanted, "{}", case["name"]);
    }
}

#[test]
fn ties_go_by_index_on_every_thread() {
    let lengths = [2, 3, 5, 3, 2, 4, 1, 4];
    let wanted = [vec![2, 1], vec![5, 7], vec![3, 0, 4, 6]];
    std::thread::scope(|scope| {
        let packed: Vec<_> = (0..4).map(|_| scope.spawn(|| pack(&lengths, 8).unwrap())).collect();
        for rows in packed {
            assert_eq!(rows.join().unwrap(), wanted);
        }
    });
}

#[test]
fn a_sample_that_fits_nowhere_is_an_error() {
    let error = pack(&[3, 9, 4], 8).unwrap_err();
    assert_eq!(error, LoaderError::LongSample { index: 1, tokens: 9, max_tokens: 8 });
    assert_eq!(pack(&[], 8).unwrap(), Vec::<Vec<usize>>::new());
}
