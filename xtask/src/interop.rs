//! Interchange with the Python peers: they load what we write, and we agree step by step.
//!
//! Every `fixtures/interop/*.py` gets `--rekindle BIN --work DIR`, and `--shared DIR` where there
//! is one, prints a table and fails by its exit status.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::environment;
use crate::options::Options;
use crate::shared;
use crate::workspace::Workspace;

/// The script that needs neither the shared folder nor the peers.
const TRACKERS: &str = "trackers";

/// What it needs instead, as its head says too.
const TRACKER_PACKAGES: &[&str] = &["tensorboard==2.21.0", "mlflow==3.17.2"];

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let scripts = scripts(workspace, options.last("only"))?;
    let needs_peers = scripts.iter().any(|script| name(script) != TRACKERS);
    let (shared, peers) = if needs_peers {
        let shared = shared::find(workspace, options)?.context(
            "interop needs the shared folder: put it beside the checkout or give `--shared`",
        )?;
        let python = peers(&shared, options)?;
        (Some(shared), Some(python))
    } else {
        (None, None)
    };
    build(workspace)?;
    let target = workspace.target_dir()?;

    let mut failed = Vec::new();
    for script in &scripts {
        let name = name(script);
        println!("== interop: {name}");
        let python = if name == TRACKERS { trackers(options) } else { None };
        let Some(python) = python.or_else(|| peers.clone().filter(|_| name != TRACKERS)) else {
            println!("{}", advice());
            failed.push(name);
            continue;
        };
        let mut command = Command::new(&python);
        let work = work_folder(&target, &name)?;
        command.arg(script).current_dir(workspace.root());
        command.arg("--rekindle").arg(target.join("release").join("rekindle"));
        command.arg("--work").arg(&work);
        if let Some(shared) = &shared {
            command.arg("--shared").arg(shared);
        }
        if let Err(error) = command::check(&mut command) {
            println!("{error}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        let (n, of) = (failed.len(), scripts.len());
        bail!("{n} of {of} interop scripts failed: {}", failed.join(", "));
    }
    println!("interop: {} scripts passed", scripts.len());
    Ok(())
}

/// The scripts, or the one that is asked for.
fn scripts(workspace: &Workspace, only: Option<&str>) -> Result<Vec<PathBuf>> {
    let files = workspace.files()?;
    let ours = files.iter().filter(|file| {
        let name = file.strip_prefix("fixtures/interop/");
        name.is_some_and(|name| name.ends_with(".py") && !name.contains('/'))
    });
    let mut scripts: Vec<PathBuf> = ours.map(|file| workspace.root().join(file)).collect();
    let names: Vec<String> = scripts.iter().map(|script| name(script)).collect();
    if let Some(only) = only {
        scripts.retain(|script| name(script) == only);
    }
    if scripts.is_empty() {
        bail!("`fixtures/interop` has no script of this name; it has: {}", names.join(", "));
    }
    Ok(scripts)
}

fn name(script: &Path) -> String {
    script.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The program, and the example that the trackers' script runs beside it.
fn build(workspace: &Workspace) -> Result<()> {
    // The whole workspace is selected, and an example, whose tests' dependencies count, so that
    // features unify as in the tests and nothing rebuilds.
    let build = ["build", "--release", "--workspace", "--bin", "rekindle"];
    let example = ["--example", "write_run"];
    command::check(command::cargo(workspace, build).args(example))
}

/// An empty folder for one script.
fn work_folder(target: &Path, name: &str) -> Result<PathBuf> {
    let work = target.join("interop").join(name);
    if work.exists() {
        std::fs::remove_dir_all(&work).context("clearing the work folder of the last run")?;
    }
    std::fs::create_dir_all(&work).context("making the work folder")?;
    Ok(work)
}

fn interpreter(venv: &Path) -> PathBuf {
    venv.join("bin").join("python")
}

fn imports(python: &Path, probe: &str) -> bool {
    command::succeeds(Command::new(python).args(["-c", probe]))
}

/// The interpreter of an environment that can import the peers; makes the environment if needed.
fn peers(shared: &Path, options: &Options) -> Result<PathBuf> {
    const PROBE: &str = "import torch, transformers, peft, gguf, safetensors";
    let given = options.all("venv");
    let mut candidates = given.iter().map(|venv| interpreter(Path::new(venv)));
    if let Some(python) = candidates.find(|python| imports(python, PROBE)) {
        return Ok(python);
    }
    // An environment for the trackers alone is not where the peers are to be installed.
    let for_peers = given.iter().rev().find(|venv| !has_trackers(Path::new(venv)));
    let venv = for_peers.map_or_else(|| environment::cache_dir().join("ref-venv"), PathBuf::from);
    let python = interpreter(&venv);
    if !imports(&python, PROBE) {
        println!("interop: making the Python environment; this fetches about 6 GB");
        let folder = venv.to_str().context("the environment's path is no UTF-8")?;
        shared::script(shared, "ref_venv.sh", &[folder])?;
    }
    Ok(python)
}

/// The interpreter of a given environment, or of the one in the cache, that has the trackers.
fn trackers(options: &Options) -> Option<PathBuf> {
    let given = options.all("venv").into_iter().map(PathBuf::from);
    let venv = given.chain([trackers_venv()]).find(|venv| has_trackers(venv))?;
    Some(interpreter(&venv))
}

fn has_trackers(venv: &Path) -> bool {
    imports(&interpreter(venv), "import tensorboard, mlflow")
}

fn trackers_venv() -> PathBuf {
    environment::cache_dir().join("track-venv")
}

fn advice() -> String {
    let venv = trackers_venv();
    let (folder, packages) = (venv.display(), TRACKER_PACKAGES.join(" "));
    format!(
        "no environment has the packages `tensorboard` and `mlflow`; make one and run again, or \
         name another one with `--venv DIR`:\n  python3 -m venv {folder}\n  \
         {folder}/bin/pip install {packages}"
    )
}
