//! The architecture as data: which crate may know which, and who owns a third-party crate.

use super::Finding;
use crate::workspace::Package;

/// A library crate and the crates it may depend on, as short names (`rekindle-` left out).
struct Arrow {
    from: &'static str,
    to: &'static [&'static str],
}

/// Lowest layer first: a crate may point only at rows above its own.
const ARROWS: &[Arrow] = &[
    Arrow { from: "kernels", to: &[] },
    Arrow { from: "data", to: &[] },
    Arrow { from: "track", to: &[] },
    Arrow { from: "quant", to: &["kernels"] },
    Arrow { from: "train", to: &["data"] },
    Arrow { from: "peft-core", to: &["quant", "kernels"] },
    Arrow { from: "models", to: &["peft-core", "quant", "kernels"] },
    Arrow { from: "align", to: &["models", "train", "data", "kernels"] },
    Arrow { from: "eval", to: &["models", "data"] },
    Arrow { from: "export", to: &["models", "peft-core", "quant"] },
    Arrow {
        from: "recipe",
        to: &[
            "kernels",
            "data",
            "track",
            "quant",
            "train",
            "peft-core",
            "models",
            "align",
            "eval",
            "export",
        ],
    },
];

/// Packages that are no libraries, with what they may link; `None` means anything.
const PROGRAMS: &[(&str, Option<&[&str]>)] = &[
    ("rekindle-cli", Some(&["recipe", "kernels", "data", "models", "peft-core", "eval", "export"])),
    ("rekindle-testkit", Some(&["kernels"])),
    ("rekindle-benches", None),
    ("rekindle-example-custom-loop", Some(&["train"])),
    ("rekindle-example-custom-objective", Some(&["align", "data", "kernels", "models", "train"])),
    ("rekindle-example-own-module", Some(&["train"])),
    ("xtask", Some(&[])),
];

/// Third-party crates that one crate wraps for all others. Tests may use any.
const OWNERS: &[(&str, &[&str])] = &[
    ("tokenizers", &["rekindle-data"]),
    ("minijinja", &["rekindle-data"]),
    ("minijinja-contrib", &["rekindle-data"]),
    ("clap", &["rekindle-cli", "rekindle-benches"]),
    ("indicatif", &["rekindle-cli"]),
    ("ratatui", &["rekindle-cli"]),
    ("rustix", &["rekindle-cli"]),
    ("signal-hook", &["rekindle-cli"]),
    ("toml", &["rekindle-recipe"]),
    ("toml_edit", &["rekindle-recipe"]),
    ("annotate-snippets", &["rekindle-recipe"]),
    ("schemars", &["rekindle-recipe"]),
    ("ureq", &["rekindle-track"]),
    ("rustls", &["rekindle-track"]),
    ("anyhow", &["rekindle-cli", "rekindle-benches", "xtask"]),
    ("burn-cubecl", &["rekindle-kernels"]),
    ("burn-flex", &["rekindle-kernels"]),
    ("cubecl", &["rekindle-kernels", "rekindle-cli", "rekindle-testkit", "rekindle-benches"]),
];

/// Features of Burn that link a backend.
const BACKENDS: &[&str] = &[
    "cpu", "cuda", "flex", "metal", "ndarray", "remote", "rocm", "tch", "vulkan", "webgpu", "wgpu",
];

/// Packages whose manifests may name a backend. The kernels mirror the names in features of
/// their own, because backend types exist only behind them.
const BACKEND_MANIFESTS: &[&str] = &[
    "rekindle-kernels",
    "rekindle-cli",
    "rekindle-testkit",
    "rekindle-benches",
    "rekindle-example-custom-loop",
    "rekindle-example-custom-objective",
    "rekindle-example-own-module",
];

/// What package names have before the name of their folder.
const PREFIX: &str = "rekindle-";

const TESTKIT: &str = "testkit";

/// Package names of the library crates, lowest layer first.
pub fn libraries() -> Vec<String> {
    ARROWS.iter().map(|arrow| format!("{PREFIX}{}", arrow.from)).collect()
}

/// Every manifest against the tables above.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let Some(allowed) = allowed(&package.name) else {
            let message = "the package is in no table; give it a row in `xtask/src/tidy/arrows.rs`";
            findings.push(Finding::new(&package.name, 0, message));
            continue;
        };
        findings.extend(arrows(package, allowed));
        findings.extend(owners(package));
        findings.extend(backends(package));
    }
    findings
}

/// What a package may link: `Some(None)` is anything, `None` an unknown package.
fn allowed(name: &str) -> Option<Option<&'static [&'static str]>> {
    if let Some((_, to)) = PROGRAMS.iter().find(|(program, _)| *program == name) {
        return Some(*to);
    }
    let short = name.strip_prefix(PREFIX)?;
    ARROWS.iter().find(|arrow| arrow.from == short).map(|arrow| Some(arrow.to))
}

fn arrows(package: &Package, allowed: Option<&[&str]>) -> Vec<Finding> {
    let Some(allowed) = allowed else {
        return Vec::new();
    };
    let ours = package.dependencies.iter().filter_map(|dependency| {
        let to = dependency.name.strip_prefix(PREFIX)?;
        // Tests may build what they need from any layer; the crate itself may not.
        let permitted = allowed.contains(&to) || dependency.dev;
        (!permitted).then_some(to)
    });
    ours.map(|to| {
        let message = match to {
            TESTKIT => "`testkit` is for tests; move it to `[dev-dependencies]`".to_owned(),
            _ => format!("may not depend on `{to}`; a new arrow needs a decision record"),
        };
        Finding::new(&package.name, 0, message)
    })
    .collect()
}

fn owners(package: &Package) -> Vec<Finding> {
    let linked = package.dependencies.iter().filter(|dependency| !dependency.dev);
    linked
        .filter_map(|dependency| {
            let (name, owners) = OWNERS.iter().find(|(name, _)| *name == dependency.name)?;
            (!owners.contains(&package.name.as_str())).then(|| {
                let message = format!("`{name}` belongs to {}; ask it there", owners.join(", "));
                Finding::new(&package.name, 0, message)
            })
        })
        .collect()
}

/// Backend features, named directly or passed on by a feature of the package.
fn backends(package: &Package) -> Vec<Finding> {
    let default = package.features.iter().filter(|(name, _)| name == "default");
    let mut named: Vec<String> = Vec::new();
    if BACKEND_MANIFESTS.contains(&package.name.as_str()) {
        if libraries().contains(&package.name) {
            let on = default.flat_map(|(_, values)| values);
            named.extend(on.filter(|value| BACKENDS.contains(&value.as_str())).cloned());
        }
    } else {
        let linked = package.dependencies.iter().filter(|dependency| !dependency.dev);
        let burn = linked.filter(|dependency| dependency.name == "burn");
        let direct = burn.flat_map(|dependency| &dependency.features);
        named.extend(direct.filter(|feature| BACKENDS.contains(&feature.as_str())).cloned());
        let passed = package.features.iter().flat_map(|(_, values)| values);
        named.extend(passed.filter(|value| is_backend_of_burn(value)).cloned());
    }
    let report = |name: String| {
        let message = format!("names the backend `{name}`; binaries and tests choose the backend");
        Finding::new(&package.name, 0, message)
    };
    named.into_iter().map(report).collect()
}

/// `burn/cuda`, `burn?/cuda`.
fn is_backend_of_burn(value: &str) -> bool {
    let parts = value.split_once('/');
    parts.is_some_and(|(of, name)| of.trim_end_matches('?') == "burn" && BACKENDS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let edge = |(name, dev): &(&str, bool)| Dependency {
            name: (*name).to_owned(),
            dev: *dev,
            features: Vec::new(),
        };
        Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(edge).collect(),
            features: Vec::new(),
        }
    }

    fn messages(package: Package) -> Vec<String> {
        check(&[package]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn arrows_point_down_only() {
        for (row, arrow) in ARROWS.iter().enumerate() {
            let below = |to: &&str| ARROWS[..row].iter().any(|other| other.from == *to);
            assert!(arrow.to.iter().all(below), "{} points up", arrow.from);
        }
    }

    #[test]
    fn an_arrow_that_is_not_listed_is_found() {
        assert!(messages(package("rekindle-train", &[("rekindle-data", false)])).is_empty());
        let found = messages(package("rekindle-train", &[("rekindle-models", false)]));
        assert!(found[0].contains("may not depend on `models`"), "{found:?}");
        assert!(messages(package("rekindle-train", &[("rekindle-models", true)])).is_empty());
        assert!(messages(package("rekindle-benches", &[("rekindle-models", false)])).is_empty());
    }

    #[test]
    fn the_test_kit_is_a_dev_dependency() {
        assert!(messages(package("rekindle-data", &[("rekindle-testkit", true)])).is_empty());
        assert_eq!(messages(package("rekindle-data", &[("rekindle-testkit", false)])).len(), 1);
    }

    #[test]
    fn a_third_party_crate_stays_with_its_owner_except_in_tests() {
        assert!(messages(package("rekindle-data", &[("tokenizers", false)])).is_empty());
        assert_eq!(messages(package("rekindle-models", &[("tokenizers", false)])).len(), 1);
        assert!(messages(package("rekindle-models", &[("tokenizers", true)])).is_empty());
    }

    #[test]
    fn a_package_without_a_row_is_found() {
        assert_eq!(messages(package("rekindle-new", &[])).len(), 1);
    }

    #[test]
    fn a_backend_in_a_library_is_found_however_it_is_named() {
        let mut direct = package("rekindle-models", &[("burn", false)]);
        direct.dependencies[0].features = vec!["std".to_owned(), "flex".to_owned()];
        assert_eq!(messages(direct).len(), 1);

        let mut passed = package("rekindle-models", &[]);
        passed.features = vec![("fast".to_owned(), vec!["burn?/cuda".to_owned()])];
        assert_eq!(messages(passed.clone()).len(), 1);
        passed.name = "rekindle-kernels".to_owned();
        assert!(messages(passed.clone()).is_empty());
        passed.features = vec![("default".to_owned(), vec!["flex".to_owned()])];
        assert_eq!(messages(passed).len(), 1);
    }
}
