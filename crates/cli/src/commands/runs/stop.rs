//! `rekindle runs stop`.

use anyhow::{Result, bail};
use clap::Args;
use rekindle_recipe::RunError;
use rekindle_recipe::runs::{Run, State};

use super::Place;

/// Arguments of `rekindle runs stop`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its name in the folder of runs, or its own folder.
    run: String,
    #[command(flatten)]
    place: Place,
}

/// Sends SIGTERM to the process that holds the run's lock.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let run = arguments.place.find(&arguments.run)?;
    if run.state != State::Running {
        let reason = format!("is not running: it is {}", run.state.name());
        return Err(RunError::Output { path: run.dir, reason }.into());
    }
    let Some(pid) = run.pid else {
        bail!(
            "`{}` is locked, and its lock names no process; stop it where it was started",
            run.name
        )
    };
    terminate(&run, pid)?;
    println!("asked process {pid} to save a checkpoint and stop; `--resume` continues the run");
    Ok(0)
}

#[cfg(unix)]
fn terminate(run: &Run, pid: u32) -> Result<()> {
    use anyhow::Context;
    use rustix::process::{Pid, Signal, kill_process};

    let elsewhere = || {
        format!(
            "process {pid}, which the lock of `{}` names, is not the one that holds it here; \
             the run may be on another machine or in another container: stop it there",
            run.name
        )
    };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(target) = target.filter(|_| holds_lock(run, pid)) else { bail!(elsewhere()) };
    kill_process(target, Signal::TERM)
        .with_context(|| format!("cannot signal process {pid}; ask as the user who started it"))
}

/// Whether the process has the run's lock open: its number may belong to another by now.
#[cfg(target_os = "linux")]
fn holds_lock(run: &Run, pid: u32) -> bool {
    use std::fs::metadata;
    use std::os::unix::fs::MetadataExt;

    let Ok(lock) = metadata(run.dir.join("run.lock")) else { return false };
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        // The files of another user's process are hidden; the signal will be refused as well.
        return std::path::Path::new(&format!("/proc/{pid}")).exists();
    };
    let same = |file: std::fs::Metadata| (file.dev(), file.ino()) == (lock.dev(), lock.ino());
    files.flatten().any(|file| metadata(file.path()).is_ok_and(same))
}

/// Whether the process is there; which files it has open is not told here.
#[cfg(all(unix, not(target_os = "linux")))]
fn holds_lock(_: &Run, pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[cfg(not(unix))]
fn terminate(_: &Run, pid: u32) -> Result<()> {
    bail!("this system has no signals; press Ctrl-C where process {pid} was started")
}
