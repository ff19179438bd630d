//! Data that cannot be used: refused before the model is loaded, or left out and accounted for.

mod support;

use std::fs;

use serde_json::Value;
use support::{ROWS, World, chat, rows, write_model};

const BROKEN: &str = "{\"messages\": [{\"role\": \"user\", \n";
const SKIP: [&str; 2] = ["--set", "data.on_bad_row=skip"];

/// Training on `rows` must end with `code`, say all of `wanted`, and leave no file of a run.
#[track_caller]
fn refused(world: &World, rows: &[String], more: &[&str], code: i32, wanted: &[&str]) {
    fs::write(world.path("rows.jsonl"), rows.concat()).unwrap();
    world.train(more).ended(code, wanted);
    assert!(world.files("run").is_empty(), "{:?}", world.files("run").keys());
}

/// Rows of which the fifth line is broken JSON.
fn rows_with_a_broken_line() -> Vec<String> {
    let mut rows = rows();
    rows.insert(4, BROKEN.to_owned());
    rows
}

#[test]
fn a_broken_line_ends_the_run_before_the_model_is_read() {
    let world = World::new();
    fs::remove_dir_all(world.path("model")).unwrap();
    let wanted = ["rows.jsonl", "line 5", "not valid JSON", "data.on_bad_row = \"skip\""];
    refused(&world, &rows_with_a_broken_line(), &[], 3, &wanted);
}

#[test]
fn a_broken_line_can_be_left_out_and_is_then_on_record() {
    let world = World::new();
    fs::write(world.path("rows.jsonl"), rows_with_a_broken_line().concat()).unwrap();
    world.train(&SKIP).ended(0, &["1 rows were left out", "rejects.jsonl", "Succeeded"]);
    let text = fs::read_to_string(world.path("run/rejects.jsonl")).unwrap();
    let rejects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rejects.len(), 1, "{text}");
    assert_eq!(rejects[0]["line"], 5);
    assert_eq!(rejects[0]["kind"], "not JSON");
    let events = fs::read_to_string(world.path("run/events.jsonl")).unwrap();
    assert!(events.contains(&format!("\"train_rows\":{ROWS}")), "{events}");
}

#[test]
fn every_bad_row_is_named_with_its_own_reason() {
    let world = World::new();
    let mut rows = rows();
    rows.push(format!("{}\n", chat(&[("user", "Who?"), ("robot", "Beep.")])));
    rows.push(format!("{}\n", chat(&[("assistant", "Yes.")])));
    rows.push("[1, 2]\n".to_owned());
    let wanted = ["3 of 21 rows", "line 19", "`robot`", "line 20", "line 21"];
    refused(&world, &rows, &[], 3, &wanted);
}

#[test]
fn a_dataset_without_rows_is_refused() {
    let world = World::new();
    for text in ["", "\n \n\n"] {
        refused(&world, &[text.to_owned()], &[], 3, &["`rows.jsonl` holds no rows"]);
    }
}

#[test]
fn rows_without_an_answer_are_refused_even_if_bad_rows_are_skipped() {
    let world = World::new();
    let row = format!("{}\n", chat(&[("user", "What colour is the lamp?")]));
    let rows = vec![row; 5];
    refused(&world, &rows, &[], 3, &["assistant turn", "line 1"]);
    refused(&world, &rows, &SKIP, 3, &["5 rows", "assistant turn", "line 1"]);
}

#[test]
fn answers_that_are_all_cut_away_are_no_success() {
    let world = World::new();
    let more = [&SKIP[..], &["--set", "data.max_tokens=4"]].concat();
    refused(&world, &rows(), &more, 3, &["hold no target", "raise `max_tokens`"]);
}

#[test]
fn a_dataset_that_is_nowhere_is_named() {
    let world = World::new();
    let more = ["--set", "data.train=absent.jsonl"];
    refused(&world, &rows(), &more, 6, &["`absent.jsonl`", "check the path"]);
}

#[test]
fn rows_of_an_unknown_layout_are_refused_with_the_layouts_that_are_known() {
    let world = World::new();
    let rows = vec!["{\"frage\": \"a\", \"antwort\": \"b\"}\n".to_owned(); 3];
    refused(&world, &rows, &[], 3, &["`antwort`", "wanted `messages`", "rename the columns"]);
}

#[test]
fn a_split_that_takes_every_row_is_refused() {
    let world = World::new();
    let more = ["--set", "data.validation_rows=18"];
    refused(&world, &rows(), &more, 3, &["leaves training without rows", "add rows"]);
}

#[test]
fn bad_data_leave_an_earlier_run_as_it_was() {
    let world = World::new();
    world.train(&["--set", "train.max_steps=2"]).ended(0, &["Succeeded"]);
    let before = world.files("run");
    // Both faults are found after the folder is known to be free: rows, then a model's tokenizer.
    write_model(&world.path("model"), 1000);
    world.train(&["--overwrite"]).ended(4, &["1000 embedding rows"]);
    assert!(world.files("run") == before, "a run that cannot start must not delete another");
    fs::write(world.path("rows.jsonl"), BROKEN).unwrap();
    world.train(&["--overwrite"]).ended(3, &["line 1"]);
    assert!(world.files("run") == before, "a run that cannot start must not delete another");
}

#[test]
fn a_row_dropped_for_its_length_is_no_bad_row() {
    let world = World::new();
    let mut rows = rows();
    let long = "on and on ".repeat(200);
    rows.push(format!("{}\n", chat(&[("user", &long), ("assistant", "Yes.")])));
    fs::write(world.path("rows.jsonl"), rows.concat()).unwrap();
    let drop = ["--set", "data.too_long=drop"];
    world.train(&drop).ended(0, &["1 rows were left out", "Succeeded"]);
    let rejects = fs::read_to_string(world.path("run/rejects.jsonl")).unwrap();
    assert!(rejects.contains("\"line\":19"), "{rejects}");
}
