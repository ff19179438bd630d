//! Which parameters have a learning rate or a weight decay of their own.

use regex::Regex;

use crate::OptimizerError;

/// Rules for learning rates and weight decays, by module path.
///
/// A parameter takes what the first group that matches it gives. What that group leaves open, or
/// all if none matches, is as follows. The learning rate is the loop's, times the LoRA+ ratio
/// where that applies. The weight decay is the method's, and 0 for parameters of one dimension:
/// norms and biases, which transformers' `Trainer` finds by the names of their layers.
#[derive(Debug, Clone, Default)]
pub struct ParamGroups {
    /// The groups; the first that matches a parameter counts.
    pub groups: Vec<ParamGroup>,
    /// A learning rate of their own for the B matrices of adapters.
    pub loraplus: Option<LoraPlus>,
}

/// Parameters that are trained differently.
#[derive(Debug, Clone)]
pub struct ParamGroup {
    /// The parameters: a pattern of their whole module path.
    pub pattern: PathPattern,
    /// Their learning rate over the loop's; `None` leaves it as it is.
    pub lr_factor: Option<f64>,
    /// Their weight decay, whatever their dimensions; `None` leaves it as it is.
    pub weight_decay: Option<f64>,
}

/// LoRA+: η_B = ratio · η_A.
///
/// Hayou et al. 2024 (arXiv:2402.12354), eq. 8 and §4. As PEFT's `create_loraplus_optimizer`, which
/// gives the higher rate to trainable parameters of one dimension too. Departure: the weight decay
/// stays the method's, where PEFT's has a default of its own, 0.
#[derive(Debug, Clone)]
pub struct LoraPlus {
    /// The paths of the B matrices.
    pub b_paths: PathPattern,
    /// η_B / η_A.
    pub ratio: f64,
}

/// A regular expression that matches a whole module path, such as `model.layers.0.norm.gamma`.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: String,
    regex: Regex,
}

impl PathPattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// [`OptimizerError::Pattern`] if it is no regular expression.
    pub fn new(text: &str) -> Result<Self, OptimizerError> {
        let error = |cause: regex::Error| OptimizerError::Pattern {
            pattern: text.to_owned(),
            cause: cause.to_string(),
        };
        // Alone first: `a)(b` would be valid in parentheses.
        Regex::new(text).map_err(error)?;
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(error)?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// The pattern as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of `path`.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }
}

/// What the groups say of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// Its learning rate over the loop's.
    pub lr_factor: f64,
    /// Its weight decay; `None` is the method's.
    pub weight_decay: Option<f64>,
}

impl ParamGroups {
    pub(super) fn choose(&self, path: &str, shape: &[usize]) -> Choice {
        let group = self.groups.iter().find(|group| group.pattern.matches(path));
        let is_vector = shape.len() <= 1;
        let loraplus = self.loraplus.as_ref();
        let by_default = loraplus
            .filter(|it| is_vector || it.b_paths.matches(path))
            .map_or(1.0, |loraplus| loraplus.ratio);
        Choice {
            lr_factor: group.and_then(|group| group.lr_factor).unwrap_or(by_default),
            weight_decay: group
                .and_then(|group| group.weight_decay)
                .or_else(|| is_vector.then_some(0.0)),
        }
    }

    /// Fails on a group that is no path's first match.
    pub(super) fn check(&self, paths: &[String]) -> Result<(), OptimizerError> {
        const SHOWN: usize = 8;
        let first = |path: &String| self.groups.iter().position(|it| it.pattern.matches(path));
        let used: Vec<_> = paths.iter().filter_map(first).collect();
        let Some(index) = (0..self.groups.len()).find(|index| !used.contains(index)) else {
            return Ok(());
        };
        let pattern = &self.groups[index].pattern;
        let taken = paths.iter().any(|path| pattern.matches(path));
        Err(OptimizerError::UnmatchedGroup {
            index,
            pattern: pattern.text().to_owned(),
            reason: if taken {
                "no parameter that an earlier group leaves"
            } else {
                "no parameter"
            },
            parameters: paths.iter().take(SHOWN).cloned().collect(),
            total: paths.len(),
        })
    }
}
