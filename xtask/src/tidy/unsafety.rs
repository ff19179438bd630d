//! `unsafe` stands in few places, and each says why it is sound.

use super::Finding;
use super::mask::{is_word, line_at};

/// Where `unsafe` may stand: the kernels.
const PERMITTED: &[&str] = &["crates/kernels/"];

/// Lines above an `unsafe` among which its reason is looked for.
const REACH: usize = 12;

pub fn check(path: &str, text: &str, code: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for line in unsafe_lines(code) {
        if !PERMITTED.iter().any(|place| path.starts_with(place)) {
            let message = "`unsafe` is for the kernels; use a safe way";
            findings.push(Finding::new(path, line, message));
        } else if !has_reason(&lines[line.saturating_sub(REACH)..line]) {
            let message = "`unsafe` without a `SAFETY:` comment above; say why it is sound";
            findings.push(Finding::new(path, line, message));
        }
    }
    findings
}

fn has_reason(lines: &[&str]) -> bool {
    lines.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

/// Lines of the keyword in masked code; `unsafe_code` and its like are other words.
fn unsafe_lines(code: &str) -> Vec<usize> {
    const WORD: &str = "unsafe";
    let bytes = code.as_bytes();
    let alone = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(at + WORD.len());
        !before.is_some_and(|&byte| is_word(byte)) && !after.is_some_and(|&byte| is_word(byte))
    };
    let found = code.match_indices(WORD).map(|(at, _)| at).filter(|&at| alone(at));
    found.map(|at| line_at(code, at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_its_places_is_found() {
        let code = "#[expect(unsafe_code)]\nlet x = unsafe { y };";
        let found = check("crates/data/src/read.rs", code, code);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn unsafe_in_the_kernels_needs_a_reason() {
        let bare = "unsafe { x }";
        assert_eq!(check("crates/kernels/src/a.rs", bare, bare).len(), 1);
        let text = "// SAFETY: the slice has room for four.\nunsafe { x }";
        assert!(check("crates/kernels/src/a.rs", text, "\nunsafe { x }").is_empty());
    }
}
