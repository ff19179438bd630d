//! What the program can say of itself, its machine and its terminal.

use std::fs;
use std::io::{IsTerminal, stderr, stdin};

use burn::tensor::Device;
use rekindle_recipe::{Credentials, Host, RunError, fingerprint};

use crate::device;

/// What a run is told of the program and the machine.
///
/// The memory of the process says how large a run is only where it computes on the processor.
pub fn of(device: &Device) -> Host {
    let name = format!("{device:?}").to_lowercase();
    let on_processor = ["flex", "ndarray"].iter().any(|backend| name.contains(backend));
    Host {
        cpu: processor(),
        threads: std::thread::available_parallelism().ok().map(|it| it.get() as u64),
        program_blake3: program(),
        features: device::backends().into_iter().map(str::to_owned).collect(),
        memory: on_processor.then_some(peak_memory),
    }
}

/// BLAKE3 of the running program, by which two builds of one version are told apart.
fn program() -> Option<String> {
    fingerprint::file(&std::env::current_exe().ok()?).ok()
}

/// The processor's name, where the system has it in a file.
fn processor() -> Option<String> {
    field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name").map(str::to_owned)
}

/// Most memory that this process has held at once, in bytes, where the system says it in a file.
fn peak_memory() -> Option<u64> {
    peak_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Memory that new programs can have, in bytes, where the system says it in a file.
pub fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes: u64 = field(&text, "MemAvailable")?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn peak_in(status: &str) -> Option<u64> {
    let kibibytes: u64 = field(status, "VmHWM")?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The value of the first line `name : value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Whether there is a terminal that a dashboard can be drawn on and that has keys.
pub fn has_screen() -> bool {
    stderr().is_terminal() && stdin().is_terminal() && !is_dumb()
}

/// Whether the terminal can do no more than print lines.
pub fn is_dumb() -> bool {
    matches!(variable("TERM").as_deref(), None | Some("" | "dumb")) && cfg!(unix)
}

/// Whether colours are wanted: <https://no-color.org>.
pub fn wants_color() -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How to log in at a tracking server, under the names that MLflow's own client uses.
///
/// # Errors
/// A value holds what a header cannot; it is not shown.
pub fn mlflow_credentials() -> Result<Credentials, RunError> {
    let given = |name: &str| {
        let value = variable(&format!("MLFLOW_TRACKING_{name}"));
        value.filter(|value| !value.is_empty())
    };
    let [username, password, token] = ["USERNAME", "PASSWORD", "TOKEN"].map(given);
    Ok(Credentials::new(username.as_deref(), password.as_deref(), token.as_deref())?)
}

#[expect(clippy::disallowed_methods, reason = "the program, unlike its libraries, has a terminal")]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(peak_in("Name:\trekindle\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        for odd in ["", "VmHWM: 3 MB", "VmHWM:", "VmHWM: 99999999999999999999 kB"] {
            assert_eq!(peak_in(odd), None, "{odd}");
        }
        assert_eq!(field("a: b: c\nmodel name\t: X 9", "model name"), Some("X 9"));
    }

    #[test]
    fn memory_counts_where_the_processor_computes() {
        let host = of(&device::open("cpu").unwrap());
        assert!(host.memory.is_some(), "the name of the device is not known");
        assert!(!host.features.is_empty());
    }
}
