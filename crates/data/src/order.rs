//! Orders drawn from a seed, the same on every machine and in every release.

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
}
