//! The report as one page that needs nothing beside it: no script, no other file, no network.
//!
//! It is well-formed XML too, so that its shape can be checked strictly. Its content policy forbids
//! scripts, should a text of the run ever slip through as markup.

mod sections;

use std::fmt::Write as _;

use super::RunSummary;
use crate::curve::{self, STYLE};
use crate::history::History;

const CSS: &str = include_str!("page.css");

/// What the browser may do: apply the page's own styles.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'";

/// Everything that the page shows.
pub(super) struct Page<'a> {
    /// The run's name.
    pub name: &'a str,
    /// The method's name.
    pub method: &'a str,
    /// The base model.
    pub model: &'a str,
    /// The resolved recipe as TOML.
    pub plan: &'a str,
    /// What the events told.
    pub history: &'a History,
    /// How the run ended.
    pub summary: &'a RunSummary,
    /// Files of the run with their hashes, as far as they are known.
    pub hashes: &'a [(String, String)],
}

impl Page<'_> {
    /// The page as text.
    pub(super) fn render(&self) -> String {
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width\"/>\n\
             <title>{name}</title>\n<style>\n{CSS}{STYLE}\n</style>\n</head>\n<body>\n\
             <h1>{name}</h1>\n",
            name = escape(self.name)
        );
        self.lead(&mut html);
        self.warnings(&mut html);
        self.result(&mut html);
        self.curves(&mut html);
        self.samples(&mut html);
        self.data(&mut html);
        self.environment(&mut html);
        self.files(&mut html);
        let _ = write!(
            html,
            "<h2>Settings</h2>\n<details open=\"open\"><summary>The recipe with every default \
             filled in</summary>\n<pre><code>{}</code></pre></details>\n</body>\n</html>\n",
            escape(self.plan)
        );
        html
    }
}

/// Text for the page, its line breaks kept.
fn escape(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| curve::escape(line.trim_end_matches('\r'))).collect();
    lines.join("\n")
}

/// A heading and a table below it; nothing at all without rows. Cells are text.
fn table(html: &mut String, heading: &str, class: &str, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(html, "<h2>{}</h2>\n<table class=\"{class}\">", escape(heading));
    if !head.is_empty() {
        let cells: String = head.iter().map(|it| format!("<th>{}</th>", escape(it))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    for row in rows {
        let cells: String = row.iter().map(|it| format!("<td>{}</td>", escape(it))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html.push_str("</table>\n");
}

#[cfg(test)]
mod tests;
