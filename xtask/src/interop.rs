//! Interchange with the Python peers: they load what we export, and we agree step by step.
//!
//! Every `fixtures/interop/*.py` gets `--rekindle BIN --work DIR --shared DIR`, prints a table and
//! fails by its exit status.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::environment;
use crate::options::Options;
use crate::shared;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let shared = shared::find(workspace, options)?.context(
        "interop needs the shared folder: put it beside the checkout or give `--shared`",
    )?;
    let scripts = scripts(workspace)?;
    if scripts.is_empty() {
        bail!("`fixtures/interop` holds no `*.py`: there is nothing to run");
    }
    let python = python(&shared, options)?;
    // The whole workspace is selected so that features unify as in the tests and nothing rebuilds.
    let build = ["build", "--release", "--workspace", "--bin", "rekindle"];
    command::check(&mut command::cargo(workspace, build))?;
    let target = workspace.target_dir()?;
    let binary = target.join("release").join("rekindle");

    let mut failed = Vec::new();
    for script in &scripts {
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let work = target.join("interop").join(&name);
        if work.exists() {
            std::fs::remove_dir_all(&work).context("clearing the work folder of the last run")?;
        }
        std::fs::create_dir_all(&work).context("making the work folder")?;
        println!("== interop: {name}");
        let mut command = Command::new(&python);
        command.arg(script).current_dir(workspace.root());
        command.arg("--rekindle").arg(&binary).arg("--work").arg(&work);
        command.arg("--shared").arg(&shared);
        if let Err(error) = command::check(&mut command) {
            println!("{error}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} interop scripts failed: {}",
            failed.len(),
            scripts.len(),
            failed.join(", ")
        );
    }
    println!("interop: {} scripts passed", scripts.len());
    Ok(())
}

fn scripts(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let files = workspace.files()?;
    let ours = files.iter().filter(|file| {
        let name = file.strip_prefix("fixtures/interop/");
        name.is_some_and(|name| name.ends_with(".py") && !name.contains('/'))
    });
    Ok(ours.map(|file| workspace.root().join(file)).collect())
}

/// The interpreter of an environment that can import the peers; makes the environment if needed.
fn python(shared: &Path, options: &Options) -> Result<PathBuf> {
    let venv = match options.last("venv") {
        Some(given) => PathBuf::from(given),
        None => environment::cache_dir().join("ref-venv"),
    };
    let python = venv.join("bin").join("python");
    let probe = "import torch, transformers, peft, gguf, safetensors";
    if !command::succeeds(Command::new(&python).args(["-c", probe])) {
        println!("interop: making the Python environment; this fetches about 6 GB");
        let folder = venv.to_str().context("the environment's path is no UTF-8")?;
        shared::script(shared, "ref_venv.sh", &[folder])?;
    }
    Ok(python)
}
