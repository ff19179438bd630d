//! Which linear maps of a model get an adapter.

use std::collections::BTreeSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::PeftError;

/// PEFT's word for every linear map except the output head.
const ALL_LINEAR: &str = "all-linear";

/// PEFT's `target_modules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// `"all-linear"`, or a regular expression that must match a module's whole name.
    Pattern(String),
    /// Names; a module is meant when its name is one of them or ends in `.` and one of them.
    Suffixes(Vec<String>),
}

impl Default for Targets {
    /// Every linear map except the output head, as QLoRA recommends (Dettmers et al. 2023,
    /// arXiv:2305.14314, §4).
    fn default() -> Self {
        Self::Pattern(ALL_LINEAR.to_owned())
    }
}

impl Targets {
    /// The names among `modules` that are meant, in the order of `modules`.
    ///
    /// # Errors
    /// [`PeftError::UnknownTarget`] if a suffix or the pattern matches nothing, and
    /// [`PeftError::BadPattern`] if the pattern is no regular expression.
    pub fn select<'a>(&self, modules: &[&'a str]) -> Result<Vec<&'a str>, PeftError> {
        let chosen: Vec<&str> = match self {
            Self::Pattern(pattern) if pattern == ALL_LINEAR => {
                modules.iter().copied().filter(|name| last_part(name) != "lm_head").collect()
            }
            Self::Pattern(pattern) => {
                let regex = whole_match(pattern)?;
                modules.iter().copied().filter(|name| regex.is_match(name)).collect()
            }
            Self::Suffixes(suffixes) => {
                for suffix in suffixes {
                    if !modules.iter().any(|name| is_meant(name, suffix)) {
                        return Err(unknown(suffix, modules));
                    }
                }
                let meant = |name: &&str| suffixes.iter().any(|suffix| is_meant(name, suffix));
                modules.iter().copied().filter(meant).collect()
            }
        };
        if chosen.is_empty() {
            return Err(unknown(&self.to_string(), modules));
        }
        Ok(chosen)
    }
}

impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pattern(pattern) => f.write_str(pattern),
            Self::Suffixes(suffixes) => f.write_str(&suffixes.join(", ")),
        }
    }
}

fn whole_match(pattern: &str) -> Result<Regex, PeftError> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| PeftError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    })
}

fn is_meant(name: &str, suffix: &str) -> bool {
    name == suffix || name.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'))
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn unknown(target: &str, modules: &[&str]) -> PeftError {
    let parts: BTreeSet<&str> = modules.iter().map(|name| last_part(name)).collect();
    let available = parts.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ");
    PeftError::UnknownTarget { target: target.to_owned(), available }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: [&str; 4] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
        "lm_head",
    ];

    fn select(targets: Targets) -> Result<Vec<&'static str>, PeftError> {
        targets.select(&MODULES)
    }

    #[test]
    fn all_linear_leaves_the_head_alone() {
        assert_eq!(select(Targets::default()).unwrap(), MODULES[..3]);
    }

    #[test]
    fn a_suffix_matches_whole_name_parts() {
        let of = |name: &str| select(Targets::Suffixes(vec![name.into()]));
        assert_eq!(of("q_proj").unwrap(), [MODULES[0], MODULES[2]]);
        assert_eq!(of("self_attn.q_proj").unwrap(), [MODULES[0], MODULES[2]]);
        assert!(of("proj").is_err());
    }

    #[test]
    fn a_pattern_must_match_the_whole_name() {
        let of = |pattern: &str| select(Targets::Pattern(pattern.into()));
        assert_eq!(of(r".*\.0\..*_proj").unwrap(), MODULES[..2]);
        assert!(of("q_proj").is_err());
        assert!(matches!(of("("), Err(PeftError::BadPattern { .. })));
    }

    #[test]
    fn an_unknown_target_is_answered_with_the_models_names() {
        let error = select(Targets::Suffixes(vec!["query".into()])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no linear layer matches target `query`; the model has `lm_head`, `q_proj`, `up_proj`; \
             use `all-linear` or names from that list"
        );
    }

    #[test]
    fn a_catastrophic_pattern_is_harmless() {
        let targets = Targets::Pattern("(a+)+$".into());
        let long = "a".repeat(50_000) + "b";
        assert!(targets.select(&[long.as_str()]).is_err());
    }
}
