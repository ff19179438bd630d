//! `rekindle chat` and templates with a clock, on the model that comes with the program.

use std::fs;
use std::process::{Command, Stdio};

/// The folder of the model that comes with the program.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipe/assets");

fn rekindle(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    (output.status.code(), out, err)
}

fn chat(more: &[&str]) -> String {
    let asked = ["chat", "--model", MODEL, "--prompt", "Name the capital of Beluna."];
    let (code, out, err) = rekindle(&[&asked[..], &["--max-new-tokens", "24"], more].concat());
    assert_eq!(code, Some(0), "{err}");
    out.trim_end().to_owned()
}

#[test]
fn a_seed_gives_the_same_answer_again_and_another_seed_another() {
    let drawn = |seed| chat(&["--temperature", "1.5", "--top-k", "50", "--seed", seed]);
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
}

#[test]
fn filters_that_leave_one_token_give_the_greedy_answer() {
    let greedy = chat(&[]);
    for filter in [["--top-k", "1"], ["--top-p", "0.000001"], ["--min-p", "1"]] {
        assert_eq!(chat(&[&["--temperature", "1.5"], &filter[..]].concat()), greedy, "{filter:?}");
    }
    assert_ne!(chat(&["--repetition-penalty", "3"]), greedy);
}

#[test]
fn an_answer_ends_before_a_stop_text() {
    let greedy = chat(&[]);
    let middle = greedy.char_indices().nth(greedy.chars().count() / 2).unwrap().0;
    let stop = &greedy[middle..];
    let before = &greedy[..greedy.find(stop).unwrap()];
    assert_eq!(chat(&["--stop", stop]), before.trim_end());
}

#[test]
fn settings_out_of_range_end_with_2_and_are_named() {
    for (flag, value) in [
        ("--top-p", "2"),
        ("--temperature", "inf"),
        ("--min-p", "nan"),
        ("--repetition-penalty", "0"),
    ] {
        let (code, _, err) = rekindle(&["chat", "--model", MODEL, "--prompt", "a", flag, value]);
        assert_eq!(code, Some(2), "{flag} {value}: {err}");
        assert!(err.contains(&flag[2..].replace('-', "_")) || err.contains(flag), "{err}");
    }
}

#[test]
fn a_template_that_takes_a_clock_for_granted_gets_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let [rows, template] = ["rows.jsonl", "chat.jinja"].map(|name| folder.path().join(name));
    fs::write(
        &rows,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
    )
    .unwrap();
    let [rows, path] = [&rows, &template].map(|it| it.to_str().unwrap());
    let preview = |source: &str, more: &[&str]| {
        let body = "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}";
        fs::write(&template, format!("{source}{body}")).unwrap();
        let asked = ["data", "preview", rows, "--model", MODEL, "--template", path, "--plain"];
        let (code, out, err) = rekindle(&[&asked[..], more].concat());
        assert_eq!(code, Some(0), "{err}");
        // The tokens of one row stand on lines of their own.
        out.replace(['\n', ' ', '|', '·'], "")
    };
    let plain = "{{ strftime_now('%d %b %Y') }} ";
    assert!(preview(plain, &[]).contains("26Jul2024"), "{}", preview(plain, &[]));
    assert!(preview(plain, &["--now", "2031-02-03T04:05:06"]).contains("03Feb2031"));
    let asks = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}none{% endif %} ";
    assert!(preview(asks, &[]).contains("none"));
    assert!(preview(asks, &["--now", "2031-02-03T04:05:06"]).contains("2031"));
}
