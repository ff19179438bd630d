//! Orders drawn from a seed, the same on every machine and in every release.

use std::cmp::Reverse;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Permutation of `0..n` drawn by Fisher and Yates' method from ChaCha8 (`seed`, `stream`).
///
/// Written out here so that no release of a random-number crate changes an order that a
/// checkpoint relies on.
pub(crate) fn permutation(n: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i as u64 + 1) as usize);
    }
    order
}

/// Batches that one group of rows sorted by length spans at most, as in transformers'
/// `LengthGroupedSampler`.
const BATCHES_A_GROUP: usize = 50;

/// `order` with rows of like length together, by their `lengths`, for steps of `batch` rows.
///
/// As transformers' `get_length_grouped_indices`: `order` is cut into groups of fifty batches, or
/// fewer so that there are four groups, and each is sorted, longest first and ties as they were.
/// The longest of all then changes places with the first, so that a run that lacks the memory for
/// it fails at once.
pub(crate) fn grouped_by_length(
    mut order: Vec<usize>,
    lengths: &[usize],
    batch: usize,
) -> Vec<usize> {
    let batches = (order.len() / batch.saturating_mul(4)).clamp(1, BATCHES_A_GROUP);
    let group = batches.saturating_mul(batch);
    for rows in order.chunks_mut(group) {
        rows.sort_by_key(|&row| Reverse(lengths[row]));
    }
    // The first of equal maxima, which is what `min_by_key` gives of reversed lengths.
    let heads = (0..order.len()).step_by(group);
    if let Some(longest) = heads.min_by_key(|&place| Reverse(lengths[order[place]])) {
        order.swap(0, longest);
    }
    order
}

/// A number below `bound`, each equally likely: draws beyond the last whole multiple are refused.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let last = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < last {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_comes_once_and_the_order_is_pinned() {
        let order = permutation(8, 7, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        assert_eq!(order, permutation(8, 7, 0));
        assert_ne!(permutation(64, 7, 0), permutation(64, 7, 1), "streams differ");
        assert_ne!(permutation(64, 7, 0), permutation(64, 8, 0), "seeds differ");
    }
    #[test]
    fn grouping_by_length_equals_transformers() {
        let golden = include_str!("../../../fixtures/data/packing/packing.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let cases = golden["grouping"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let list =
                |key: &str| -> Vec<usize> { serde_json::from_value(case[key].clone()).unwrap() };
            let batch = case["batch"].as_u64().unwrap() as usize;
            let found = grouped_by_length(list("order"), &list("lengths"), batch);
            assert_eq!(found, list("grouped"), "{}", case["name"]);
        }
    }
}
