//! `rekindle plan` and `rekindle doctor --invariance`: what is known before a run.

mod support;

use std::fs;

use serde_json::Value;
use support::World;

fn json(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = world.command(&[arguments, &["--json"]].concat()).output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "{err}");
    serde_json::from_slice(&out).unwrap()
}

fn plan(world: &World, more: &[&str], code: i32) -> Value {
    json(world, &[&["plan", "recipe.toml", "--device", "cpu"], more].concat(), code)
}

#[test]
fn steps_and_tokens_are_those_that_the_run_then_has() {
    let world = World::new();
    let set = ["--set", "data.packing=bfd"];
    let found = plan(&world, &set, 0);
    world.train(&set).ended(0, &["Succeeded"]);
    let events = fs::read_to_string(world.path("run/events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let steps: Vec<_> = events.iter().filter(|it| it["event"] == "step").collect();
    assert_eq!(found["forecast"]["steps"], steps.len());
    let tokens: u64 = steps.iter().map(|it| it["tokens"].as_u64().unwrap()).sum();
    // Whole passes over the data; a run may end within one.
    let planned = found["forecast"]["target_tokens"].as_u64().unwrap();
    assert!(planned.abs_diff(tokens) * 5 < tokens, "{planned} and {tokens}");
    let started = events.iter().find(|it| it["event"] == "run_started").unwrap();
    assert_eq!(found["forecast"]["trainable_parameters"], started["trainable_parameters"]);
    assert_eq!(found["forecast"]["total_parameters"], started["total_parameters"]);
}

#[test]
fn the_optimizer_and_the_checkpoint_have_the_bytes_that_are_planned() {
    let world = World::new();
    for optimizer in ["adamw", "adamw_8bit", "lion"] {
        let set = format!("train.optimizer.{optimizer}={{}}");
        let more = ["--set", &set, "--set", "train.max_steps=2"];
        let found = plan(&world, &more, 0);
        let save = ["--overwrite", "--set", "train.save_steps=2"];
        world.train(&[&more[..], &save].concat()).ended(0, &[]);
        let size = |name: &str| {
            let path = world.path(&format!("run/checkpoints/step-000002/{name}.safetensors"));
            let bytes = fs::read(path).unwrap();
            safetensors::SafeTensors::deserialize(&bytes)
                .unwrap()
                .iter()
                .filter(|(name, _)| !name.ends_with(".steps"))
                .map(|(_, view)| view.data().len() as u64)
                .sum::<u64>()
        };
        let checkpoint = found["forecast"]["checkpoint_bytes"].as_u64().unwrap();
        assert_eq!(checkpoint, size("trainable") + size("optimizer"), "{optimizer}");
    }
}

#[test]
fn what_does_not_fit_ends_with_5_and_with_changes_that_help() {
    let world = World::new();
    let full = ["--set", "method.full={}"];
    let all = plan(&world, &full, 0);
    let peak = all["forecast"]["peak_bytes"].as_u64().unwrap();
    let memory = (peak - 1).to_string();
    let tight = plan(&world, &[&full[..], &["--memory", &memory]].concat(), 5);
    assert_eq!(tight["over_budget"], true);
    let changes = tight["changes"].as_array().unwrap();
    assert!((1..=3).contains(&changes.len()), "{changes:?}");
    for change in changes {
        let set = change["set"].as_str().unwrap();
        let changed = plan(&world, &[&full[..], &["--set", set]].concat(), 0);
        assert!(changed["forecast"]["peak_bytes"].as_u64().unwrap() < peak, "{set}");
    }
    let said = world.run(&["plan", "recipe.toml", "--device", "cpu", "--memory", "1MiB"]);
    said.ended(5, &["this does not fit", "--set train.micro_batch_size=2", "there is"]);
    let said = world.run(&["plan", "recipe.toml", "--device", "cpu", "--memory", "3 parsecs"]);
    said.ended(2, &["`parsecs` is no unit of memory"]);
}

#[test]
fn all_ways_of_computing_a_step_agree_on_the_users_own_rows() {
    let world = World::new();
    let doctor = ["doctor", "--invariance", "-c", "recipe.toml", "--device", "cpu"];
    for method in ["method.lora={}", "method.full={}"] {
        let found = json(&world, &[&doctor[..], &["--set", method]].concat(), 0);
        let deviations = found["deviations"].as_array().unwrap();
        assert_eq!(deviations.len(), 6, "{found}");
        for it in deviations {
            let (gradient, limit) = (it["gradient"].as_f64().unwrap(), it["limit"].as_f64());
            assert!(gradient <= limit.unwrap() && limit.unwrap() < 1e-4, "{it}");
        }
        // They are computed in other orders: not all can be equal to the last bit.
        assert!(deviations.iter().any(|it| it["gradient"].as_f64().unwrap() > 0.0), "{found}");
    }
    world.run(&doctor).ended(0, &["4 rows", "all rows packed into one", "all blocks run again"]);
}

/// What the run would refuse is refused here, before the user has waited for anything.
#[test]
fn a_model_that_cannot_take_the_rows_is_refused_as_in_training() {
    let world = World::new();
    let config = world.path("model/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut numbers: Value = serde_json::from_str(&text).unwrap();
    numbers["max_position_embeddings"] = 32.into();
    numbers["rope_scaling"] = serde_json::json!({ "rope_type": "dynamic", "factor": 2.0 });
    fs::write(&config, numbers.to_string()).unwrap();
    let packed = ["--device", "cpu", "--set", "data.packing=bfd"];
    let commands = [
        &["train", "recipe.toml"][..],
        &["plan", "recipe.toml"],
        &["doctor", "--invariance", "-c", "recipe.toml"],
    ];
    for command in commands {
        let said = world.run(&[command, &packed].concat());
        said.ended(2, &["data.max_tokens", "by other angles"]);
    }
}

#[test]
fn nothing_is_written() {
    let world = World::new();
    let before = world.files(".");
    plan(&world, &[], 0);
    world.run(&["doctor", "--invariance", "-c", "recipe.toml", "--device", "cpu"]).ended(0, &[]);
    assert_eq!(world.files("."), before);
}

#[test]
fn a_comparison_needs_a_recipe_that_can_be_read() {
    let world = World::new();
    world.run(&["doctor", "--invariance"]).ended(2, &["--config <RECIPE>"]);
    let missing = ["doctor", "--invariance", "-c", "nowhere.toml", "--device", "cpu"];
    world.run(&missing).ended(6, &["`nowhere.toml`"]);
}
