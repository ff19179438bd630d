//! `cargo xtask tidy`: the house rules that neither rustc nor clippy checks.
//!
//! Each rule is a function from text or metadata to findings; this module feeds them the checkout.

pub mod arrows;
mod mask;
mod papers;
mod patterns;
mod shape;
mod unsafety;
mod words;

use anyhow::{Result, bail};
use std::fmt;

use crate::provenance;
use crate::workspace::Workspace;

/// The table of formulas, with the files and tests that hold them.
const PAPERS: &str = "docs/papers.md";

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    /// Line from 1; 0 where the whole file or package is meant.
    pub line: usize,
    pub message: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

pub fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let mut findings = arrows::check(&workspace.packages()?);
    findings.extend(provenance::check(workspace, &files)?);
    let mut sources = Vec::new();
    for path in &files {
        if !words::is_text(path) {
            continue;
        }
        let Some(text) = workspace.read(path)? else {
            findings.push(Finding::new(path, 0, "the file is no UTF-8 text"));
            continue;
        };
        findings.extend(words::check(path, &text));
        if path.ends_with(".rs") {
            findings.extend(source(path, &text));
            sources.push(text);
        }
    }
    if files.iter().any(|path| path == PAPERS)
        && let Some(table) = workspace.read(PAPERS)?
    {
        findings.extend(papers::check(PAPERS, &table, &files, &sources));
    }
    report(findings, files.len())
}

/// The rules for one Rust file.
fn source(path: &str, text: &str) -> Vec<Finding> {
    let code = mask::code(text);
    let product = if is_test(path) { String::new() } else { mask::without_tests(&code) };
    let mut findings = shape::check(path, text, &product);
    findings.extend(patterns::check(path, &code, &product));
    findings.extend(unsafety::check(path, text, &code));
    findings
}

/// True for a file that holds tests alone.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests")
}

fn report(mut findings: Vec<Finding>, n_files: usize) -> Result<()> {
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} house rules are broken", findings.len());
    }
    println!("tidy: {n_files} files, no rule broken");
    Ok(())
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn a_finding_prints_as_an_editor_can_follow_it() {
        assert_eq!(Finding::new("a.rs", 7, "no").to_string(), "a.rs:7: no");
        assert_eq!(Finding::new("a.rs", 0, "no").to_string(), "a.rs: no");
    }

    #[test]
    fn test_code_in_a_file_is_exempt_where_product_code_is_not() {
        let call = ".unwrap()";
        let text =
            format!("fn f() {{ x{call}; }}\n#[cfg(test)]\nmod t {{ fn g() {{ x{call}; }} }}\n");
        let found = source("crates/data/src/read.rs", &text);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1]);
        assert!(source("crates/data/tests/read.rs", &text).is_empty());
    }
}
