//! Arguments of a task: `--name value` pairs and the bare switch `--check`.

use anyhow::{Context, Result, bail};

/// The options of one invocation, in the order they were typed; a name may repeat.
#[derive(Debug, Default)]
pub struct Options {
    pairs: Vec<(String, String)>,
}

/// Options that take no value.
const SWITCHES: &[&str] = &["check"];

impl Options {
    /// Reads `--name value`, `--name=value` and switches.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut args = args.into_iter();
        let mut pairs = Vec::new();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                bail!("found `{arg}` where an option such as `--only` was expected");
            };
            if let Some((name, value)) = name.split_once('=') {
                pairs.push((name.to_owned(), value.to_owned()));
            } else if SWITCHES.contains(&name) {
                pairs.push((name.to_owned(), String::new()));
            } else {
                let value = args.next().with_context(|| format!("`--{name}` needs a value"))?;
                pairs.push((name.to_owned(), value));
            }
        }
        Ok(Self { pairs })
    }

    /// Refuses every option that the task does not know.
    pub fn expect_only(&self, known: &[&str]) -> Result<()> {
        match self.pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => bail!("this task has no option `--{name}`"),
            None => Ok(()),
        }
    }

    /// The last value given for `name`.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last().copied()
    }

    /// Every value given for `name`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn values_follow_a_space_or_an_equals_sign() {
        let options = parse(&["--skip", "deny", "--skip=docs", "--check"]).unwrap();
        assert_eq!(options.all("skip"), ["deny", "docs"]);
        assert_eq!(options.last("skip"), Some("docs"));
        assert_eq!(options.all("check").len(), 1);
    }

    #[test]
    fn a_missing_value_and_an_unknown_option_are_refused() {
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["deny"]).is_err());
        let options = parse(&["--only", "fmt"]).unwrap();
        assert!(options.expect_only(&["skip"]).is_err());
        assert!(options.expect_only(&["only"]).is_ok());
    }
}
