//! `cargo xtask tidy`: the house rules that neither rustc nor clippy checks.
//!
//! Each rule is a function from text or metadata to findings; this module feeds them the checkout.

pub mod arrows;
mod gated;
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
    for path in files.iter().filter(|path| words::is_text(path)) {
        let Some(text) = workspace.read(path)? else {
            findings.push(Finding::new(path, 0, "the file is no UTF-8 text"));
            continue;
        };
        findings.extend(words::check(path, &text));
        if path.ends_with(".rs") {
            sources.push(Source { path: path.clone(), code: mask::code(&text), text });
        }
    }
    let gated: Vec<String> =
        sources.iter().flat_map(|source| gated::files(&source.path, &source.code)).collect();
    for source in &sources {
        findings.extend(source.check(is_test(&source.path) || gated.contains(&source.path)));
    }
    if files.iter().any(|path| path == PAPERS)
        && let Some(table) = workspace.read(PAPERS)?
    {
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        findings.extend(papers::check(PAPERS, &table, &files, &texts));
    }
    report(findings, files.len())
}

/// One Rust file.
struct Source {
    path: String,
    text: String,
    /// The text without comments and literals.
    code: String,
}

impl Source {
    fn check(&self, is_test: bool) -> Vec<Finding> {
        let product = if is_test { String::new() } else { mask::without_tests(&self.code) };
        let mut findings = shape::check(&self.path, &self.text, &product);
        findings.extend(patterns::check(&self.path, &self.code, &product));
        findings.extend(unsafety::check(&self.path, &self.text, &self.code));
        findings
    }
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
        let source = Source {
            path: "crates/data/src/read.rs".to_owned(),
            code: mask::code(&text),
            text: text.clone(),
        };
        let lines: Vec<usize> = source.check(false).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1]);
        assert!(source.check(true).is_empty());
    }
}
