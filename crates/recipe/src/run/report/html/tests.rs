use std::path::PathBuf;

use rekindle_eval::{Answer, ExactMatch};

use super::*;
use crate::events::{DataStatistics, Environment, Status};
use crate::events::{Event, length_bins};
use crate::run::Measured;

const HOSTILE: &str = "</title></code></pre><script>alert(1)</script>\"'&amp;\u{1b}\u{0}\n<b x='";

/// Elements that have no end tag in HTML; the page writes them closed.
const VOID: [&str; 1] = ["meta"];

/// Checks the page by the rules of XML: every tag closed and nested, every attribute quoted and
/// given once, no stray markup, no reference that is not known, no character XML forbids.
fn check(html: &str) {
    let rest = html.strip_prefix("<!DOCTYPE html>\n").expect("a document type");
    let mut open: Vec<&str> = Vec::new();
    let mut roots = 0;
    for piece in rest.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(!text.contains('>') || text.contains('\n'), "{text}");
        if open.last() != Some(&"style") {
            references(text);
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "{tag}");
        attributes_are_quoted(attributes);
        roots += usize::from(open.is_empty());
        assert!(closed || !VOID.contains(&name), "{tag}");
        // A browser takes `<td/>` for an opening tag.
        assert!(!closed || VOID.contains(&name) || ["path", "polyline", "circle"].contains(&name));
        if !closed {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(roots, 1);
    assert!(html.chars().all(|c| c == '\n' || !c.is_control()), "a control character");
}

fn attributes_are_quoted(text: &str) {
    let (mut rest, mut seen) = (text.trim(), Vec::new());
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{text}");
        assert!(!seen.contains(&name), "{text}");
        seen.push(name);
        let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("{text}"));
        references(value);
        assert!(after.is_empty() || after.starts_with(' '), "{text}");
        rest = after.trim_start();
    }
}

fn references(text: &str) {
    for part in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|name| part.starts_with(name)), "{part}");
    }
}

fn summary(answers: Option<ExactMatch>) -> RunSummary {
    RunSummary {
        run_dir: PathBuf::from("runs/r"),
        status: Status::Succeeded,
        steps: 3,
        seconds: 4.0,
        base: Measured { loss: None, answers: answers.clone() },
        tuned: Measured { loss: None, answers },
        adapter: None,
        merged: None,
        curve: PathBuf::from("loss.svg"),
        report: PathBuf::from("report.md"),
    }
}

fn full_history(text: &str) -> History {
    let mut history = History::default();
    let step = |step: u64| Event::Step {
        step,
        total_steps: 3,
        loss: if step == 2 { f64::NAN } else { 2.0 / step as f64 },
        grad_norm: 1.0,
        learning_rate: 1e-4,
        tokens: 10,
        seconds: 1.0,
        tokens_per_second: 10.0,
        skipped: false,
        memory_bytes: Some(step << 20),
    };
    let events = [
        Event::RunStarted {
            run: text.into(),
            model: text.into(),
            method: text.into(),
            trainable_parameters: 1,
            total_parameters: 3,
            device: text.into(),
            train_rows: 1,
            validation_rows: 1,
            target_tokens: 1,
            total_steps: 3,
        },
        Event::Environment(Environment {
            version: "1.2.3".into(),
            os: text.into(),
            arch: text.into(),
            cpu: Some(text.into()),
            threads: Some(64),
            features: vec![text.into()],
            ..Environment::default()
        }),
        Event::Data(DataStatistics {
            train_rows: 12,
            total_tokens: 200,
            target_tokens: 50,
            rejected: [(text.to_owned(), 7)].into(),
            lengths: length_bins(1..=33),
            ..DataStatistics::default()
        }),
        step(1),
        step(2),
        step(3),
        Event::Eval {
            step: 3,
            split: text.into(),
            loss: 1.5,
            perplexity: 4.5,
            tokens: 3,
            exact_match: None,
        },
        Event::Warning { message: text.into() },
        Event::Exported { kind: text.into(), path: text.into() },
    ];
    events.iter().for_each(|event| history.apply(event));
    history
}

fn page(text: &str, history: &History, answers: Option<ExactMatch>) -> String {
    let hashes = [(text.to_owned(), text.to_owned())];
    let summary = summary(answers);
    let page = Page {
        name: text,
        method: text,
        model: text,
        plan: text,
        history,
        summary: &summary,
        hashes: &hashes,
    };
    page.render()
}

fn answers(text: &str) -> ExactMatch {
    let answer = |wanted: &str| Answer {
        question: text.into(),
        wanted: wanted.into(),
        given: text.into(),
        ended: true,
    };
    ExactMatch { answers: [text, "w"].iter().cycle().take(60).map(|it| answer(it)).collect() }
}

#[test]
fn no_text_of_a_run_becomes_markup() {
    let html = page(HOSTILE, &full_history(HOSTILE), Some(answers(HOSTILE)));
    check(&html);
    assert!(!html.contains("<script") && !html.contains("<b "), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;amp;"));
    assert!(html.contains("script") && html.contains("default-src 'none'"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let html = page("run", &full_history("x"), Some(answers("a")));
    check(&html);
    // The namespace of SVG is a name, not a place.
    let html = html.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "//", "url(", "@import", "src=", "href=", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("prefers-color-scheme:dark"));
}

#[test]
fn every_part_of_a_run_is_on_the_page() {
    let html = page("run", &full_history("zebra"), Some(answers("a")));
    for wanted in [
        "1 of 3 parameters were trained (33.33 %)",
        "<td>exact match</td><td>30/60 (50.0 %)</td>",
        "<td>tokens trained on</td><td>50 (25.0 %)</td>",
        "<td>rows left out: zebra</td><td>7</td>",
        "<td>31–33</td><td>3</td>",
        "<td>threads</td><td>64</td>",
        "<td>Rekindle</td><td>1.2.3</td>",
        "<td class=\"right\">a</td>",
        "10 more are in summary.json",
        ">Loss</text>",
        ">Learning rate</text>",
        ">Gradient norm</text>",
        ">Speed</text>",
        ">Memory</text>",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_run_that_told_nothing_still_gives_a_page() {
    let html = page("", &History::default(), None);
    check(&html);
    assert!(html.contains("no finite loss") && !html.contains("<h2>Data</h2>"));
}
