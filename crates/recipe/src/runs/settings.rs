//! A run's resolved recipe as a flat list of keys, whatever version wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

/// Values by dotted key, as TOML writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// Reads a resolved recipe; keys that this version does not know are kept.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("`{}` is no TOML: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let table: toml::Table = toml::from_str(text)?;
        let mut settings = Self::default();
        settings.add("", &table);
        Ok(settings)
    }

    fn add(&mut self, prefix: &str, table: &toml::Table) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) if !inner.is_empty() => {
                    self.add(&format!("{key}."), inner);
                }
                other => {
                    self.0.insert(key, other.to_string());
                }
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// The keys whose values are not the same in all of `settings`, with the value of each.
pub fn differing<'s>(settings: &[&'s Settings]) -> Vec<(&'s str, Vec<Option<&'s str>>)> {
    let keys: BTreeSet<&str> =
        settings.iter().flat_map(|it| it.0.keys().map(String::as_str)).collect();
    let rows = keys.into_iter().map(|key| (key, settings.iter().map(|it| it.get(key)).collect()));
    rows.filter(|(_, values): &(_, Vec<_>)| values.windows(2).any(|two| two[0] != two[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_flat_and_unknown_ones_are_kept() {
        let text =
            "seed = 7\n[train]\nlearning_rate = 1e-2\n[train.schedule.cosine]\n[moon]\nx = \"a\"";
        let settings = Settings::parse(text).unwrap();
        let rows: Vec<_> = settings.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let wanted = ["moon.x=\"a\"", "seed=7", "train.learning_rate=0.01"];
        assert_eq!(rows[..3], wanted);
        assert_eq!(settings.get("train.schedule.cosine"), Some("{}"));
    }

    #[test]
    fn only_what_differs_is_listed() {
        let a = Settings::parse("a = 1\nb = 2\n[c.x]\nr = 1").unwrap();
        let b = Settings::parse("a = 1\nb = 3\n").unwrap();
        assert_eq!(
            differing(&[&a, &b]),
            [("b", vec![Some("2"), Some("3")]), ("c.x.r", vec![Some("1"), None])]
        );
        assert_eq!(differing(&[&a]), []);
    }
}
