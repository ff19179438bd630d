//! `cargo deny`: licences, bans and sources always; advisories where their database can be had.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command;
use crate::environment;
use crate::workspace::Workspace;

const VERSION: &str = "0.20.2";

/// Seconds the advisory database gets to arrive before the check is skipped.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

pub fn run(workspace: &Workspace) -> Result<()> {
    let tool = find_or_install(workspace)?;
    let always = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    command::check(deny(workspace, &tool).args(always))?;
    if !command::succeeds_within(deny(workspace, &tool).args(["fetch", "db"]), FETCH_LIMIT) {
        println!("deny: the advisory database cannot be reached; advisories are not checked");
        return Ok(());
    }
    command::check(deny(workspace, &tool).args(["check", "--disable-fetch", "advisories"]))
}

fn deny(workspace: &Workspace, tool: &Path) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(workspace.root());
    command
}

/// The program on the path, the one an earlier run installed, or a new one.
fn find_or_install(workspace: &Workspace) -> Result<PathBuf> {
    let tools = environment::cache_dir().join("tools");
    let installed = tools.join("bin").join("cargo-deny");
    for candidate in [PathBuf::from("cargo-deny"), installed.clone()] {
        if command::succeeds(Command::new(&candidate).arg("--version")) {
            return Ok(candidate);
        }
    }
    println!("deny: installing cargo-deny {VERSION}; once, some minutes on two cores");
    let mut install = command::cargo(workspace, ["install", "cargo-deny", "--locked"]);
    install.args(["--version", VERSION, "--root"]).arg(&tools);
    // Its own target folder: the workspace's would be locked, and filled with its dependencies.
    install.env("CARGO_TARGET_DIR", tools.join("target"));
    command::check(&mut install)?;
    let built = tools.join("target");
    std::fs::remove_dir_all(&built).context("removing what building cargo-deny left behind")?;
    Ok(installed)
}
