//! `rekindle data render`: conversations as a chat template writes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The folder of the model that comes with the program.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipe/assets");

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}\
    é{% generation %}{{ m.content }}{% endgeneration %}{% elif m.role == 'user' %}\
    {{ m.content }}|{% else %}{{ raise_exception('no ' ~ m.role) }}{% endif %}{% endfor %}\
    {{ tools | length if tools }}{{ '>' if add_generation_prompt }}\
    {{ strftime_now('%Y-%m-%d %H') if strftime_now is defined }}";

/// Writes the rows and the template, and renders: exit code, standard output, standard error.
fn render(rows: &[Value], template: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let world = tempfile::tempdir().unwrap();
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(world.path().join("conversations.jsonl"), rows).unwrap();
    fs::write(world.path().join("chat.jinja"), template).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(world.path()).stdin(Stdio::null());
    let output = command.args(["data", "render", "conversations.jsonl"]).args(more).output();
    let output = output.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    (output.status.code(), out, err)
}

fn rows() -> Vec<Value> {
    let user = json!({"role": "user", "content": "ü"});
    let answer = json!({"role": "assistant", "content": "ab"});
    vec![
        json!({"name": "marked", "messages": [user, answer], "tools": null,
               "add_generation_prompt": false}),
        json!({"messages": [answer, user, user], "tools": [{}, {}], "add_generation_prompt": true}),
        json!({"messages": [{"role": "wizard", "content": null}]}),
    ]
}

#[test]
fn every_conversation_gets_a_line_of_json_with_marks_in_characters() {
    let now = ["--template", "chat.jinja", "--json", "--now", "2026-11-25T12:00:00"];
    let (code, out, err) =
        render(&rows(), TEMPLATE, &[&now[..], &["--special", "bos_token=<s>"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({"text": "<s>ü|éab2026-11-25 12", "marks": [[6, 8]]}),
            json!({"text": "<s>éabü|ü|2>2026-11-25 12", "marks": [[4, 6]]}),
            json!({"error": "no wizard"}),
        ]
    );
}

#[test]
fn texts_are_kept_apart_by_their_lines() {
    let (code, out, _) = render(&rows(), TEMPLATE, &["--template", "chat.jinja"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "--- line 1\nü|éab\n--- line 2\néabü|ü|2>\n--- line 3, refused\nno wizard\n");
}

#[test]
fn a_line_that_is_no_conversation_is_named() {
    for (bad, words) in [
        (json!([1]), "an object with `messages`"),
        (json!({"tools": []}), "`messages` is missing"),
        (json!({"messages": ["hi"]}), "`messages[0]` is a string"),
        (json!({"messages": [], "tools": {}}), "`tools` is an object"),
        (json!({"messages": [], "add_generation_prompt": 1}), "`add_generation_prompt`"),
    ] {
        let rows = [rows()[0].clone(), bad];
        let (code, out, err) = render(&rows, TEMPLATE, &["--template", "chat.jinja", "--json"]);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
        assert!(err.contains("line 2") && err.contains(words), "{err}");
    }
    let (code, _, err) = render(&[], TEMPLATE, &["--template", "chat.jinja"]);
    assert_eq!(code, Some(3), "{err}");
}

#[test]
fn a_template_that_cannot_be_used_is_the_models_fault() {
    let burn = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    for (template, words) in [(burn, "fuel"), ("{% include 'x' %}", "x"), ("{% for %}", "line 1")] {
        let (code, _, err) = render(&rows(), template, &["--template", "chat.jinja", "--json"]);
        assert_eq!(code, Some(4), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_what_is_known() {
    for (more, words) in [
        (&["--template", "chat.jinja", "--special", "sep_token=x"][..], "bos_token, eos_token"),
        (&["--template", "chat.jinja", "--special", "bos_token"], "NAME=TOKEN"),
        (&["--template", "chat.jinja", "--now", "noon"], "noon"),
        (&["--template", "chat.jinja", "--model", "model"], "--model"),
        (&[], "--template"),
    ] {
        let (code, _, err) = render(&rows(), TEMPLATE, more);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn a_model_gives_its_template_and_its_special_tokens() {
    let (code, out, err) = render(&rows()[..1], "", &["--model", MODEL, "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["text"].as_str().unwrap().contains("ab"), "{answer}");
}

#[test]
fn a_model_without_a_template_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "config.json", "model.safetensors"] {
        fs::copy(Path::new(MODEL).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let (code, _, err) = render(&rows(), "", &["--model", path]);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains(&format!("`{path}` has no chat template")), "{err}");
}
