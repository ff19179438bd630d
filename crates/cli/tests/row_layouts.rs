//! Rows that are too long, and rows that are packed, put behind each other or grouped.

mod support;

use std::fs;

use serde_json::Value;
use support::{World, chat, rows};

/// `events.jsonl` of the world's run.
fn events(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.path("run/events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Loss and target tokens of the first update, and the number of updates.
fn first_step(world: &World) -> (f64, u64, u64) {
    let events = events(world);
    let step = events.iter().find(|event| event["event"] == "step").unwrap();
    let number = |key: &str| step[key].as_u64().unwrap();
    (step["loss"].as_f64().unwrap(), number("tokens"), number("total_steps"))
}

/// A pass over all rows in one update, laid out as `more` says.
fn one_pass(more: &[&str]) -> (f64, u64, u64) {
    let world = World::new();
    let recipe = fs::read_to_string(world.path("recipe.toml")).unwrap();
    let recipe = recipe.replace("max_steps = 6", "num_epochs = 1").replace("warmup_steps = 2", "");
    fs::write(world.path("recipe.toml"), recipe).unwrap();
    let all = ["--set", "train.batch_size=18", "--set", "train.micro_batch_size=4"];
    world.train(&[&all, more].concat()).ended(0, &["Succeeded"]);
    first_step(&world)
}

#[test]
fn every_layout_of_a_pass_has_the_same_loss_over_the_same_tokens() {
    let (loss, tokens, steps) = one_pass(&[]);
    assert_eq!(steps, 1);
    for layout in ["packing=bfd", "batching=padding_free", "group_by_length=true"] {
        let found = one_pass(&["--set", &format!("data.{layout}")]);
        assert_eq!((found.1, found.2), (tokens, 1), "{layout}");
        assert!((found.0 - loss).abs() < 1e-5 * loss, "{layout}: {} and {loss}", found.0);
    }
}

#[test]
fn a_batch_larger_than_the_data_is_told() {
    let world = World::new();
    let more = ["--set", "train.batch_size=99", "--set", "train.max_steps=2"];
    let said =
        "`train.batch_size` is 99, but there are only 18 training rows, so every update has 18";
    world.train(&more).ended(0, &[said, "Succeeded"]);
    let packed = [&more[..], &["--overwrite", "--set", "data.packing=bfd"]].concat();
    world.train(&packed).ended(0, &["`train.batch_size` is 99", "packed rows", "Succeeded"]);
}

/// A world with one row beyond its 64 tokens, on line 19.
fn with_a_long_row() -> World {
    let world = World::new();
    let long = chat(&[("user", &"on and on ".repeat(60)), ("assistant", "Yes. ")]);
    fs::write(world.path("rows.jsonl"), rows().concat() + &format!("{long}\n")).unwrap();
    world
}

#[test]
fn what_becomes_of_long_rows_is_told() {
    let world = with_a_long_row();
    for (policy, said) in [
        ("truncate_left", "1 of 19 rows are too long: 1 cut; the longest has "),
        ("split", "1 of 19 rows are too long: 1 split into 1 samples and "),
        ("drop", "1 of 19 rows are too long: 1 dropped; the longest has "),
    ] {
        let policy = format!("data.too_long={policy}");
        let more =
            ["--overwrite", "--set", "train.max_steps=1", "--set", "train.schedule.cosine={}"];
        let more = [&more[..], &["--set", &policy]].concat();
        world.train(&more).ended(0, &["with `data.max_tokens = 64`, ", said, "(line 19)"]);
    }
    let more = ["--set", "data.on_bad_row=skip", "--set", "train.max_steps=2", "--overwrite"];
    let said = "1 of 19 rows are too long: 1 dropped as no target was left; the longest has ";
    world.train(&more).ended(0, &[said, "1 rows were left out"]);
}

#[test]
fn more_long_rows_than_allowed_stop_the_run_before_it_starts() {
    let world = with_a_long_row();
    for policy in ["truncate_left", "split", "drop"] {
        let policy = format!("data.too_long={policy}");
        let more = ["--set", &policy, "--set", "data.max_truncated=0.05"];
        let wanted = ["1 of 19 rows are too long", "(line 19)", "share of 0.05", "raise `data.max"];
        world.train(&more).ended(3, &wanted);
        assert!(world.files("run").is_empty());
        let more = ["--set", &policy, "--set", "data.max_truncated=0.06"];
        world.train(&[&more[..], &["--overwrite"]].concat()).ended(0, &["Succeeded"]);
        fs::remove_dir_all(world.path("run")).unwrap();
    }
}

#[test]
fn a_preview_counts_long_rows_and_what_packing_would_fill() {
    let world = with_a_long_row();
    let first = ["data", "preview", "rows.jsonl", "--model", "model", "--plain", "-n", "30"];
    let preview = |more: &[&str]| world.run(&[&first, more].concat());
    let limit = ["--max-tokens", "64", "--too-long"];
    let split = preview(&[&limit[..], &["split"]].concat());
    split.ended(0, &["1 split into 1 samples", "(line 19)", "row 19 from token ", "fill"]);
    assert!(split.said.contains("packed, 19 samples fill "), "{}", split.said);
    preview(&[&limit[..], &["drop"]].concat()).ended(0, &["1 dropped", "packed, 18 samples"]);
    preview(&[&limit[..], &["error"]].concat()).ended(3, &["line 19"]);
    preview(&[&limit[..], &["cut"]].concat()).ended(2, &["wanted truncate_right"]);
    preview(&["--max-tokens", "0"]).ended(3, &["hold no target"]);
}
