//! Modules that exist for tests alone although they lie in a file of any name.

use super::mask::is_word;

/// Files that `#[cfg(test)] mod name;` in masked code of `path` may mean.
pub fn files(path: &str, code: &str) -> Vec<String> {
    const GATE: &str = "#[cfg(test)]";
    let folder = children(path);
    let names = code.match_indices(GATE).filter_map(|(at, _)| {
        let item = code[at + GATE.len()..].trim_start();
        let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
        let rest = item.strip_prefix("mod ")?;
        let length = rest.bytes().take_while(|&byte| is_word(byte)).count();
        rest[length..].trim_start().starts_with(';').then(|| &rest[..length])
    });
    names
        .flat_map(|name| [format!("{folder}{name}.rs"), format!("{folder}{name}/mod.rs")])
        .collect()
}

/// The folder of a file's child modules, with its last `/`.
fn children(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    match name {
        "lib" | "main" | "mod" => format!("{folder}/"),
        _ => format!("{folder}/{name}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gated_module_is_found_beside_a_root_and_below_a_module() {
        let code = "#[cfg(test)]\nmod toy;\nmod real;\n#[cfg(test)]\nmod inline { }";
        assert_eq!(files("a/src/lib.rs", code)[0], "a/src/toy.rs");
        assert_eq!(files("a/src/fit.rs", code), ["a/src/fit/toy.rs", "a/src/fit/toy/mod.rs"]);
        assert!(files("a/src/lib.rs", "mod real;").is_empty());
    }
}
