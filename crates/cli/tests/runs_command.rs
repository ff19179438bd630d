//! `rekindle runs` on real run folders, whole, damaged and in progress.

#![cfg(unix)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::World;

/// Two finished runs, `runs/a` and `runs/b`, the second with another rank.
fn two_runs() -> World {
    let world = World::new();
    let held = ["--set", "data.validation_rows=3", "--set", "eval.generate=2"];
    let with = |more: &[&str]| world.train(&[&held[..], more].concat()).ended(0, &["Succeeded"]);
    with(&["--output", "runs/a"]);
    with(&["--output", "runs/b", "--set", "method.lora.r=2"]);
    world
}

fn json(world: &World, arguments: &[&str]) -> Value {
    let output = world.command(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A run of many steps in the background, killed when the test ends.
struct Background(Child);

impl Background {
    fn start(world: &World) -> Self {
        let arguments =
            ["train", "recipe.toml", "--device", "cpu", "--plain", "--output", "runs/r"];
        let mut command = world.command(&arguments);
        command.args(["--set", "train.max_steps=100000"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let log = world.path("runs/r/events.jsonl");
        while !fs::read_to_string(&log).unwrap_or_default().contains("\"step\":2,") {
            assert!(Instant::now() < deadline, "the run does not begin");
            sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has mostly ended already; then there is nothing to kill.
        let _ended = self.0.kill();
        let _code = self.0.wait();
    }
}

#[test]
fn finished_runs_are_listed_shown_drawn_and_compared() {
    let world = two_runs();
    world.run(&["runs", "list"]).ended(0, &["name", "eval loss", "a     finished", "6/6", "KiB"]);
    let list = json(&world, &["runs", "list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&"a".into(), &"b".into()));
    assert_eq!(list[1]["steps"], 6);

    let wanted = [
        "status      finished",
        "method.lora.r = 4",
        "15 training rows, 3 validation rows",
        "device",
        "step 6: validation loss",
        "adapter: runs/a/adapter",
    ];
    world.run(&["runs", "show", "a"]).ended(0, &wanted);
    let shown = json(&world, &["runs", "show", "runs/a", "--json"]);
    assert_eq!(shown["evals"].as_array().unwrap().len(), 2);
    assert_eq!(shown["samples"].as_array().unwrap().len(), 4, "base and tuned, two each");
    assert_eq!(shown["data"]["train_rows"], 15);
    assert_eq!(shown["data"]["blake3"].as_str().unwrap().len(), 64);
    assert_eq!(shown["environment"]["features"][0], "flex");
    assert_eq!(shown["settings"]["seed"], "7");

    let chart = world.run(&["runs", "chart", "a", "--ascii", "--width", "60", "--height", "8"]);
    chart.ended(0, &["loss (nats per token)", "*"]);
    assert!(chart.said.is_ascii() && chart.said.lines().count() == 8, "{}", chart.said);
    world.run(&["runs", "chart", "a", "--svg", "a.svg"]).ended(0, &["a.svg"]);
    assert!(fs::read_to_string(world.path("a.svg")).unwrap().starts_with("<svg"));

    let compared = world.run(&["runs", "compare", "a", "b"]);
    compared.ended(0, &["method.lora.r", "output", "  tuned", "tokens/s", "exact match"]);
    assert!(!compared.said.contains("seed"), "{}", compared.said);
    let compared = json(&world, &["runs", "compare", "a", "b", "--json"]);
    assert_eq!(compared["settings"]["method.lora.r"], serde_json::json!(["4", "2"]));
    assert!(compared["runs"][1]["tuned_loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_report_page_is_there_and_names_what_was_trained() {
    let world = two_runs();
    let page = fs::read_to_string(world.path("runs/a/report.html")).unwrap();
    for wanted in ["<h1>a</h1>", "tuned", ">Gradient norm</text>", "method.lora", "Answers"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("<script"));
}

#[test]
fn what_is_no_run_is_answered_with_what_there_is() {
    let world = two_runs();
    world.run(&["runs", "show", "c"]).ended(2, &["`c` is no run", "a, b"]);
    world
        .run(&["runs", "show", "a", "--dir", "model"])
        .ended(2, &["`model` holds no runs", "--dir"]);
    world.run(&["runs", "list", "--dir", "none"]).ended(2, &["`none` is no folder", "--dir"]);
    world.run(&["runs", "list", "--dir", "model"]).ended(0, &["no runs in `model`"]);
    assert_eq!(json(&world, &["runs", "list", "--dir", "model", "--json"]), serde_json::json!([]));
    world.run(&["runs", "compare", "a"]).ended(2, &["2 values required"]);
    world.run(&["runs", "chart", "a", "--svg", "none/a.svg"]).ended(6, &["none/a.svg"]);
}

#[test]
fn torn_and_newer_logs_are_read_and_damaged_ones_named() {
    let world = two_runs();
    let path = world.path("runs/a/events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let newer = "{\"time\":9e9,\"event\":\"moon_phase\",\"step\":[],\"phase\":1}\n";
    let torn =
        text.replacen("\"step\":1,", "\"step\":1,\"mood\":\"new\",", 1) + newer + "{\"time\":3";
    fs::write(&path, torn).unwrap();
    let wanted = ["finished", "6/6", "1 events of a newer version are not shown"];
    world.run(&["runs", "show", "a"]).ended(0, &wanted);
    fs::write(&path, format!("not JSON\n{text}")).unwrap();
    world.run(&["runs", "list"]).ended(0, &["line 1 is no event", "crashed", "finished"]);
    world.run(&["runs", "show", "a"]).ended(0, &["damaged", "line 1 is no event", "seed = 7"]);
    fs::remove_file(&path).unwrap();
    world.run(&["runs", "chart", "a"]).ended(0, &["nothing yet"]);
}

#[test]
fn a_run_in_progress_can_be_stopped_and_not_removed() {
    let world = World::new();
    let mut run = Background::start(&world);
    let id = run.0.id().to_string();
    world.run(&["runs", "list"]).ended(0, &["running", "/100000"]);
    world.run(&["runs", "show", "r"]).ended(0, &[&format!("running as process {id}"), "left"]);
    world.run(&["runs", "rm", "r", "--yes"]).ended(2, &["locked by process", &id]);
    assert!(world.path("runs/r/plan.toml").exists());
    world.run(&["runs", "stop", "r"]).ended(0, &[&format!("asked process {id}"), "--resume"]);
    assert_eq!(run.0.wait().unwrap().code(), Some(75));
    world.run(&["runs", "list"]).ended(0, &["stopped"]);
    world.run(&["runs", "stop", "r"]).ended(2, &["`runs/r` is not running: it is stopped"]);
    world.run(&["runs", "rm", "r"]).ended(2, &["nobody can be asked", "--yes"]);
    world.run(&["runs", "rm", "r", "--yes"]).ended(0, &["removed runs/r"]);
    assert!(!world.path("runs/r").exists());
}

#[test]
fn a_process_that_does_not_hold_the_lock_is_never_signalled() {
    let world = World::new();
    world.train(&["--output", "runs/r"]).ended(0, &[]);
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let path = world.path("runs/r/run.lock");
    // This test holds the lock, and the file names another process.
    let mut lock = fs::File::options().write(true).open(&path).unwrap();
    lock.lock().unwrap();
    lock.set_len(0).unwrap();
    writeln!(lock, "{}", bystander.id()).unwrap();
    if cfg!(target_os = "linux") {
        let wanted = ["is not the one that holds it here", &bystander.id().to_string()];
        world.run(&["runs", "stop", "r"]).ended(2, &wanted);
        assert!(bystander.try_wait().unwrap().is_none(), "it must live on");
    }
    lock.set_len(0).unwrap();
    world.run(&["runs", "stop", "r"]).ended(2, &["names no process"]);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_killed_run_is_crashed_and_folders_that_are_not_ours_stay() {
    let world = World::new();
    let mut run = Background::start(&world);
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    world.run(&["runs", "list"]).ended(0, &["crashed"]);
    world.run(&["runs", "stop", "r"]).ended(2, &["is not running: it is crashed"]);
    let before = world.files("model");
    world.run(&["runs", "rm", "model", "--yes"]).ended(2, &["no run of ours"]);
    assert_eq!(world.files("model"), before);
    std::os::unix::fs::symlink(world.path("runs/r"), world.path("runs/link")).unwrap();
    world.run(&["runs", "rm", "link", "--yes"]).ended(2, &["is a link"]);
    world.run(&["runs", "rm", "none", "--yes"]).ended(2, &["`none` is no run"]);
    assert!(world.path("runs/r/plan.toml").exists());
}
