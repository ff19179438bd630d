//! Where a binary fixture comes from: `PROVENANCE.toml` beside it, digests included.
//!
//! ```toml
//! script = "make_adamw.py"
//! seed = 20250114
//!
//! [versions]
//! torch = "2.15.0"
//!
//! [sha256]
//! "adamw.safetensors" = "07266d9c…"
//! ```

use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::process::Command;

use crate::command;
use crate::tidy::Finding;
use crate::workspace::Workspace;

const FILE: &str = "PROVENANCE.toml";

/// Bytes at a file's start among which a zero makes it binary.
const PROBE: usize = 8192;

/// Digest by path, relative to the root.
type Digests = BTreeMap<String, String>;

/// `cargo xtask fixtures --check`.
pub fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let findings = check(workspace, &files)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} faults in the provenance of fixtures", findings.len());
    }
    println!("fixtures: every binary file has the digest its provenance states");
    Ok(())
}

/// Every statement under `fixtures/` against what lies there.
pub fn check(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let fixtures: Vec<String> =
        files.iter().filter(|file| file.starts_with("fixtures/")).cloned().collect();
    let mut findings = Vec::new();
    let mut stated = Digests::new();
    for path in fixtures.iter().filter(|path| path.ends_with(&format!("/{FILE}"))) {
        let text = workspace.read(path)?.unwrap_or_default();
        let statement = Statement::parse(&text);
        findings.extend(statement.check(path, &fixtures));
        let folder = path.trim_end_matches(FILE);
        stated.extend(
            statement.sha256.into_iter().map(|(name, sum)| (folder.to_owned() + &name, sum)),
        );
    }
    for path in &fixtures {
        if !stated.contains_key(path) && is_binary(workspace, path)? {
            let message = format!("binary file without a digest in `{FILE}`");
            findings.push(Finding::new(path, 0, message));
        }
    }
    let present: Vec<&String> = stated.keys().filter(|path| fixtures.contains(path)).collect();
    let actual = digests(workspace, &present)?;
    findings.extend(differences(&stated, &actual));
    Ok(findings)
}

/// The parts of a provenance file.
#[derive(Debug, Default)]
struct Statement {
    script: Option<String>,
    has_seed: bool,
    has_versions: bool,
    sha256: Digests,
}

impl Statement {
    /// Reads the small part of TOML that these files use: `key = value` lines and tables.
    fn parse(text: &str) -> Self {
        let mut statement = Self::default();
        let mut table = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = name.trim().to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                let key = key.trim().trim_matches('"');
                let value = value.trim().trim_matches('"').to_owned();
                match (table.as_str(), key) {
                    ("", "script") => statement.script = Some(value),
                    ("", "seed") => statement.has_seed = true,
                    ("versions", _) => statement.has_versions = true,
                    ("sha256", _) => drop(statement.sha256.insert(key.to_owned(), value)),
                    _ => {}
                }
            }
        }
        statement
    }

    fn check(&self, path: &str, fixtures: &[String]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut miss = |what: &str| findings.push(Finding::new(path, 0, what));
        match &self.script {
            None => miss("no `script`; name the file that makes the fixtures"),
            Some(script) => {
                let script = path.trim_end_matches(FILE).to_owned() + script;
                if !fixtures.contains(&script) {
                    miss(&format!("there is no script `{script}`"));
                }
            }
        }
        if !self.has_seed {
            miss("no `seed`; state it, or `seed = \"none\"` where nothing is drawn");
        }
        if !self.has_versions {
            miss("no `[versions]`; state the versions of the packages the script used");
        }
        if self.sha256.is_empty() {
            miss("no `[sha256]`; state the digest of every file");
        }
        findings
    }
}

fn differences(stated: &Digests, actual: &Digests) -> Vec<Finding> {
    let compare = |(path, sum): (&String, &String)| match actual.get(path) {
        None => Some(Finding::new(path, 0, format!("named in `{FILE}` but absent"))),
        Some(found) if found == sum => None,
        Some(found) => {
            let message =
                format!("sha256 is `{found}`, the provenance states `{sum}`; make it anew");
            Some(Finding::new(path, 0, message))
        }
    };
    stated.iter().filter_map(compare).collect()
}

fn is_binary(workspace: &Workspace, path: &str) -> Result<bool> {
    let endings = [".safetensors", ".gguf", ".bin", ".npz", ".npy", ".pt"];
    if endings.iter().any(|ending| path.ends_with(ending)) {
        return Ok(true);
    }
    let bytes = std::fs::read(workspace.root().join(path))?;
    Ok(bytes.iter().take(PROBE).any(|&byte| byte == 0))
}

/// What `sha256sum` says of the files.
fn digests(workspace: &Workspace, paths: &[&String]) -> Result<Digests> {
    if paths.is_empty() {
        return Ok(Digests::new());
    }
    let mut command = Command::new("sha256sum");
    let printed = command::output(command.arg("--").args(paths).current_dir(workspace.root()))?;
    Ok(printed.lines().filter_map(digest_line).collect())
}

/// `digest  path`, or `digest *path` where files are read as binary.
fn digest_line(line: &str) -> Option<(String, String)> {
    let (sum, path) = line.split_once(' ')?;
    Some((path.trim_start_matches([' ', '*']).to_owned(), sum.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "script = \"make.py\"\nseed = 1\n\n[versions]\ntorch = \"2\"\n\n[sha256]\n\
                        \"a.bin\" = \"00ff\"\n";

    fn faults(text: &str) -> usize {
        let files = ["fixtures/x/make.py".to_owned()];
        Statement::parse(text).check("fixtures/x/PROVENANCE.toml", &files).len()
    }

    #[test]
    fn every_part_of_a_statement_is_wanted() {
        assert_eq!(faults(GOOD), 0);
        assert_eq!(faults(&GOOD.replace("make.py", "other.py")), 1);
        assert_eq!(faults(&GOOD.replace("seed = 1", "")), 1);
        assert_eq!(faults(&GOOD.replace("torch = \"2\"", "")), 1);
        assert_eq!(faults(""), 4);
    }

    #[test]
    fn a_wrong_digest_and_an_absent_file_are_found() {
        let digests = |sum: &str| Digests::from([("fixtures/x/a.bin".to_owned(), sum.to_owned())]);
        assert!(differences(&digests("00ff"), &digests("00ff")).is_empty());
        assert_eq!(differences(&digests("00ff"), &digests("00fe")).len(), 1);
        assert_eq!(differences(&digests("00ff"), &Digests::new()).len(), 1);
    }

    #[test]
    fn both_forms_of_a_digest_line_are_read() {
        let expected = Some(("a b.bin".to_owned(), "00ff".to_owned()));
        assert_eq!(digest_line("00ff  a b.bin"), expected);
        assert_eq!(digest_line("00ff *a b.bin"), expected);
    }
}
