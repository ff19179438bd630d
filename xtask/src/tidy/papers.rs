//! `docs/papers.md`: every formula's row names a file and a test that exist.

use super::Finding;

/// `files` are the checkout's paths, `sources` the texts of its Rust files.
pub fn check(path: &str, table: &str, files: &[String], sources: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(table.lines()) {
        let Some([_, _, file, test]) = row(line) else {
            continue;
        };
        let file = file.trim_matches('`');
        if !files.iter().any(|known| known == file) {
            findings.push(Finding::new(path, number, format!("there is no file `{file}`")));
        }
        let test = test.trim_matches('`');
        let signature = format!("fn {test}(");
        if !sources.iter().any(|source| source.contains(&signature)) {
            findings.push(Finding::new(path, number, format!("there is no test `{test}`")));
        }
    }
    findings
}

/// The four cells `paper | equation | file | test`; `None` for prose, the heading and its rule.
fn row(line: &str) -> Option<[&str; 4]> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    let cells: [&str; 4] = cells.try_into().ok()?;
    cells[2].starts_with('`').then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_must_name_what_exists() {
        let table = "| paper | equation | file | test |\n| --- | --- | --- | --- |\n\
                     | A | 1 | `a.rs` | `a_holds` |\n| B | 2 | `b.rs` | `b_holds` |\n";
        let found = check("p.md", table, &["a.rs".to_owned()], &["fn a_holds() {}"]);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4, 4]);
    }
}
