//! The one place of the tasks that reads environment variables.

use std::path::PathBuf;

/// Folder for tools and environments that outlive a clean of the target folder.
///
/// `$HOME/.cache/rekindle`, or `rekindle-cache` in the temporary folder where there is no home.
pub fn cache_dir() -> PathBuf {
    match variable("HOME") {
        Some(home) => PathBuf::from(home).join(".cache").join("rekindle"),
        None => std::env::temp_dir().join("rekindle-cache"),
    }
}

/// The `cargo` that runs this task, so that children use the same toolchain.
pub fn cargo() -> String {
    variable("CARGO").unwrap_or_else(|| "cargo".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "tasks are told where their tools are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
