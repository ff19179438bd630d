//! A run stopped at any of its steps goes on as if it had not been.

#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::World;

/// All that is random, kept or counted from step to step.
const SETTINGS: [&str; 9] = [
    "train.max_steps=1",
    "method.lora.lora_dropout=0.1",
    "train.micro_batch_size=2",
    "train.neftune_noise_alpha=5.0",
    "train.ema_decay=0.9",
    "train.eval_steps=2",
    "train.save_steps=3",
    "train.save_total_limit=2",
    "data.validation_rows=4",
];

fn train(world: &World, settings: &[&str], output: &str, more: &[&str]) {
    let mut arguments = vec!["--output", output];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(more);
    world.train(&arguments).ended(0, &[]);
}

/// What is told of a run: losses by step, and evaluations.
fn told(world: &World, run: &str) -> [Vec<(u64, Value)>; 2] {
    let text = fs::read_to_string(world.path(run).join("events.jsonl")).unwrap();
    let events: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    ["step", "eval"].map(|kind| {
        let of = events.iter().filter(|it| it["event"] == kind);
        of.map(|it| (it["step"].as_u64().unwrap(), it["loss"].clone())).collect()
    })
}

/// The weights, averages, optimizer state and place of the last checkpoint, and the adapter.
fn made(world: &World, run: &str, steps: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let checkpoint = format!("{run}/checkpoints/step-{steps:06}");
    let mut files = world.files(&checkpoint);
    files.extend(world.files(&format!("{run}/adapter")));
    assert!(files.len() >= 7, "{:?}", files.keys());
    files.into_iter().map(|(path, it)| (path.file_name().unwrap().into(), it)).collect()
}

/// Stops a run of two passes over the rows after each of its steps, and finishes it.
fn stop_everywhere(layout: &str, steps: u64) {
    let world = World::new();
    let mut settings = SETTINGS.to_vec();
    settings.push(layout);
    let length = format!("train.max_steps={steps}");
    settings[0] = &length;
    train(&world, &settings, "whole", &[]);
    let (whole, wanted) = (told(&world, "whole"), made(&world, "whole", steps));
    assert_eq!(whole[0].len() as u64, steps);
    for stop in 1..steps {
        let run = format!("run-{stop}");
        train(&world, &settings, &run, &["--stop-after", &stop.to_string()]);
        assert_eq!(told(&world, &run)[0], whole[0][..stop as usize], "stopped after {stop}");
        train(&world, &settings, &run, &["--resume"]);
        assert_eq!(told(&world, &run), whole, "stopped after {stop}");
        assert!(made(&world, &run, steps) == wanted, "stopped after {stop}");
        fs::remove_dir_all(world.path(&run)).unwrap();
    }
}

// Four of the 18 rows are held out, which leaves four steps of four rows, the last with two. The
// stops lie before and after evaluations, saves, both at once, and the end of the first pass.

#[test]
fn padded_rows_go_on_after_any_step() {
    stop_everywhere("data.batching=\"padded\"", 8);
}

#[test]
fn packed_rows_go_on_after_any_step() {
    stop_everywhere("data.packing=\"bfd\"", 8);
}

#[test]
fn rows_without_padding_go_on_after_any_step() {
    stop_everywhere("data.batching=\"padding_free\"", 8);
}

#[test]
fn whatever_differs_from_the_beginning_is_listed() {
    let world = World::new();
    world.train(&["--stop-after", "2"]).ended(0, &[]);
    let before = world.files("run");
    let changed = [
        ("train.learning_rate=3e-3", "`train.learning_rate` was 0.01, now 0.003"),
        ("train.batch_size=2", "`train.batch_size` was 4, now 2"),
        ("method.lora.r=2", "`method.lora.r` was 4, now 2"),
        ("seed=8", "`seed` was 7, now 8"),
        ("train.max_steps=7", "`train.max_steps` was 6, now 7"),
        ("train.optimizer.lion={}", "`train.optimizer."),
    ];
    let mut all = vec!["--resume"];
    for (setting, told) in changed {
        all.extend(["--set", setting]);
        world.train(&["--resume", "--set", setting]).ended(2, &[told, "start a new run"]);
    }
    let wanted: Vec<_> = changed.iter().map(|it| it.1).collect();
    world.train(&all).ended(2, &wanted);
    assert!(world.files("run") == before, "a refused resumption must not change the run");
    // What says how often something is done, and where it goes, is free.
    let free = ["train.save_steps=2", "train.save_total_limit=1", "train.on_save_error=\"pause\""];
    let free = free.iter().flat_map(|it| ["--set", *it]);
    let free: Vec<_> = ["--resume"].into_iter().chain(free).collect();
    world.train(&free).ended(0, &["Succeeded after 6 steps"]);
}

#[test]
fn another_device_or_version_is_told_and_not_refused() {
    let world = World::new();
    world.train(&["--stop-after", "2"]).ended(0, &[]);
    let folder = world.path("run/checkpoints/step-000002");
    let text = fs::read_to_string(folder.join("state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    assert!(state["extra"]["device"].is_string(), "{state}");
    state["extra"]["device"] = "Abacus".into();
    state["version"] = "0.0.9".into();
    let text = state.to_string();
    fs::write(folder.join("state.json"), &text).unwrap();
    sign(&folder, "state.json", text.as_bytes());
    let wanted = ["up to step 2 the run was on Abacus", "saved by version 0.0.9", "Succeeded"];
    world.train(&["--resume"]).ended(0, &wanted);
}

#[test]
fn a_checkpoint_of_another_layout_is_refused_with_the_version_that_wrote_it() {
    let world = World::new();
    world.train(&["--stop-after", "2"]).ended(0, &[]);
    let folder = world.path("run/checkpoints/step-000002");
    let text = fs::read_to_string(folder.join("state.json")).unwrap();
    for (layout, version) in [(1, "0.0.1"), (99, "7.0.0")] {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        state["layout"] = layout.into();
        state["version"] = version.into();
        state["unheard_of"] = 1.into();
        fs::write(folder.join("state.json"), state.to_string()).unwrap();
        let wanted = [&format!("layout {layout}"), version, "train from the start"];
        world.train(&["--resume"]).ended(4, &wanted);
        world.train(&["--resume=run/checkpoints/step-000002"]).ended(4, &wanted);
    }
}

/// Writes a file's size and hash into the manifest beside it.
fn sign(folder: &std::path::Path, name: &str, bytes: &[u8]) {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["files"][name]["bytes"] = bytes.len().into();
    manifest["files"][name]["blake3"] = blake3::hash(bytes).to_hex().to_string().into();
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_torn_last_line_of_the_log_is_dropped_and_no_step_stands_there_twice() {
    let world = World::new();
    world.train(&["--stop-after", "4"]).ended(0, &[]);
    let log = world.path("run/events.jsonl");
    let mut text = fs::read_to_string(&log).unwrap();
    text.push_str("{\"time\":1.0,\"event\":\"step\",\"step\":5,\"to");
    fs::write(&log, text).unwrap();
    world.run(&["runs", "show", "run"]).ended(0, &["4"]);
    world.train(&["--resume"]).ended(0, &["Succeeded after 6 steps"]);
    let steps: Vec<_> = told(&world, "run")[0].iter().map(|it| it.0).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_run_that_was_cut_off_before_it_wrote_anything_is_started_by_resuming_it() {
    let world = World::new();
    for left in [None, Some("run.lock"), Some(".writing-x1")] {
        let run = world.path("run");
        if let Some(left) = left {
            fs::create_dir(&run).unwrap();
            fs::write(run.join(left), "").unwrap();
        }
        let wanted = ["`run` holds no run yet; `--resume` starts one", "Succeeded after 6 steps"];
        world.train(&["--resume"]).ended(0, &wanted);
        assert!(!run.join(".writing-x1").exists());
        fs::remove_dir_all(run).unwrap();
    }
    world.train(&["--resume=run/checkpoints/step-000001"]).ended(2, &["holds no run to resume"]);
}
