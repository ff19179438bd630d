//! Text that must not stand in code, and where.

use super::Finding;
use super::mask::{is_word, line_at};

/// Where a pattern is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The library crates, outside of tests: they do what they are told with what they are given.
    Libraries,
    /// All code of ours, outside of tests.
    Product,
    /// Everywhere, tests included.
    Everywhere,
}

struct Rule {
    pattern: &'static str,
    scope: Scope,
    advice: &'static str,
}

const ENVIRONMENT: &str = "libraries read no environment; take the value as an argument";
const PRINTING: &str = "libraries print nothing; return the value or tell an observer";

const RULES: &[Rule] = &[
    Rule { pattern: "env::var(", scope: Scope::Libraries, advice: ENVIRONMENT },
    Rule { pattern: "env::var_os(", scope: Scope::Libraries, advice: ENVIRONMENT },
    Rule { pattern: "env::vars(", scope: Scope::Libraries, advice: ENVIRONMENT },
    Rule { pattern: "env::vars_os(", scope: Scope::Libraries, advice: ENVIRONMENT },
    Rule { pattern: "print!(", scope: Scope::Libraries, advice: PRINTING },
    Rule { pattern: "println!(", scope: Scope::Libraries, advice: PRINTING },
    Rule { pattern: "eprint!(", scope: Scope::Libraries, advice: PRINTING },
    Rule { pattern: "eprintln!(", scope: Scope::Libraries, advice: PRINTING },
    Rule {
        pattern: "Device::default()",
        scope: Scope::Libraries,
        advice: "libraries choose no device; take `&Device` as an argument",
    },
    Rule { pattern: "static mut ", scope: Scope::Product, advice: "there is no mutable global" },
    Rule {
        pattern: ".unwrap()",
        scope: Scope::Product,
        advice: "return an error, or `expect` why the value is there",
    },
    Rule { pattern: "dbg!(", scope: Scope::Product, advice: "remove it" },
    Rule { pattern: "todo!(", scope: Scope::Product, advice: "write it, or leave it out" },
    Rule { pattern: "unimplemented!(", scope: Scope::Product, advice: "write it, or leave it out" },
    Rule {
        pattern: "[allow(",
        scope: Scope::Everywhere,
        advice: "use `expect` with a reason, or mend what the lint found",
    },
    Rule {
        pattern: "[ignore",
        scope: Scope::Everywhere,
        advice: "put a slow test into a target of its own",
    },
];

/// `code` is masked, `product` also lacks tests.
pub fn check(path: &str, code: &str, product: &str) -> Vec<Finding> {
    let library = is_library(path);
    let mut findings = Vec::new();
    for rule in RULES {
        let text = match rule.scope {
            Scope::Libraries if !library => continue,
            Scope::Libraries | Scope::Product => product,
            Scope::Everywhere => code,
        };
        for at in occurrences(text, rule.pattern) {
            let message = format!("found `{}`; {}", rule.pattern.trim(), rule.advice);
            findings.push(Finding::new(path, line_at(text, at), message));
        }
    }
    findings
}

/// Sources of the crates that are linked into other programs; the test kit is none of them.
fn is_library(path: &str) -> bool {
    let crate_path = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/'));
    crate_path
        .is_some_and(|(name, rest)| !["cli", "testkit"].contains(&name) && rest.starts_with("src/"))
}

/// Offsets of a pattern that is not the tail of a longer name.
fn occurrences(text: &str, pattern: &str) -> Vec<usize> {
    let starts_word = is_word(pattern.as_bytes()[0]);
    let alone = |at: usize| at == 0 || !starts_word || !is_word(text.as_bytes()[at - 1]);
    text.match_indices(pattern).map(|(at, _)| at).filter(|&at| alone(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, code: &str, product: &str) -> Vec<usize> {
        check(path, code, product).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn libraries_neither_print_nor_read_the_environment_and_binaries_may() {
        let code = "a\nprintln!(x)\nstd::env::var(y)\nburn::Device::default()";
        assert_eq!(lines("crates/train/src/fit.rs", code, code), [3, 2, 4]);
        assert!(lines("crates/cli/src/main.rs", code, code).is_empty());
    }

    #[test]
    fn a_longer_macro_name_is_reported_once() {
        assert_eq!(lines("crates/train/src/fit.rs", "", "eprintln!(x)").len(), 1);
        assert!(lines("crates/train/src/fit.rs", "", "my_println!(x)").is_empty());
    }

    #[test]
    fn attributes_are_refused_in_tests_too() {
        assert_eq!(lines("crates/data/tests/read.rs", "#![allow(dead_code)]", ""), [1]);
        assert_eq!(lines("crates/data/tests/read.rs", "#[ignore = \" \"]", ""), [1]);
        assert!(lines("crates/data/tests/read.rs", "x.unwrap()", "").is_empty());
        assert_eq!(lines("xtask/src/main.rs", "", "x.unwrap()"), [1]);
    }
}
