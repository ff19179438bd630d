//! Words that must not stand in any text of the repository, comments and documents included.

use super::Finding;

/// Endings of the files that are read as text; data sets and vocabularies are not among them.
const TEXT_ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".sh", ".py", ".yml", ".jinja", ".ci/run"];

/// Text that is not ours to word.
const EXEMPT: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "Cargo.lock"];

/// Machine-bound folders. Written in two pieces, so that this list does not find itself.
const FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/mnt", "/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
    concat!("/Use", "rs/"),
    concat!("/wo", "rk/"),
];

/// Praise where a number should stand; checked in documents and Rust sources.
const PRAISE: &[&str] = &[concat!("blaz", "ing"), concat!("power", "ful"), concat!("seam", "less")];

/// The mark of unfinished work, in two pieces as above.
const MARK: &str = concat!("TO", "DO");

/// True if [`check`] applies to a file.
pub fn is_text(path: &str) -> bool {
    TEXT_ENDINGS.iter().any(|ending| path.ends_with(ending)) && !EXEMPT.contains(&path)
}

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let prose = path.ends_with(".md") || path.ends_with(".rs");
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(folder) = FOLDERS.iter().find(|folder| has_absolute(line, folder)) {
            let message = format!("`{folder}` exists on some machines only; use a relative path");
            findings.push(Finding::new(path, number, message));
        }
        let lower = line.to_lowercase();
        if let Some(word) = PRAISE.iter().find(|word| prose && lower.contains(*word)) {
            let message = format!("`{word}` tells nothing; give a number or leave it out");
            findings.push(Finding::new(path, number, message));
        }
        if has_bare_mark(line) {
            let message = format!("`{MARK}` without an issue; write `{MARK}(#n)`, or do it");
            findings.push(Finding::new(path, number, message));
        }
    }
    findings
}

/// True if the folder starts a path; `a/tmp/b` and `https://host/home/` are other things.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}~*/".contains(c))
    })
}

/// True if the mark stands as a word and no `(#n)` follows.
fn has_bare_mark(line: &str) -> bool {
    line.match_indices(MARK).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let rest = &line[at + MARK.len()..];
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let number = rest.strip_prefix("(#").unwrap_or_default();
        let has_issue = number.starts_with(|c: char| c.is_ascii_digit());
        !before.is_some_and(word) && !rest.starts_with(word) && !has_issue
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_folders_are_found_and_relative_ones_are_not() {
        let absolute = format!("open({:?})", FOLDERS[3].to_owned() + "x");
        assert_eq!(check("a.py", &absolute).len(), 1);
        let relative = format!("open(\"runs{}x\")", FOLDERS[3]);
        assert!(check("a.py", &relative).is_empty());
    }

    #[test]
    fn unfinished_work_needs_an_issue() {
        assert_eq!(check("a.rs", &format!("// {MARK} later")).len(), 1);
        assert_eq!(check("a.rs", &format!("// {MARK}(me)")).len(), 1);
        assert!(check("a.rs", &format!("// {MARK}(#12) later")).is_empty());
        assert!(check("a.rs", &format!("const {MARK}S: u8 = 0;")).is_empty());
    }

    #[test]
    fn praise_is_found_in_prose_alone() {
        assert_eq!(check("README.md", &format!("A {} tool", PRAISE[1])).len(), 1);
        assert!(check("recipes/a.toml", &format!("name = \"{}\"", PRAISE[1])).is_empty());
    }

    #[test]
    fn vocabularies_and_licences_are_not_read() {
        assert!(is_text("crates/data/src/read.rs"));
        assert!(is_text(".ci/run"));
        assert!(!is_text("crates/recipe/assets/tokenizer.json"));
        assert!(!is_text("LICENSE-APACHE"));
    }
}
