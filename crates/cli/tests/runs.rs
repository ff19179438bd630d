//! Run folders: who may write into one, and what an interrupted run gives when it goes on.

#![cfg(unix)]

#[path = "support/background.rs"]
mod background;
mod support;

use std::fs;
use std::path::PathBuf;

use background::{Background, events, steps};
use serde_json::Value;
use support::{Done, World, chat, rows, write_model};

const STEPS_12: [&str; 4] = ["--set", "train.max_steps=12", "--set", "train.save_steps=3"];
const ADAPTER: &str = "adapter/adapter_model.safetensors";

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

fn adapter(world: &World, run: &str) -> Vec<u8> {
    fs::read(world.path(run).join(ADAPTER)).unwrap()
}

fn checkpoints(world: &World, run: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path(run).join("checkpoints")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A run in the background that has done `awaited` steps.
fn begun(world: &World, more: &[&str], awaited: u64) -> Background {
    let mut run = Background::spawn(world, more);
    run.wait_for(world, |events| steps(events).last().is_some_and(|step| *step >= awaited));
    run
}

#[test]
fn another_run_in_the_folder_is_kept() {
    let world = World::new();
    world.train(&[]).ended(0, &["Succeeded after 6 steps"]);
    let before = world.files("run");
    let wanted = ["`run` holds another run", "`--resume`", "`--overwrite`", "another `output`"];
    world.train(&["--set", "seed=8"]).ended(2, &wanted);
    assert!(world.files("run") == before);
    world.train(&["--overwrite", "--set", "seed=8"]).ended(0, &["Succeeded after 6 steps"]);
    assert_ne!(adapter(&world, "run"), before[&world.path("run").join(ADAPTER)]);
}

#[test]
fn a_folder_that_is_no_run_is_never_emptied() {
    let world = World::new();
    fs::create_dir_all(world.path("run/photos")).unwrap();
    fs::write(world.path("run/photos/cat.jpg"), b"meow").unwrap();
    let before = world.files("run");
    world.train(&["--overwrite"]).ended(2, &["`run`", "no run of ours", "not overwritten"]);
    world.train(&["--resume"]).ended(2, &["`run` holds no run to resume", "leave `--resume` out"]);
    assert_eq!(world.files("run"), before);
    assert!(!world.path("run/run.lock").exists());
}

#[test]
fn the_model_folder_is_no_place_for_a_run() {
    let world = World::new();
    let before = world.files("model");
    world.train(&["--output", "model", "--overwrite"]).ended(2, &["`output`", "model"]);
    assert_eq!(world.files("model"), before);
}

#[test]
fn a_run_in_progress_is_locked_and_a_terminated_one_can_be_finished() {
    let world = World::new();
    let steps_300 = ["--set", "train.max_steps=300"];
    let first = begun(&world, &steps_300, 3);
    // Held still, so that it cannot end before the others have met its lock.
    first.hold();
    let id = first.id();
    let before = world.files("run");
    for how in ["--resume", "--overwrite"] {
        let wanted = ["`run` is locked by process", &id, "use another run folder"];
        world.train(&with(&steps_300, &[how])).ended(2, &wanted);
    }
    assert!(world.files("run") == before, "the second process must not touch the run");
    first.signal("-TERM");
    first.signal("-CONT");
    assert_eq!(first.code(), Some(75));
    let left = events(&world, "run");
    assert_eq!(left.last().unwrap()["status"], "preempted");
    let done = *steps(&left).last().unwrap();
    assert!(done < 300);
    let name = format!("checkpoints/step-{done:06}");
    assert!(world.path("run").join(&name).is_dir(), "{:?}", checkpoints(&world, "run"));
    assert!(!world.path("run/adapter").exists());

    world.train(&with(&steps_300, &["--resume"])).ended(0, &["Succeeded after 300 steps"]);
    let all = steps(&events(&world, "run"));
    assert_eq!(all, (1..=300).collect::<Vec<_>>(), "each step is in the log once");
    assert!(world.path("run").join(ADAPTER).is_file());
}

#[test]
fn an_interrupted_run_saves_a_checkpoint_and_ends_with_130() {
    let world = World::new();
    let run = begun(&world, &["--set", "train.max_steps=100000"], 3);
    run.signal("-INT");
    assert_eq!(run.code(), Some(130));
    let left = events(&world, "run");
    assert_eq!(left.last().unwrap()["status"], "cancelled");
    let done = *steps(&left).last().unwrap();
    assert!(world.path(&format!("run/checkpoints/step-{done:06}")).is_dir());
}

#[test]
fn a_run_that_was_killed_gives_the_same_bytes_once_resumed() {
    let world = World::new();
    let run = ["--set", "train.max_steps=300", "--set", "train.save_steps=10"];
    world.train(&with(&run, &["--output", "whole"])).ended(0, &[]);
    let mut resume = Vec::new();
    for awaited in [5, 37, 101] {
        // Before the first checkpoint, then after some: what is lost is done again.
        let killed = begun(&world, &with(&run, &resume), awaited);
        killed.signal("-KILL");
        assert_eq!(killed.code(), None);
        resume = vec!["--resume"];
    }
    world.train(&with(&run, &resume)).ended(0, &["Succeeded after 300 steps"]);
    assert_eq!(steps(&events(&world, "run")), (1..=300).collect::<Vec<_>>());
    assert!(adapter(&world, "run") == adapter(&world, "whole"), "the adapters differ");
    let names: Vec<_> = checkpoints(&world, "run")
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["step-000290", "step-000300"], "nothing half-written is left");
}

#[test]
fn a_resumed_run_gives_the_same_bytes_as_one_that_never_stopped() {
    let world = World::new();
    let noisy = ["--set", "method.lora.lora_dropout=0.1", "--set", "train.micro_batch_size=2"];
    let run = with(&STEPS_12, &noisy);
    world.train(&with(&run, &["--output", "whole"])).ended(0, &["Succeeded after 12 steps"]);
    // Step 7 is no multiple of `save_steps`, and lies in the second pass over the rows.
    world.train(&with(&run, &["--stop-after", "7"])).ended(0, &["Cancelled after 7 steps"]);
    assert!(!world.path("run/adapter").exists(), "a stopped run has no result yet");
    world.train(&with(&run, &["--resume"])).ended(0, &["Succeeded after 12 steps"]);
    assert!(adapter(&world, "run") == adapter(&world, "whole"), "the adapters differ");
    let losses = |run: &str| -> Vec<Value> {
        let events = events(&world, run);
        events.iter().filter(|it| it["event"] == "step").map(|it| it["loss"].clone()).collect()
    };
    assert_eq!(losses("run"), losses("whole"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let world = World::new();
    world.train(&with(&STEPS_12, &["--output", "whole"])).ended(0, &[]);
    world.train(&with(&STEPS_12, &["--stop-after", "6"])).ended(0, &["Cancelled after 6 steps"]);
    let newest = checkpoints(&world, "run").pop().unwrap();
    assert!(newest.ends_with("step-000006"), "{newest:?}");
    let weights = newest.join("trainable.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();

    let named = ["--resume=run/checkpoints/step-000006"];
    let wanted = ["step-000006", "trainable.safetensors"];
    world.train(&with(&STEPS_12, &named)).ended(4, &wanted);
    let wanted = ["warning: ", "step-000006", "trainable.safetensors", "step 4/12"];
    let done = world.train(&with(&STEPS_12, &["--resume"]));
    done.ended(0, &wanted);
    assert!(!done.said.contains("step 3/12"), "{}", done.said);
    assert!(adapter(&world, "run") == adapter(&world, "whole"), "the adapters differ");
}

#[test]
fn a_run_with_no_whole_checkpoint_is_not_started_anew_behind_the_users_back() {
    let world = World::new();
    world.train(&with(&STEPS_12, &["--stop-after", "2"])).ended(0, &["Cancelled after 2 steps"]);
    for checkpoint in checkpoints(&world, "run") {
        fs::remove_file(checkpoint.join("manifest.json")).unwrap();
    }
    let before = world.files("run");
    world.train(&with(&STEPS_12, &["--resume"])).ended(4, &["step-000002", "manifest.json"]);
    assert!(world.files("run") == before);
}

#[test]
fn a_run_without_checkpoints_is_resumed_from_the_start_under_its_own_settings_alone() {
    let world = World::new();
    world.train(&[]).ended(0, &["Succeeded after 6 steps"]);
    let before = world.files("run");
    let changed = ["--resume", "--set", "method.lora.r=2"];
    world.train(&changed).ended(2, &["`method.lora.r` was 4, now 2", "start a new run"]);
    assert!(world.files("run") == before, "a refused resumption must not change the run");
    world.train(&["--resume"]).ended(0, &["step 1/6", "Succeeded after 6 steps"]);
    assert_eq!(adapter(&world, "run"), before[&world.path("run").join(ADAPTER)]);
}

#[test]
fn a_resumed_run_keeps_its_settings_and_its_data() {
    let world = World::new();
    let stopped: Done = world.train(&["--stop-after", "2"]);
    stopped.ended(0, &["Cancelled after 2 steps"]);
    let before = world.files("run");
    let changed = ["--resume", "--set", "train.learning_rate=3e-3"];
    let wanted = ["`train.learning_rate` was 0.01, now 0.003", "restore these values"];
    world.train(&changed).ended(2, &wanted);
    assert!(world.files("run") == before, "a refused resumption must not change the run");
    let mut more = rows();
    more.push(format!("{}\n", chat(&[("user", "One more?"), ("assistant", "Yes.")])));
    fs::write(world.path("rows.jsonl"), more.concat()).unwrap();
    world.train(&["--resume"]).ended(3, &["`rows.jsonl` has changed", "restore the file"]);
    assert!(world.files("run") == before, "a refused resumption must not change the run");
}

#[test]
fn a_misspelt_key_is_shown_at_its_place_with_the_right_one() {
    let world = World::new();
    let recipe = world.path("recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("learning_rate", "lerning_rate")).unwrap();
    world
        .train(&[])
        .ended(2, &["recipe.toml:17", "`lerning_rate`", "did you mean", "learning_rate`"]);
    assert!(!world.path("run").exists());
}

#[test]
fn values_out_of_range_are_all_named_at_once() {
    let world = World::new();
    let bad = ["--set", "train.learning_rate=-1.0", "--set", "train.batch_size=0"];
    let done = world.train(&bad);
    done.ended(2, &["`train.learning_rate` is", "`train.batch_size` is"]);
    assert!(!done.said.contains("error: error"), "{}", done.said);
    assert!(!world.path("run").exists());
}

/// What `eval --json` says of a model and its adapter.
fn eval(world: &World, adapter: &str) -> Done {
    let arguments = ["eval", "--model", "model", "--adapter", adapter, "--data", "rows.jsonl"];
    let output = world.command(&[&arguments[..], &["--device", "cpu", "--json"]].concat()).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    Done { code: output.status.code(), said: String::from_utf8(said).unwrap() }
}

#[test]
fn an_exported_adapter_reads_back_and_does_what_was_trained() {
    let world = World::new();
    fs::copy(world.path("rows.jsonl"), world.path("held.jsonl")).unwrap();
    let more = ["--json", "--set", "data.validation=held.jsonl"];
    let trained = world.train(&with(&STEPS_12, &more));
    trained.ended(0, &[]);
    let json = |said: &str| -> Value {
        let line = said.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let (summary, read) = (json(&trained.said), eval(&world, "run/adapter"));
    read.ended(0, &[]);
    let read = json(&read.said);
    for side in ["base", "tuned"] {
        let loss = |json: &Value| json[side]["loss"]["loss"].as_f64().unwrap();
        assert!((loss(&summary) - loss(&read)).abs() < 1e-6, "{side}: {summary} {read}");
    }
    let loss = |side: &str| read[side]["loss"]["loss"].as_f64().unwrap();
    assert!(loss("tuned") < loss("base"), "{read}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let world = World::new();
    world.train(&[]).ended(0, &["Succeeded"]);
    write_model(&world.path("model"), 1536);
    let path = world.path("run/adapter/adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["r"] = 2.into();
    fs::write(&path, config.to_string()).unwrap();
    eval(&world, "run/adapter").ended(4, &["lora_A", "[4, 32]", "[2, 32]"]);
    fs::remove_file(world.path("run").join(ADAPTER)).unwrap();
    eval(&world, "run/adapter").ended(6, &["adapter_model.safetensors"]);
}
