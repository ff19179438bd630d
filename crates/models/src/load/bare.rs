//! Sources seen in another way: names that get a prefix, and one tensor left out.

use burn::tensor::TensorData;

use super::WeightSource;
use crate::error::ModelError;

/// A source whose names get a prefix.
pub(crate) struct Prefixed<'a> {
    source: &'a dyn WeightSource,
    prefix: String,
}

/// `source` with `backbone` before its names, where none has it.
///
/// `lm_head` and other names of what lies outside the backbone do not count.
pub(crate) fn with_prefix<'a>(
    source: &'a dyn WeightSource,
    backbone: &str,
) -> Option<Prefixed<'a>> {
    let prefix = format!("{backbone}.");
    let names = source.names();
    if names.is_empty() || names.iter().any(|name| name.starts_with(&prefix)) {
        return None;
    }
    Some(Prefixed { source, prefix })
}

impl Prefixed<'_> {
    fn own<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(&self.prefix).unwrap_or(name)
    }
}

impl WeightSource for Prefixed<'_> {
    fn names(&self) -> Vec<String> {
        let outside = |name: &str| name.starts_with("lm_head.") || name.starts_with("score.");
        let renamed =
            |name: String| if outside(&name) { name } else { self.prefix.clone() + &name };
        self.source.names().into_iter().map(renamed).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(self.own(name))
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.source.read_f32(self.own(name))
    }

    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        self.source.read(self.own(name))
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

/// A source without one of its tensors.
pub(crate) struct Without<'a> {
    pub(crate) source: &'a dyn WeightSource,
    pub(crate) name: &'static str,
}

impl WeightSource for Without<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names().into_iter().filter(|name| name != self.name).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(name)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.source.read_f32(name)
    }

    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        self.source.read(name)
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}
