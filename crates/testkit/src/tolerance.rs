//! Comparison of two lists of numbers.

/// Asserts |actual − expected| ≤ atol + rtol · |expected| for every element.
///
/// Equal infinities agree, and NaN agrees with NaN alone.
///
/// # Panics
///
/// If the lengths differ or an element is out of tolerance; the message names the worst index.
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f32], rtol: f64, atol: f64) {
    assert_eq!(
        actual.len(),
        expected.len(),
        "{} values were found, {} were expected",
        actual.len(),
        expected.len()
    );
    let excess = |index: usize| {
        let (a, e) = (f64::from(actual[index]), f64::from(expected[index]));
        if a == e || (a.is_nan() && e.is_nan()) {
            return 0.0;
        }
        let error = (a - e).abs() / (atol + rtol * e.abs());
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let bad = (0..actual.len()).filter(|&index| excess(index) > 1.0).count();
    let worst = (0..actual.len()).max_by(|&a, &b| excess(a).total_cmp(&excess(b)));
    if let Some(worst) = worst.filter(|_| bad > 0) {
        panic!(
            "{bad} of {} values are out of tolerance; worst at index {worst}: found {}, expected \
             {}, {:.1} times the tolerance (rtol {rtol:e}, atol {atol:e})",
            actual.len(),
            actual[worst],
            expected[worst],
            excess(worst)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_inside_the_tolerance_agree() {
        assert_close(
            &[1.0, f32::NAN, f32::INFINITY],
            &[1.000_001, f32::NAN, f32::INFINITY],
            2e-6,
            0.0,
        );
    }

    #[test]
    #[should_panic(expected = "worst at index 2")]
    fn the_worst_index_is_named() {
        assert_close(&[1.0, 2.1, 9.0], &[1.0, 2.0, 3.0], 1e-3, 0.0);
    }

    #[test]
    #[should_panic(expected = "worst at index 1")]
    fn a_stray_nan_is_out_of_tolerance() {
        assert_close(&[1.0, f32::NAN], &[1.0, 2.0], 1.0, 1.0);
    }
}
