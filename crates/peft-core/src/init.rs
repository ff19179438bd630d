//! Starting values, made on the host so that every backend starts from the same numbers.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A generator for one purpose and one parameter.
///
/// The stream depends on `seed`, `purpose` and the parameter's `path` alone, so adding a parameter
/// changes no other parameter's values.
pub fn generator(seed: u64, purpose: &str, path: &str) -> ChaCha8Rng {
    // FNV-1a, 64 bits, over everything the stream depends on.
    let bytes =
        seed.to_le_bytes().into_iter().chain(purpose.bytes()).chain([0]).chain(path.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ChaCha8Rng::seed_from_u64(hash)
}

/// `n` values uniform in `[−bound, bound)`.
pub fn uniform(rng: &mut ChaCha8Rng, n: usize, bound: f64) -> Vec<f32> {
    (0..n).map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32).collect()
}

/// `n` values normal with mean 0 and standard deviation `std`, by the Box-Muller transform.
pub fn normal(rng: &mut ChaCha8Rng, n: usize, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    values.truncate(n);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_its_path_and_seed_only() {
        let draw = |seed, path| uniform(&mut generator(seed, "init", path), 4, 1.0);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn normal_values_have_the_asked_moments() {
        let values = normal(&mut generator(0, "init", "x"), 100_000, 0.5);
        let mean = values.iter().sum::<f32>() / 1e5;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 1e5;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 0.25).abs() < 0.01, "{variance}");
    }
}
