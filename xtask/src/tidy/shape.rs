//! Sizes and names: one idea a file, a function that fits on a screen.

use super::Finding;
use super::mask::{body_start, braces, is_word, line_at};

/// Most lines a Rust file may have, tests included.
const FILE_LINES: usize = 400;

/// Most lines from `fn` to its closing brace; test code is exempt.
const FUNCTION_LINES: usize = 60;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["base", "common", "helper", "helpers", "types", "util", "utils"];

/// `product` is the masked code without its tests.
pub fn check(path: &str, text: &str, product: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let n_lines = text.lines().count();
    if n_lines > FILE_LINES {
        let message = format!("{n_lines} lines; at most {FILE_LINES}: split the file by idea");
        findings.push(Finding::new(path, 0, message));
    }
    if let Some(name) = empty_name(path) {
        let message = format!("`{name}` names no idea; name the file for what it holds");
        findings.push(Finding::new(path, 0, message));
    }
    for function in functions(product) {
        if function.lines > FUNCTION_LINES {
            let message = format!(
                "function `{}` has {} lines; at most {FUNCTION_LINES}",
                function.name, function.lines
            );
            findings.push(Finding::new(path, function.line, message));
        }
    }
    findings
}

fn empty_name(path: &str) -> Option<&str> {
    let parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts.into_iter().find(|part| EMPTY_NAMES.contains(part))
}

/// A function with a body.
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Every function of masked code, the nested ones too.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        let rest = &code[at + 3..];
        let length = rest.bytes().take_while(|&byte| is_word(byte)).count();
        let Some(open) = body_start(rest) else {
            continue;
        };
        if length == 0 || rest.as_bytes()[open] == b';' {
            continue;
        }
        let end = open + braces(&rest[open..]);
        let lines = rest[..end].matches('\n').count() + 1;
        found.push(Function { name: &rest[..length], line: line_at(code, at), lines });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::mask::code;
    use super::*;

    fn measured(source: &str) -> Vec<(String, usize, usize)> {
        let code = code(source);
        functions(&code).iter().map(|f| (f.name.to_owned(), f.line, f.lines)).collect()
    }

    #[test]
    fn functions_are_measured_from_fn_to_their_closing_brace() {
        let source = "trait T { fn none(&self); }\nfn one() { \"}\" }\n\
                      fn two(x: [u8; 2]) -> u8\nwhere u8: Copy,\n{\n  // }\n  0\n}\n";
        assert_eq!(measured(source), [("one".to_owned(), 2, 1), ("two".to_owned(), 3, 6)]);
    }

    #[test]
    fn function_pointers_and_names_that_end_in_fn_are_no_functions() {
        assert!(measured("struct S { f: fn (u8) -> u8 }\nlet my_fn = 1; { }").is_empty());
    }

    #[test]
    fn a_long_function_and_a_long_file_are_found_at_the_first_line_too_many() {
        let body = |n: usize| format!("fn f() {{\n{}}}\n", "x;\n".repeat(n));
        let found = |text: &str| check("crates/data/src/read.rs", text, text).len();
        assert_eq!(found(&body(FUNCTION_LINES - 2)), 0);
        assert_eq!(found(&body(FUNCTION_LINES - 1)), 1);
        assert_eq!(found(&"\n".repeat(FILE_LINES)), 0);
        assert_eq!(found(&"\n".repeat(FILE_LINES + 1)), 1);
    }

    #[test]
    fn a_file_or_folder_without_an_idea_in_its_name_is_found() {
        assert_eq!(empty_name("crates/data/src/utils.rs"), Some("utils"));
        assert_eq!(empty_name("crates/data/src/common/read.rs"), Some("common"));
        assert_eq!(empty_name("crates/quant/src/base_weight.rs"), None);
    }
}
