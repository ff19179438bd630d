//! Proof that a backend is the choice of a binary: no library crate links one by itself.

use anyhow::{Result, bail};

use crate::command;
use crate::tidy::arrows;
use crate::workspace::Workspace;

/// Packages that are a backend, or exist only to serve one.
const BACKENDS: &[&str] = &[
    "burn-cpu",
    "burn-cubecl",
    "burn-cuda",
    "burn-flex",
    "burn-ndarray",
    "burn-remote",
    "burn-rocm",
    "burn-tch",
    "burn-wgpu",
];

/// Resolves every library crate alone, with its default features, and looks for a backend.
///
/// Default features contain what is left without them, so one query answers for both.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut linked = Vec::new();
    let mut n_crates = 0;
    for name in arrows::libraries() {
        let args = ["tree", "--package", &name, "--edges", "normal", "--prefix", "none"];
        let tree = command::output(&mut command::cargo(workspace, args))?;
        linked.extend(backends_in(&tree).into_iter().map(|found| format!("{name} -> {found}")));
        n_crates += 1;
    }
    if !linked.is_empty() {
        bail!("library crates link a backend by default: {}", linked.join(", "));
    }
    println!("features: {n_crates} library crates, none links a backend by default");
    Ok(())
}

/// The backends among the lines `name vX.Y.Z …` of `cargo tree`, each once.
fn backends_in(tree: &str) -> Vec<&str> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<&str> = names.filter(|name| BACKENDS.contains(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_in_the_tree_is_found_once_and_a_like_name_is_not() {
        let tree = "rekindle-x v0.1.0 (path)\nburn v0.22.1\nburn-flex v0.22.1\nburn-flex v0.22.1 (*)\n\
                    burn-flexible v1.0.0";
        assert_eq!(backends_in(tree), ["burn-flex"]);
        assert!(backends_in("burn-tensor v0.22.1\nburn-backend v0.22.1").is_empty());
    }
}
