//! `rekindle reproduce`: what comes back bit for bit, and what is found that does not.

mod support;

use std::fs;

use serde_json::Value;
use support::{Done, World, rows};

const REPRODUCE: [&str; 4] = ["reproduce", "run", "--device", "cpu"];

fn reproduce(world: &World, more: &[&str]) -> Done {
    world.run(&[&REPRODUCE[..], more].concat())
}

/// A run with evaluations, answers and checkpoints, as whose like none of the defaults is left.
fn finished(more: &[&str]) -> World {
    let world = World::new();
    let first = ["--set", "data.validation_rows=3", "--set", "eval.generate=2"];
    let second = ["--set", "train.eval_steps=3", "--set", "train.save_steps=3"];
    let dropout = ["--set", "method.lora.lora_dropout=0.1", "--set", "report.tensorboard={}"];
    world.train(&[&first[..], &second, &dropout, more].concat()).ended(0, &["Succeeded"]);
    world
}

#[test]
fn a_run_is_reproduced_bit_for_bit() {
    let world = finished(&[]);
    let before = world.files("run");
    let done = reproduce(&world, &[]);
    assert!(world.files("run") == before, "the run itself must stay as it is");
    let wanted = [
        "loss              6 compared: bit-equal",
        "gradient norm     6 compared: bit-equal",
        "evaluation loss   3 compared: bit-equal",
        "weights           bit-equal",
        "adapter/adapter_model.safetensors",
        "checkpoints/step-000006/trainable.safetensors",
        "checkpoints/step-000006/optimizer.safetensors",
        "reproduced: every number has the same bits",
    ];
    done.ended(0, &wanted);
    assert!(!done.said.contains("differs"), "{}", done.said);
    assert!(!world.path("run-reproduced/tensorboard").exists(), "trackers are not told twice");
    // The run itself is never in the way of its reproduction.
    let itself = ["--overwrite", "--output", "./run"];
    reproduce(&world, &itself).ended(2, &["is the folder of the run itself"]);
    assert!(world.files("run") == before);
    // The second time there is a run already.
    reproduce(&world, &[]).ended(2, &["run-reproduced", "--overwrite"]);
    let output = world.command(&[&REPRODUCE[..], &["--overwrite", "--json"]].concat()).output();
    let json: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!((&json["bit_equal"], &json["tolerance"]), (&true.into(), &0.0.into()));
    assert!(json["facts"].as_array().unwrap().iter().all(|it| it["original"] == it["reproduced"]));
}

#[test]
fn a_run_that_was_resumed_is_reproduced_in_one_piece() {
    let world = World::new();
    let save = ["--set", "train.save_steps=2"];
    world.train(&[&save[..], &["--stop-after", "3"]].concat()).ended(0, &["Cancelled"]);
    reproduce(&world, &[]).ended(2, &["has not finished"]);
    world.train(&[&save[..], &["--resume"]].concat()).ended(0, &["Succeeded"]);
    reproduce(&world, &["--output", "again"]).ended(0, &["every number has the same bits"]);
    assert!(world.path("again/adapter").is_dir());
}

#[test]
fn a_changed_row_and_a_changed_model_are_found_before_training() {
    let world = finished(&[]);
    let mut changed = rows();
    changed.swap(3, 4);
    fs::write(world.path("rows.jsonl"), changed.concat()).unwrap();
    reproduce(&world, &[]).ended(3, &["`rows.jsonl` is not what the run was made from"]);
    fs::write(world.path("rows.jsonl"), rows().concat()).unwrap();

    let weights = world.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, &bytes).unwrap();
    reproduce(&world, &[]).ended(4, &["`model` is not what the run was made from"]);
    assert!(!world.path("run-reproduced").exists());
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, &bytes).unwrap();
    reproduce(&world, &[]).ended(0, &["every number has the same bits"]);
}

#[test]
fn a_changed_seed_is_found_at_its_first_step() {
    let world = finished(&[]);
    let plan = world.path("run/plan.toml");
    let text = fs::read_to_string(&plan).unwrap();
    assert!(text.contains("seed = 7"));
    fs::write(&plan, text.replace("seed = 7", "seed = 8")).unwrap();
    let done = reproduce(&world, &[]);
    done.ended(8, &["not reproduced: first differs", "at step 0", "weights", "largest difference"]);
}

#[test]
fn a_number_that_differs_is_named_with_its_step_and_passes_within_the_tolerance() {
    let world = finished(&[]);
    let log = world.path("run/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains("\"event\":\"step\",\"step\":4,")).unwrap();
    let mut event: Value = serde_json::from_str(line).unwrap();
    let norm = event["grad_norm"].as_f64().unwrap();
    event["grad_norm"] = (norm * (1.0 + 1e-4)).into();
    fs::write(&log, text.replace(line, &event.to_string())).unwrap();
    let done = reproduce(&world, &[]);
    let wanted =
        ["first differs gradient norm at step 4", "loss              6 compared: bit-equal"];
    done.ended(8, &wanted);
    let done = reproduce(&world, &["--overwrite", "--tolerance", "1e-3"]);
    done.ended(0, &["gradient norm     6 compared: from step 4 on", "reproduced within"]);
    let done = reproduce(&world, &["--overwrite", "--tolerance", "1e-5"]);
    done.ended(8, &["not reproduced within a relative difference of 0.00001"]);
    reproduce(&world, &["--tolerance", "2"]).ended(2, &["`--tolerance` is no share"]);
}

#[test]
fn every_byte_of_the_model_is_compared_where_the_run_kept_that_hash() {
    let world = finished(&[]);
    reproduce(&world, &["--full-hash"]).ended(2, &["was trained without `--full-hash`"]);
    let world = finished(&["--full-hash"]);
    let done = reproduce(&world, &["--full-hash"]);
    done.ended(0, &["model, whole", "every number has the same bits"]);
    reproduce(&World::new(), &[]).ended(2, &["`run` is no run"]);
}
