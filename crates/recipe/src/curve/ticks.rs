//! Round numbers along an axis.

/// Evenly spaced round numbers.
pub(super) struct Ticks {
    first: f64,
    spacing: f64,
    /// Number of ticks, 2 or more.
    pub(super) count: usize,
}

impl Ticks {
    /// Round numbers that enclose the range, about `wanted` of them; 1, 2 or 5 times a power of
    /// ten apart, and no closer than `least`.
    pub(super) fn around(low: f64, high: f64, wanted: f64, least: f64) -> Self {
        let (low, high) = match high - low > 1e-9 * high.abs().max(low.abs()) {
            true => (low, high),
            false => (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0)),
        };
        let rough = (high - low) / wanted;
        let power = 10f64.powf(rough.log10().floor());
        let spacing = match rough / power {
            part if part <= 1.0 => power,
            part if part <= 2.0 => 2.0 * power,
            part if part <= 5.0 => 5.0 * power,
            _ => 10.0 * power,
        };
        let spacing = spacing.max(least);
        let first = (low / spacing).floor() * spacing;
        let count = ((high - first) / spacing - 1e-9).ceil().max(1.0) as usize + 1;
        Self { first, spacing, count }
    }

    /// The value at a tick.
    pub(super) fn at(&self, index: usize) -> f64 {
        self.first + self.spacing * index as f64
    }

    /// Where a value lies, 0 at the first tick and 1 at the last.
    pub(super) fn part(&self, value: f64) -> f64 {
        (value - self.first) / (self.spacing * (self.count - 1) as f64)
    }

    /// The value at a tick in as many digits as tell it from its neighbours.
    pub(super) fn label(&self, index: usize) -> String {
        let value = self.at(index);
        if value.abs() >= 1e7 {
            return format!("{value:.1e}");
        }
        let decimals = (-self.spacing.log10().floor()).clamp(0.0, 9.0) as usize;
        let label = format!("{value:.decimals$}");
        // Rounding may leave a zero with a sign.
        match label.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) {
            true => label.trim_start_matches('-').to_owned(),
            false => label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_range() {
        for (low, high) in [(0.0, 1.0), (1.87, 2.31), (0.0, 37.0), (1e-7, 3e-7), (-5.0, 9e9)] {
            let ticks = Ticks::around(low, high, 6.0, 0.0);
            assert!(ticks.first <= low && ticks.at(ticks.count - 1) >= high * (1.0 - 1e-9));
            assert!((4..=12).contains(&ticks.count), "{low} {high}: {}", ticks.count);
        }
        let ticks = Ticks::around(1.87, 2.31, 6.0, 0.0);
        let labels: Vec<_> = (0..ticks.count).map(|index| ticks.label(index)).collect();
        assert_eq!(labels, ["1.8", "1.9", "2.0", "2.1", "2.2", "2.3", "2.4"]);
    }
}
