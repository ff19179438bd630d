//! Running child processes: echo, exit status, captured output, time limit.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::environment;
use crate::workspace::Workspace;

/// `cargo` in the workspace root.
pub fn cargo<S: AsRef<OsStr>>(workspace: &Workspace, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(environment::cargo());
    command.args(args).current_dir(workspace.root());
    command
}

/// Runs a command with its output on our own, and fails if it fails.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("`{shown}` could not be started"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote no UTF-8"))
}

/// True if the command starts and succeeds; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Like [`succeeds`], but a command that runs longer than `limit` is ended and counts as failed.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let start = Instant::now();
    while start.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(100)),
            Err(_) => break,
        }
    }
    // A child that has ended by now cannot be killed, which is as good.
    drop(child.kill());
    drop(child.wait());
    false
}

/// The command as a person would type it; the program without its folder.
fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let mut shown = name.into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        shown.push(' ');
        if arg.contains(' ') {
            shown.push_str(&format!("'{arg}'"));
        } else {
            shown.push_str(&arg);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_drops_the_folder_and_quotes_spaces() {
        let mut command = Command::new("some/bin/cargo");
        command.args(["nextest", "binary(real) & x"]);
        assert_eq!(show(&command), "cargo nextest 'binary(real) & x'");
    }

    #[test]
    fn a_command_past_its_limit_counts_as_failed() {
        assert!(!succeeds_within(Command::new("sleep").arg("30"), Duration::ZERO));
        assert!(!succeeds(&mut Command::new("no-program-of-this-name")));
    }
}
