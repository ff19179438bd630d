//! Runs in odd places and with odd data: long names, dumb terminals, little memory, short rows.

#![cfg(unix)]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Done, World};

#[test]
fn a_run_may_have_the_longest_name_there_is() {
    let world = World::new();
    let longest = "r".repeat(255);
    let run = ["--output", &longest, "--set", "train.save_steps=2"];
    world.train(&[&run[..], &["--stop-after", "3"]].concat()).ended(0, &["Cancelled after 3"]);
    world.train(&[&run[..], &["--resume"]].concat()).ended(0, &["Succeeded after 6 steps"]);
    let longer = "r".repeat(256);
    let done = world.train(&["--output", &longer]);
    done.ended(6, &["run.lock", "too long", "use a run folder that can be written to"]);
}

#[test]
fn a_link_planted_at_the_name_of_a_checkpoint_is_replaced_and_not_followed() {
    let world = World::new();
    world.train(&["--stop-after", "2"]).ended(0, &[]);
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::write(world.path("elsewhere/precious"), "kept").unwrap();
    for name in ["step-000004", ".saving-0"] {
        let link = world.path("run/checkpoints").join(name);
        std::os::unix::fs::symlink(world.path("elsewhere"), link).unwrap();
    }
    let before = world.files("elsewhere");
    world.train(&["--resume", "--set", "train.save_steps=2"]).ended(0, &["Succeeded"]);
    assert!(world.files("elsewhere") == before);
    assert!(world.path("run/checkpoints/step-000004/manifest.json").is_file());
}

#[test]
fn the_rows_of_steps_that_are_not_finite_are_written_down() {
    let world = World::new();
    let weights = world.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    // The last tensor of the file is the last norm.
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let micro = ["--set", "train.micro_batch_size=2", "--allow-nonfinite-base"];
    world.train(&micro).ended(7, &["3 steps in a row", "`run/nonfinite-step-3.json`"]);
    let dump = fs::read(world.path("run/nonfinite-step-3.json")).unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    let steps = dump["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    let mut seen = Vec::new();
    for step in steps {
        assert_eq!(step["loss"], "NaN");
        let samples = step["micro_batch_samples"].as_array().unwrap();
        assert_eq!(samples.len(), 2);
        let rows = samples.iter().flat_map(|it| it.as_array().unwrap());
        seen.extend(rows.flat_map(|row| row.as_array().unwrap()).map(|it| it.as_u64().unwrap()));
    }
    seen.sort_unstable();
    seen.dedup();
    // Three steps of four of the file's 18 rows.
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert!(seen.iter().all(|row| (1..=18).contains(row)), "{seen:?}");
}

/// Trains on texts.
fn on_texts(texts: &[&str], more: &[&str]) -> Done {
    let world = World::new();
    let rows: String = texts.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect();
    fs::write(world.path("rows.jsonl"), rows).unwrap();
    world.train(more)
}

#[test]
fn rows_of_one_token_and_of_two_are_trained_on_and_rows_of_none_are_refused() {
    let short = ["a", "b", "c", "d"];
    on_texts(&short, &[]).ended(0, &["Succeeded after 6 steps"]);
    on_texts(&short, &["--set", "data.max_tokens=2"]).ended(0, &["Succeeded after 6 steps"]);
    on_texts(&short, &["--set", "data.packing=\"bfd\"", "--set", "data.max_tokens=2"])
        .ended(0, &["Succeeded after 6 steps"]);
    let wanted = ["`data.max_tokens` is `1`", "2 or more"];
    on_texts(&short, &["--set", "data.max_tokens=1"]).ended(2, &wanted);
    on_texts(&["", ""], &[]).ended(3, &["rows"]);
}

#[test]
fn rows_whose_answers_are_cut_away_are_no_success() {
    let world = World::new();
    world.train(&["--set", "data.max_tokens=2"]).ended(3, &["target cut away: 18"]);
}

#[test]
fn a_run_of_one_step_has_finite_numbers() {
    for warmup in ["0", "1"] {
        let world = World::new();
        let warmup = format!("train.schedule.cosine.warmup_steps={warmup}");
        let more = ["--set", "train.max_steps=1", "--set", &warmup];
        let done = world.train(&more);
        done.ended(0, &["step 1/1", "Succeeded after 1 steps"]);
        assert!(!done.said.contains("NaN"), "{}", done.said);
    }
    World::new().train(&["--set", "train.max_steps=0"]).ended(2, &["`train.max_steps` is"]);
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_no_escapes() {
    let odd: [&[(&str, &str)]; 4] = [
        &[("TERM", "dumb")],
        &[("NO_COLOR", "1"), ("TERM", "xterm-256color")],
        &[("COLUMNS", "20"), ("LINES", "3")],
        &[("TERM", "")],
    ];
    for variables in odd {
        for more in [&[][..], &["--tui"], &["--json"]] {
            let world = World::new();
            let train = ["train", "recipe.toml", "--device", "cpu"];
            let mut command = world.command(&[&train, more].concat());
            let output = command.envs(variables.iter().copied()).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(output.status.code(), Some(0), "{variables:?} {more:?}: {said}");
            assert!(said.contains("step 6/6"), "{said}");
            assert!(!said.contains('\u{1b}') && !said.contains("panicked"), "{said}");
        }
    }
}

/// `rekindle train` behind a line of the shell, which calls it `"$@"`.
fn behind(world: &World, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_rekindle")]);
    command.args(["train", "recipe.toml", "--device", "cpu"]).current_dir(world.path("."));
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_run_whose_output_goes_nowhere_trains_all_the_same() {
    for line in [
        "exec \"$@\" 2>&-",
        "exec \"$@\" >&-",
        "exec \"$@\" <&- >&- 2>&-",
        "exec \"$@\" >/dev/full 2>/dev/full",
    ] {
        let world = World::new();
        let code = behind(&world, line).output().unwrap().status.code();
        let ended = fs::read_to_string(world.path("run/events.jsonl")).unwrap();
        assert!(ended.contains("\"status\":\"succeeded\""), "{line}: {code:?} {ended}");
        // What was asked for on standard output could not be given where that is full.
        assert!(code == Some(0) || line.contains("full"), "{line}: {code:?}");
    }
}

#[test]
fn a_run_with_too_little_memory_ends_soon_and_leaves_no_half_results() {
    for kibibytes in [50_000, 65_000, 75_000, 90_000, 4_194_304] {
        let world = World::new();
        let began = Instant::now();
        let line = format!("ulimit -v {kibibytes}; exec timeout 60 \"$@\"");
        let output = behind(&world, &line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(began.elapsed() < Duration::from_secs(60), "{kibibytes}: it hangs");
        assert!(kibibytes < 4_000_000 || output.status.success(), "{kibibytes}: {said}");
        if output.status.code() != Some(0) {
            assert!(said.contains("memory") || said.contains("thread"), "{kibibytes}: {said}");
            assert!(!world.path("run/adapter").exists(), "{kibibytes}: {said}");
            world.train(&["--resume"]).ended(0, &["Succeeded after 6 steps"]);
        }
    }
}
