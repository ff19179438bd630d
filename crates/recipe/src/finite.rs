//! Whether a base model's weights are finite numbers, seen while they are read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::TensorData;
use rekindle_models::{ModelError, WeightSource};

/// Weights that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// The first tensor, by name, that holds any.
    pub tensor: String,
    /// How many tensors hold some.
    pub tensors: usize,
    /// How many there are in all.
    pub weights: u64,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, tensors, weights } = self;
        match (tensors, weights) {
            (1, 1) => write!(f, "1 weight of tensor `{tensor}` is NaN or infinite"),
            (1, _) => write!(f, "{weights} weights of tensor `{tensor}` are NaN or infinite"),
            _ => write!(
                f,
                "{weights} weights in {tensors} tensors are NaN or infinite, the first in `{tensor}`"
            ),
        }
    }
}

/// A source that counts what is not finite in the tensors that are read from it.
///
/// The values are on the host at that moment, so the count costs no second reading.
pub(crate) struct Watched<'a> {
    source: &'a dyn WeightSource,
    found: RefCell<BTreeMap<String, u64>>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(source: &'a dyn WeightSource) -> Self {
        Self { source, found: RefCell::default() }
    }

    fn note(&self, name: &str, values: impl Iterator<Item = f32>) {
        let bad = values.filter(|value| !value.is_finite()).count() as u64;
        if bad > 0 {
            self.found.borrow_mut().insert(name.to_owned(), bad);
        }
    }

    /// What was seen in the tensors that were read.
    pub(crate) fn found(self) -> Option<NonFinite> {
        let found = self.found.into_inner();
        let (tensors, weights) = (found.len(), found.values().sum());
        found.into_keys().next().map(|tensor| NonFinite { tensor, tensors, weights })
    }
}

impl WeightSource for Watched<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(name)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let values = self.source.read_f32(name)?;
        self.note(name, values.iter().copied());
        Ok(values)
    }

    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        let values = self.source.read(name)?;
        self.note(name, values.iter::<f32>());
        Ok(values)
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl WeightSource for Two {
        fn names(&self) -> Vec<String> {
            vec!["a".to_owned(), "b".to_owned()]
        }

        fn shape(&self, _: &str) -> Option<Vec<usize>> {
            Some(vec![3])
        }

        fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
            Ok(match name {
                "a" => vec![1.0, f32::NAN, f32::MAX],
                _ => vec![f32::INFINITY, 0.0, f32::NEG_INFINITY],
            })
        }

        fn describe(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn w11_weights_that_are_not_finite_are_counted_once_as_they_are_read() {
        let watched = Watched::new(&Two);
        for name in ["b", "a", "b"] {
            watched.read_f32(name).unwrap();
        }
        let found = watched.found().unwrap();
        assert_eq!(found, NonFinite { tensor: "a".to_owned(), tensors: 2, weights: 3 });
        assert_eq!(Watched::new(&Two).found(), None);
    }
}
