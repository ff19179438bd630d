//! Runs cut off at random instants: the test target `kill` of `rekindle-cli`, as often as is asked.
//!
//! The target reads one variable, `REKINDLE_KILLS`: how often runs are cut off.

use anyhow::{Context, Result};

use crate::command;
use crate::options::Options;
use crate::real::has_nextest;
use crate::workspace::Workspace;

/// Often enough that every operation of a save has been hit.
const TIMES: &str = "200";

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let times = options.last("times").unwrap_or(TIMES);
    times.parse::<usize>().with_context(|| format!("`--times {times}` is no number"))?;
    let mut tests = if has_nextest(workspace) {
        let mut command = command::cargo(workspace, ["nextest", "run", "--no-capture"]);
        command.args(["--release", "--workspace"]);
        command.args(["-E", "package(rekindle-cli) & binary(kill)"]);
        command
    } else {
        let mut command = command::cargo(workspace, ["test", "--release", "--workspace"]);
        command.args(["--test", "kill", "--", "--nocapture", "--test-threads", "1"]);
        command
    };
    command::check(tests.env("REKINDLE_KILLS", times))
}
