//! Two logs side by side: facts, then every number of every update.

use serde::Serialize;

use super::Weights;
use crate::history::{EvalPoint, History, StepPoint};

/// How a run and its reproduction compare.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Inputs and surroundings; those that differ explain differences and are none themselves.
    pub facts: Vec<Fact>,
    /// Numbers of updates and evaluations, those of the loop first.
    pub quantities: Vec<Quantity>,
    /// The trained weights, file by file.
    pub weights: Vec<Weights>,
    /// Relative difference up to which numbers count as reproduced.
    pub tolerance: f64,
    /// Whether every number and every weight has the same bits.
    pub bit_equal: bool,
    /// Whether no number and no weight differs by more than the tolerance.
    pub reproduced: bool,
    /// What differs first by more than the tolerance, in words.
    pub first_difference: Option<String>,
}

/// One thing that is known of both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is, such as `device`.
    pub name: &'static str,
    /// What the first run kept, if it did.
    pub original: Option<String>,
    /// What its reproduction has.
    pub reproduced: Option<String>,
}

/// One number of every update, or of every evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// What it is, such as `loss`.
    pub name: &'static str,
    /// Steps at which both runs have it.
    pub compared: usize,
    /// Steps at which one of them has it alone.
    pub missing: usize,
    /// The step whose bits differ first.
    pub first_step: Option<u64>,
    /// The step that differs first by more than the tolerance.
    pub beyond_step: Option<u64>,
    /// Largest absolute difference; not finite where only one of two is a number.
    pub largest: f64,
    /// Largest difference relative to the larger of the two.
    pub largest_relative: f64,
}

impl Fact {
    /// Whether both runs have the same; unknown if one did not keep it.
    pub fn same(&self) -> Option<bool> {
        Some(self.original.as_ref()? == self.reproduced.as_ref()?)
    }
}

impl Comparison {
    pub(super) fn of(a: &History, b: &History, weights: Vec<Weights>, tolerance: f64) -> Self {
        let quantities = quantities(a, b, tolerance);
        let equal = |it: &Quantity| it.first_step.is_none() && it.missing == 0;
        let first_difference = first(&quantities, &weights);
        Self {
            facts: facts(a, b),
            bit_equal: quantities.iter().all(equal) && weights.iter().all(|it| it.bit_equal),
            reproduced: first_difference.is_none(),
            first_difference,
            quantities,
            weights,
            tolerance,
        }
    }
}

/// Whether both ran on the same kind of device with as many threads.
pub(super) fn same_machine(a: &History, b: &History) -> bool {
    let device = |history: &History| history.started.as_ref().map(|it| it.device.clone());
    let threads = |history: &History| history.environment.as_ref().and_then(|it| it.threads);
    device(a) == device(b) && threads(a) == threads(b)
}

fn facts(a: &History, b: &History) -> Vec<Fact> {
    let fact = |name, of: &dyn Fn(&History) -> Option<String>| Fact {
        name,
        original: of(a),
        reproduced: of(b),
    };
    let environment = |history: &History| history.environment.clone();
    vec![
        fact("data", &|it| it.data.as_ref()?.blake3.clone()),
        fact("model", &|it| environment(it)?.model_blake3),
        fact("model, whole", &|it| environment(it)?.model_full_blake3),
        fact("program", &|it| environment(it)?.program_blake3),
        fact("version", &|it| environment(it).map(|it| it.version)),
        fact("backends", &|it| environment(it).map(|it| it.features.join(", "))),
        fact("system", &|it| environment(it).map(|it| format!("{}-{}", it.arch, it.os))),
        fact("processor", &|it| environment(it)?.cpu),
        fact("threads", &|it| environment(it)?.threads.map(|it| it.to_string())),
        fact("device", &|it| it.started.as_ref().map(|it| it.device.clone())),
    ]
}

/// One number of a point.
type Number<P> = fn(&P) -> f64;

fn quantities(a: &History, b: &History, tolerance: f64) -> Vec<Quantity> {
    let steps: [(_, Number<StepPoint>); 4] = [
        ("loss", |it| it.loss),
        ("gradient norm", |it| it.grad_norm),
        ("learning rate", |it| it.learning_rate),
        ("tokens", |it| it.tokens as f64),
    ];
    let evals: [(_, Number<EvalPoint>); 2] = [
        ("evaluation loss", |it| it.loss),
        ("exact match", |it| it.exact_match.unwrap_or(f64::NAN)),
    ];
    let of_steps = steps.map(|(name, of)| {
        let curve = |history: &History| history.curve(of);
        // Tokens are counted, not computed.
        let tolerance = if name == "tokens" { 0.0 } else { tolerance };
        Quantity::of(name, &curve(a), &curve(b), tolerance)
    });
    let of_evals = evals.map(|(name, of)| {
        let curve = |history: &History| -> Vec<_> {
            history.evals.iter().map(|it| (it.step, of(it))).collect()
        };
        Quantity::of(name, &curve(a), &curve(b), tolerance)
    });
    of_steps.into_iter().chain(of_evals).filter(|it| it.compared + it.missing > 0).collect()
}

impl Quantity {
    /// Both curves are in order of their steps.
    fn of(name: &'static str, a: &[(u64, f64)], b: &[(u64, f64)], tolerance: f64) -> Self {
        let mut found = Self {
            name,
            compared: 0,
            missing: 0,
            first_step: None,
            beyond_step: None,
            largest: 0.0,
            largest_relative: 0.0,
        };
        for ((step_a, value_a), (step_b, value_b)) in a.iter().zip(b) {
            if step_a != step_b {
                // From here on the two do not run alongside each other.
                found.missing = a.len().max(b.len()) - found.compared;
                found.beyond(*step_a.min(step_b));
                return found;
            }
            found.compared += 1;
            found.compare(*step_a, *value_a, *value_b, tolerance);
        }
        found.missing = a.len().abs_diff(b.len());
        if let Some((step, _)) = a.get(found.compared).or(b.get(found.compared)) {
            found.beyond(*step);
        }
        found
    }

    fn compare(&mut self, step: u64, a: f64, b: f64, tolerance: f64) {
        if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
            return;
        }
        self.first_step.get_or_insert(step);
        let difference = match (a - b).abs() {
            it if it.is_nan() => f64::INFINITY,
            it => it,
        };
        let relative = match difference / a.abs().max(b.abs()) {
            // Zeros of two signs.
            it if it.is_nan() && difference == 0.0 => 0.0,
            it if it.is_nan() => f64::INFINITY,
            it => it,
        };
        self.largest = self.largest.max(difference);
        self.largest_relative = self.largest_relative.max(relative);
        // With a tolerance of 0 the bits have to be the same.
        if relative > tolerance || tolerance == 0.0 {
            self.beyond(step);
        }
    }

    fn beyond(&mut self, step: u64) {
        self.beyond_step.get_or_insert(step);
    }
}

/// The earliest step that is beyond the tolerance in any number, or else the weights.
fn first(quantities: &[Quantity], weights: &[Weights]) -> Option<String> {
    let beyond = quantities.iter().filter_map(|it| Some((it.beyond_step?, it)));
    // Of those of one step the first in order: the loss comes before its gradient.
    if let Some((step, quantity)) = beyond.min_by_key(|(step, _)| *step) {
        let name = quantity.name;
        return Some(match quantity.first_step {
            Some(_) => {
                format!("{name} at step {step}; largest difference {:.3e}", quantity.largest)
            }
            None => format!("{name}: one of the runs has no step {step}"),
        });
    }
    let weights = weights.iter().find(|it| !it.within)?;
    Some(match &weights.tensor {
        Some(tensor) => format!("`{tensor}` in `{}`: {}", weights.file, weights.words()),
        None => format!("`{}`: {}", weights.file, weights.words()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_differs_is_named() {
        let a = [(1, 2.0), (2, 1.0), (3, f64::NAN)];
        let same = Quantity::of("loss", &a, &a, 0.0);
        assert_eq!((same.compared, same.first_step, same.beyond_step), (3, None, None));
        let b = [(1, 2.0), (2, 1.0001), (3, f64::NAN)];
        let found = Quantity::of("loss", &a, &b, 1e-3);
        assert_eq!((found.first_step, found.beyond_step), (Some(2), None));
        assert!((found.largest_relative - 1e-4).abs() < 1e-6);
        assert_eq!(Quantity::of("loss", &a, &b, 1e-5).beyond_step, Some(2));
    }

    #[test]
    fn a_step_that_one_run_lacks_and_a_number_that_is_none_are_beyond_every_tolerance() {
        let a = [(1, 2.0), (2, 1.0)];
        let shorter = Quantity::of("loss", &a, &a[..1], 1.0);
        assert_eq!((shorter.missing, shorter.beyond_step), (1, Some(2)));
        let other = Quantity::of("loss", &a, &[(1, 2.0), (3, 1.0)], 1.0);
        assert_eq!((other.missing, other.beyond_step), (1, Some(2)));
        let none = Quantity::of("loss", &a, &[(1, 2.0), (2, f64::NAN)], 1.0);
        assert_eq!((none.largest, none.beyond_step), (f64::INFINITY, Some(2)));
    }

    #[test]
    fn zeros_of_two_signs_are_not_bit_equal_and_differ_by_nothing() {
        let found = Quantity::of("loss", &[(1, 0.0)], &[(1, -0.0)], 0.0);
        assert_eq!((found.first_step, found.beyond_step, found.largest), (Some(1), Some(1), 0.0));
        assert_eq!(Quantity::of("loss", &[(1, 0.0)], &[(1, -0.0)], 1e-9).beyond_step, None);
    }
}
