//! Signals in every stage of a run: what was done is saved, and the run can go on.

#![cfg(target_os = "linux")]

#[path = "support/background.rs"]
mod background;
mod support;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use background::{Background, events, steps};
use serde_json::Value;
use support::{World, rows};

const ADAPTER: &str = "run/adapter/adapter_model.safetensors";
const CUT: &str = "the evaluation was not cut off, or not in time";

/// Evaluations that take about a second.
const SLOW: [&str; 10] = [
    "--set",
    "data.validation=\"held.jsonl\"",
    "--set",
    "eval.generate=128",
    "--set",
    "eval.max_new_tokens=200",
    "--set",
    "train.max_steps=6",
    "--set",
    "train.save_total_limit=9",
];

fn world() -> World {
    let world = World::new();
    let held: String =
        (0..128).flat_map(|index| rows().into_iter().skip(index % 18).take(1)).collect();
    fs::write(world.path("held.jsonl"), held).unwrap();
    world
}

fn of<'e>(events: &'e [Value], kind: &'e str) -> impl Iterator<Item = &'e Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

fn has_begun(events: &[Value]) -> bool {
    of(events, "data").next().is_some()
}

/// Terminates a run once its log is as is awaited, and finishes it; both parts' logs.
fn terminate(world: &World, more: &[&str], awaited: impl Fn(&[Value]) -> bool) -> [Vec<Value>; 2] {
    let more = [&SLOW[..], more].concat();
    let mut run = Background::spawn(world, &more);
    run.wait_for(world, awaited);
    // Into the midst of what comes next.
    sleep(Duration::from_millis(100));
    run.signal("-TERM");
    assert_eq!(run.code(), Some(75));
    let first = events(world, "run");
    assert_eq!(first.last().unwrap()["status"], "preempted");
    let step = steps(&first).last().copied().unwrap_or(0);
    assert!(world.path(&format!("run/checkpoints/step-{step:06}/manifest.json")).is_file());
    assert!(!world.path(ADAPTER).exists(), "a run that was cut off has no result yet");
    world.train(&[&more[..], &["--resume"]].concat()).ended(0, &["Succeeded after 6 steps"]);
    let both = [first, events(world, "run")];
    assert_eq!(steps(&both[1]), [1, 2, 3, 4, 5, 6]);
    both
}

/// The adapter and the evaluations of a run that is left alone.
fn alone(more: &[&str]) -> (Vec<u8>, Vec<(Value, Value)>) {
    let world = world();
    world.train(&[&SLOW[..], more].concat()).ended(0, &["Succeeded after 6 steps"]);
    (fs::read(world.path(ADAPTER)).unwrap(), evaluations(&events(&world, "run")))
}

fn evaluations(events: &[Value]) -> Vec<(Value, Value)> {
    of(events, "eval").map(|it| (it["step"].clone(), it["loss"].clone())).collect()
}

#[test]
fn a_run_terminated_while_the_base_model_is_measured_begins_with_that_again() {
    let world = world();
    let [first, second] = terminate(&world, &[], has_begun);
    assert!(evaluations(&first).is_empty(), "{CUT}: {first:?}");
    let (adapter, wanted) = alone(&[]);
    assert_eq!(evaluations(&second), wanted);
    assert!(fs::read(world.path(ADAPTER)).unwrap() == adapter);
}

#[test]
fn a_run_terminated_in_an_evaluation_makes_it_when_it_goes_on() {
    let more = [
        "--set",
        "train.eval_steps=3",
        "--set",
        "train.load_best_model_at_end=true",
        "--set",
        "train.metric_for_best_model=\"exact_match\"",
    ];
    let world = world();
    let [first, second] = terminate(&world, &more, |log| steps(log).last() == Some(&3));
    assert!(!evaluations(&first).iter().any(|it| it.0 == 3), "{CUT}: {first:?}");
    let (adapter, wanted) = alone(&more);
    assert_eq!(evaluations(&second), wanted);
    assert!(fs::read(world.path(ADAPTER)).unwrap() == adapter);
}

#[test]
fn a_run_terminated_after_its_last_step_goes_on_with_what_follows_it() {
    let world = world();
    let [first, second] = terminate(&world, &[], |log| steps(log).last() == Some(&6));
    assert!(!evaluations(&first).iter().any(|it| it.0 == 6), "{CUT}: {first:?}");
    let (adapter, wanted) = alone(&[]);
    assert_eq!(evaluations(&second), wanted);
    assert!(fs::read(world.path(ADAPTER)).unwrap() == adapter);
}

#[test]
fn a_run_terminated_while_it_loads_has_written_nothing_and_starts_by_resuming() {
    let world = world();
    let run = Background::spawn(&world, &[]);
    let hears = || {
        let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
    };
    while !hears() {
        sleep(Duration::from_micros(200));
    }
    run.signal("-TERM");
    assert_eq!(run.code(), Some(75));
    let left: Vec<_> = world.files("run").into_keys().collect();
    assert!(left.is_empty(), "{left:?}");
    world.train(&["--resume"]).ended(0, &["`--resume` starts one", "Succeeded after 6 steps"]);
}

#[test]
fn a_checkpoint_asked_for_by_a_signal_is_saved_and_the_run_goes_on() {
    let world = World::new();
    let mut run = Background::spawn(&world, &["--set", "train.max_steps=100000"]);
    run.wait_for(&world, |log| steps(log).last() >= Some(&3));
    run.signal("-USR1");
    run.wait_for(&world, |log| of(log, "checkpoint").count() == 1);
    let saved = of(&events(&world, "run"), "checkpoint").next().unwrap()["step"].as_u64().unwrap();
    run.wait_for(&world, |log| steps(log).last() >= Some(&(saved + 5)));
    run.signal("-INT");
    assert_eq!(run.code(), Some(130));
    let log = events(&world, "run");
    assert_eq!(of(&log, "checkpoint").count(), 2, "one was asked for, one is of the end");
    assert!(world.path(&format!("run/checkpoints/step-{saved:06}/manifest.json")).is_file());
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    let world = World::new();
    let mut run = Background::spawn(&world, &["--set", "train.max_steps=100000"]);
    run.wait_for(&world, |log| steps(log).last() >= Some(&3));
    // Two of one kind that wait would be one.
    run.hold();
    for signal in ["-INT", "-TERM", "-CONT"] {
        run.signal(signal);
    }
    assert_eq!(run.code(), Some(130));
    assert!(of(&events(&world, "run"), "finished").next().is_none());
    assert!(!world.path("run/checkpoints").exists(), "nothing is saved");
}

/// `rekindle train` that may write no file as long as an optimizer's state.
fn short_of_room(world: &World, more: &[&str]) -> Command {
    let limited = "trap '' XFSZ; ulimit -f 40; exec \"$0\" train recipe.toml --device cpu --plain \
                   --set method.lora.r=16 --set train.max_steps=6 \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_rekindle")]).args(more);
    command.current_dir(world.path("."));
    command
}

const ROOMY: [&str; 4] = ["--set", "method.lora.r=16", "--set", "train.max_steps=6"];

#[test]
fn a_disk_that_takes_no_checkpoint_ends_the_run_and_what_was_saved_is_whole() {
    let world = World::new();
    world.train(&[&ROOMY[..], &["--output", "whole"]].concat()).ended(0, &[]);
    world.train(&[&ROOMY[..], &["--stop-after", "2"]].concat()).ended(0, &[]);
    let save = ["--set", "train.save_steps=2", "--resume"];
    let output = short_of_room(&world, &save).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    for part in
        ["cannot write `run/checkpoints/.saving-0/", "File too large", "saved before is whole"]
    {
        assert!(said.contains(part), "wanted `{part}` in {said}");
    }
    let names = fs::read_dir(world.path("run/checkpoints")).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["step-000002"]);
    world.train(&[&ROOMY[..], &["--resume"]].concat()).ended(0, &["Succeeded after 6 steps"]);
    let whole = fs::read(world.path(&ADAPTER.replace("run", "whole"))).unwrap();
    assert!(fs::read(world.path(ADAPTER)).unwrap() == whole);
}

#[test]
fn a_run_that_waits_for_its_disk_says_so_and_can_be_stopped() {
    let world = World::new();
    let pause = [
        "--set",
        "train.save_steps=2",
        "--set",
        "train.on_save_error=\"pause\"",
        "--output",
        "run",
    ];
    let mut run = Background::of(short_of_room(&world, &pause));
    let waits = |it: &Value| it["message"].as_str().unwrap().contains("tries again every 30 s");
    run.wait_for(&world, |log| of(log, "warning").any(waits));
    sleep(Duration::from_millis(200));
    run.signal("-TERM");
    assert_eq!(run.code(), Some(6));
    let log = events(&world, "run");
    assert_eq!(of(&log, "warning").filter(|it| waits(it)).count(), 1);
    assert_eq!(log.last().unwrap()["status"], "failed");
}
