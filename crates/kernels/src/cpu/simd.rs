//! Inner loops that the compiler vectorises, run for the best instruction set at hand.

/// Runs `body`, compiled for the widest vectors of this processor.
///
/// Everything `body` calls must be inlined for that to hold.
#[inline]
pub(super) fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

const LANES: usize = 16;

/// Folds `x` in sixteen independent lanes, so that the order of sums is fixed yet parallel.
#[inline(always)]
fn fold(
    x: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, value);
    }
    lanes.into_iter().reduce(join).unwrap_or(start)
}

/// `Σ xᵢ²`.
#[inline(always)]
pub(super) fn sum_squares(x: &[f32]) -> f32 {
    fold(x, 0.0, |sum, value| sum + value * value, |a, b| a + b)
}

/// `Σ xᵢ`.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    fold(x, 0.0, |sum, value| sum + value, |a, b| a + b)
}

/// The largest element.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(x, f32::NEG_INFINITY, larger, larger)
}

/// `Σ xᵢ yᵢ`.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (rest_x, rest_y) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(rest_x).zip(rest_y) {
        *lane += x * y;
    }
    lanes.into_iter().sum()
}

/// `eˣ` to about one unit in the last place, without a branch.
///
/// Range reduction by `x = k · ln 2 + r`, a polynomial of degree 6 in `r` (Cephes `expf`), and `2ᵏ`
/// put together from its bits. Below −87.3 the result is the smallest normal number, not zero.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -87.3 { x } else { -87.3 };
    let x = if x < 88.3 { x } else { 88.3 };
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * 0.693_359_4;
    let r = r - k * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    p * f32::from_bits(((exponent + 127) << 23) as u32)
}

/// `tanh x` to about two units in the last place, without a branch (Cephes `tanhf`).
///
/// An odd polynomial below 0.625 in magnitude, `1 − 2 / (e^(2|x|) + 1)` above.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let p = -5.704_989e-3;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_3e-1;
    let p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// `x ← e^(x − max)`, the sum of the result.
#[inline(always)]
pub(super) fn exp_minus(x: &mut [f32], max: f32) -> f32 {
    for value in x.iter_mut() {
        *value = exp(*value - max);
    }
    sum(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (got, want) = (exp(x), x.exp());
            assert!((got - want).abs() <= 3e-7 * want, "exp({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn tanh_agrees_with_double_precision() {
        for i in -12_000..12_000 {
            let x = i as f32 / 1000.0;
            let (got, want) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((got - want).abs() <= 3e-7 * want.abs(), "tanh({x}) = {got}, not {want}");
        }
        assert_eq!((tanh(200.0), tanh(-200.0)), (1.0, -1.0));
    }

    #[test]
    fn folds_cover_the_tail() {
        let x: Vec<f32> = (1..=37).map(|i| i as f32).collect();
        assert_eq!(sum(&x), 703.0);
        assert_eq!(max(&x), 37.0);
        assert_eq!(sum_squares(&x), 17_575.0);
        assert_eq!(dot(&x, &x), 17_575.0);
    }
}
