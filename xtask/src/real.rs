//! Tests on real models and data, which are too large or not licensed to lie in the repository.
//!
//! They are the test targets `real*` of `rekindle-cli` behind its feature `real-tests`, and read
//! two variables: `REKINDLE_SHARED` (the folder) and `REKINDLE_SMOLLM2` (the GGUF file).

use anyhow::Result;

use crate::command;
use crate::options::Options;
use crate::shared;
use crate::workspace::Workspace;

// The whole workspace is selected, not one package, so that cargo unifies features as the other
// test runs do and Burn is not built again.
const FEATURES: &[&str] = &["--release", "--workspace", "--features", "rekindle-cli/real-tests"];

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let Some(folder) = shared::find(workspace, options)? else {
        println!(
            "real: no shared folder beside the checkout and no `--shared DIR`; nothing to run"
        );
        return Ok(());
    };
    let model = shared::script(&folder, "fetch_smollm2.sh", &[])?;
    let mut tests = if has_nextest(workspace) {
        let mut command = command::cargo(workspace, ["nextest", "run"]);
        command.args(FEATURES).args(["-E", "package(rekindle-cli) & binary(/^real/)"]);
        command
    } else {
        let mut command = command::cargo(workspace, ["test"]);
        command.args(FEATURES).args(["--test", "real*"]);
        command
    };
    command::check(tests.env("REKINDLE_SHARED", &folder).env("REKINDLE_SMOLLM2", &model))
}

/// True if `cargo nextest` is installed.
pub fn has_nextest(workspace: &Workspace) -> bool {
    command::succeeds(&mut command::cargo(workspace, ["nextest", "--version"]))
}
