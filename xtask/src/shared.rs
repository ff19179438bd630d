//! The folder of real models, data sets and peer scripts that lies beside a checkout.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

use crate::command;
use crate::options::Options;
use crate::workspace::Workspace;

/// `--shared DIR` if given (it must exist), else `../shared` if that exists.
pub fn find(workspace: &Workspace, options: &Options) -> Result<Option<PathBuf>> {
    if let Some(given) = options.last("shared") {
        return match std::fs::canonicalize(given) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) => bail!("`--shared {given}`: {error}"),
        };
    }
    Ok(std::fs::canonicalize(workspace.root().join("../shared")).ok())
}

/// Runs a script of the folder and returns the last line it printed: the path it made.
pub fn script(shared: &std::path::Path, name: &str, args: &[&str]) -> Result<PathBuf> {
    let script = shared.join("scripts").join(name);
    let printed = command::output(Command::new("bash").arg(&script).args(args))?;
    let path = printed.lines().last().with_context(|| format!("`{name}` printed no path"))?;
    Ok(PathBuf::from(path))
}
