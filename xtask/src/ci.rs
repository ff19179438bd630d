//! `cargo xtask ci`: every check a change must pass, cheapest first, stopping at the first failure.
//!
//! All stages use the release profile, so Burn is compiled once for all of them and once, without
//! code generation, for clippy and rustdoc.

use anyhow::{Result, bail};
use std::time::Instant;

use crate::command;
use crate::options::Options;
use crate::real::has_nextest;
use crate::workspace::Workspace;
use crate::{deny, features, tidy};

/// A named check.
struct Stage {
    name: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const STAGES: &[Stage] = &[
    Stage { name: "fmt", run: fmt },
    Stage { name: "tidy", run: tidy::run },
    Stage { name: "clippy", run: clippy },
    Stage { name: "tests", run: tests },
    Stage { name: "doctests", run: doctests },
    Stage { name: "docs", run: docs },
    Stage { name: "features", run: features::run },
    Stage { name: "deny", run: deny::run },
];

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let stages = selected(&options.all("only"), &options.all("skip"))?;
    let start = Instant::now();
    let mut summary = Vec::new();
    for stage in stages {
        println!("== {}", stage.name);
        let stage_start = Instant::now();
        let result = (stage.run)(workspace);
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        let seconds = stage_start.elapsed().as_secs_f64();
        summary.push(format!("ci: {:<9} {verdict:<6} {seconds:>7.1} s", stage.name));
        println!("{}", summary[summary.len() - 1]);
        if let Err(error) = result {
            println!("\n{}", summary.join("\n"));
            bail!("stage `{}` failed: {error:#}", stage.name);
        }
    }
    println!("\n{}", summary.join("\n"));
    println!("ci: all      ok     {:>7.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The stages to run, in their own order; an unknown name is an error, not an empty run.
fn selected(only: &[&str], skip: &[&str]) -> Result<Vec<&'static Stage>> {
    let names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
    if let Some(unknown) = only.iter().chain(skip).find(|name| !names.contains(name)) {
        bail!("`{unknown}` is no stage; there are {}", names.join(", "));
    }
    let wanted = |stage: &&Stage| {
        (only.is_empty() || only.contains(&stage.name)) && !skip.contains(&stage.name)
    };
    Ok(STAGES.iter().filter(wanted).collect())
}

fn fmt(workspace: &Workspace) -> Result<()> {
    command::check(&mut command::cargo(workspace, ["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let args = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    command::check(&mut command::cargo(workspace, args))
}

fn tests(workspace: &Workspace) -> Result<()> {
    if has_nextest(workspace) {
        let args = ["nextest", "run", "--release", "--workspace"];
        return command::check(&mut command::cargo(workspace, args));
    }
    println!("tests: cargo-nextest is not installed; using `cargo test`");
    // Without `--lib` and its like the documentation tests would run here and again in their stage.
    let args = ["test", "--release", "--workspace", "--lib", "--bins", "--tests"];
    command::check(&mut command::cargo(workspace, args))
}

fn doctests(workspace: &Workspace) -> Result<()> {
    let args = ["test", "--release", "--workspace", "--doc"];
    command::check(&mut command::cargo(workspace, args))
}

fn docs(workspace: &Workspace) -> Result<()> {
    let args = ["doc", "--release", "--workspace", "--no-deps"];
    command::check(command::cargo(workspace, args).env("RUSTDOCFLAGS", "-D warnings"))
}

#[cfg(test)]
mod checks {
    use super::*;

    fn names(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        selected(only, skip).unwrap().iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn stages_keep_their_order_whatever_was_typed() {
        assert_eq!(names(&["deny", "fmt"], &[]), ["fmt", "deny"]);
        assert_eq!(names(&["deny", "fmt"], &["deny"]), ["fmt"]);
        assert_eq!(names(&[], &[]).len(), STAGES.len());
    }

    #[test]
    fn an_unknown_stage_is_an_error() {
        assert!(selected(&["format"], &[]).is_err());
        assert!(selected(&[], &["lint"]).is_err());
    }
}
