use std::fs;

use super::*;
use crate::toy::{Mlp, Recorder, plan, run, state, state_with};
use crate::{Adafactor, AdamW, AdamW8bit, Ended, Lion, Muon, Optimizer, OptimizerMethod, Sgd};

const DROPOUT: f64 = 0.3;

/// The bits of an uninterrupted run of 10 steps.
fn uninterrupted(dir: &Path) -> (Vec<u32>, Vec<f64>) {
    let mut recorder = Recorder::default();
    let plan = plan(&dir.join("uninterrupted"), 10);
    let outcome = run(state(DROPOUT), &[], &plan, &mut recorder).unwrap();
    (outcome.state.policy.bits(), recorder.reports.iter().map(|it| it.loss).collect())
}

/// A run of 10 steps, stopped after `stop_after`, with a checkpoint every 2 steps.
fn stopped(dir: &Path, stop_after: usize) -> crate::TrainPlan {
    let mut plan = plan(dir, 10);
    plan.save_every = Some(2);
    let mut recorder = Recorder { stop_after: Some(stop_after), ..Recorder::default() };
    let outcome = run(state(DROPOUT), &[], &plan, &mut recorder).unwrap();
    assert_eq!(outcome.ended, Ended::Stopped);
    plan
}

fn resume(path: &Path, plan: &crate::TrainPlan) -> (Vec<u32>, Vec<f64>) {
    let (state, saved) = state(DROPOUT).restore(path).unwrap();
    assert_eq!(saved.cursor.row, saved.step * 4);
    assert_eq!(saved.extra, plan.extra);
    let mut recorder = Recorder::default();
    let outcome = run(state, &[], plan, &mut recorder).unwrap();
    (outcome.state.policy.bits(), recorder.reports.iter().map(|it| it.loss).collect())
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_one_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (bits, losses) = uninterrupted(dir.path());
    // Without dropout the two seeds below would not matter, and this test could not see them.
    assert_ne!(
        bits,
        run(state(0.0), &[], &plan(dir.path(), 10), &mut Recorder::default())
            .unwrap()
            .state
            .policy
            .bits()
    );
    for stop_after in 1..10 {
        let plan = stopped(&dir.path().join(format!("run-{stop_after}")), stop_after);
        let found = latest(&plan.checkpoints_dir()).unwrap().unwrap();
        assert_eq!(found.saved.step, stop_after as u64);
        assert!(found.warnings.is_empty());
        let (resumed_bits, resumed_losses) = resume(&found.path, &plan);
        assert_eq!(resumed_bits, bits, "stopped after {stop_after} steps");
        assert_eq!(resumed_losses, losses[stop_after..]);
    }
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before_it() {
    type Damage = (&'static str, fn(&Path), &'static str);
    let damages: [Damage; 8] = [
        (TRAINABLE, flip_a_byte, "`trainable.safetensors` differs from its blake3 hash"),
        (OPTIMIZER, flip_a_byte, "`optimizer.safetensors` differs from its blake3 hash"),
        (STATE, flip_a_byte, "`state.json` differs from its blake3 hash"),
        (TRAINABLE, truncate, "`trainable.safetensors` has"),
        (STATE, |path| fs::remove_file(path).unwrap(), "`state.json` cannot be read"),
        ("manifest.json", |path| fs::remove_file(path).unwrap(), "`manifest.json` cannot be read"),
        ("manifest.json", truncate, "`manifest.json` cannot be parsed"),
        ("manifest.json", |path| fs::write(path, vec![b' '; 1 << 20]).unwrap(), "is longer than"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (bits, _) = uninterrupted(dir.path());
    for (index, (file, damage, message)) in damages.into_iter().enumerate() {
        let plan = stopped(&dir.path().join(format!("run-{index}")), 7);
        let newest = plan.checkpoints_dir().join("step-000007");
        damage(&newest.join(file));

        let error = state(DROPOUT).restore(&newest).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(error.to_string().contains(message), "{error}");

        let found = latest(&plan.checkpoints_dir()).unwrap().unwrap();
        assert_eq!(found.saved.step, 6);
        assert_eq!(found.warnings.len(), 1);
        assert!(found.warnings[0].contains(message), "{:?}", found.warnings);
        assert_eq!(resume(&found.path, &plan).0, bits);
    }
}

#[test]
fn a_run_without_a_whole_checkpoint_does_not_start_over_silently() {
    let dir = tempfile::tempdir().unwrap();
    assert!(latest(&dir.path().join("absent")).unwrap().is_none());
    let plan = stopped(dir.path(), 1);
    fs::remove_file(plan.checkpoints_dir().join("step-000001/manifest.json")).unwrap();
    let error = latest(&plan.checkpoints_dir()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn a_hostile_manifest_reads_nothing_outside_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let path = plan.checkpoints_dir().join("step-000001");
    for name in ["../secret", "/etc/hostname", "sub/../../secret", "extra.pkl"] {
        let manifest = path.join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        let hostile = text.replace("state.json", name);
        fs::write(&manifest, hostile).unwrap();
        let error = verify(&path).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let told = error.to_string();
        assert!(told.contains("names an unknown file") && told.contains("does not name"), "{told}");
        fs::write(&manifest, text).unwrap();
    }
    verify(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let file = plan.checkpoints_dir().join("step-000001").join(STATE);
    let elsewhere = dir.path().join("elsewhere.json");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let error = verify(file.parent().unwrap()).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn the_newest_checkpoints_are_kept_and_no_temporary_folder_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), 10);
    plan.save_every = Some(2);
    plan.keep_checkpoints = 2;
    let leftover = plan.checkpoints_dir().join(".saving-left");
    fs::create_dir_all(leftover.join("old")).unwrap();
    run(state(0.0), &[], &plan, &mut Recorder::default()).unwrap();
    let mut names: Vec<_> = fs::read_dir(plan.checkpoints_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["step-000008", "step-000010"]);
}

#[test]
fn retention_never_drops_the_checkpoint_just_saved_for_a_damaged_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = stopped(dir.path(), 7);
    plan.keep_checkpoints = 1;
    plan.schedule.total_steps = 5;
    plan.save_every = Some(5);
    let early = plan.checkpoints_dir().join("step-000004");
    let (state, _) = state(DROPOUT).restore(&early).unwrap();
    run(state, &[], &plan, &mut Recorder::default()).unwrap();
    let steps: Vec<_> = list(&plan.checkpoints_dir()).unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(steps, [5, 6, 7]);
}

#[test]
fn saving_a_step_again_replaces_a_damaged_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 3);
    let path = plan.checkpoints_dir().join("step-000003");
    let (state, saved) = state(DROPOUT).restore(&path).unwrap();
    flip_a_byte(&path.join(TRAINABLE));
    assert_eq!(state.save(&plan, saved.cursor).unwrap(), path);
    assert_eq!(verify(&path).unwrap(), saved);
}

#[test]
fn weights_of_another_shape_are_listed_and_none_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let path = plan.checkpoints_dir().join("step-000001");
    let error = load_into(Mlp::new(5, 0.0), &path).map(|_: Mlp| ()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("`up` is F32 [4, 6] instead of F32 [4, 5]"), "{error}");

    let mut thawed = Mlp::new(6, 0.0);
    thawed.frozen = thawed.frozen.set_require_grad(true);
    let error = load_into(thawed, &path).map(|_: Mlp| ()).unwrap_err();
    assert!(error.to_string().contains("`frozen` is missing"), "{error}");

    let mut frozen = Mlp::new(6, 0.0);
    frozen.up = frozen.up.set_require_grad(false);
    let error = load_into(frozen, &path).map(|_: Mlp| ()).unwrap_err();
    assert!(error.to_string().contains("`up` is unexpected"), "{error}");
}

#[test]
fn only_trainable_parameters_are_saved_under_their_module_paths() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let bytes = fs::read(plan.checkpoints_dir().join("step-000001").join(TRAINABLE)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["down", "head.Scaled.gain", "up"]);
}

#[test]
fn an_unknown_layout_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let path = plan.checkpoints_dir().join("step-000001");
    let text = fs::read_to_string(path.join(STATE)).unwrap();
    fs::write(path.join(STATE), text.replace("\"layout\": 2", "\"layout\": 9, \"new\": 0"))
        .unwrap();
    fs::remove_file(path.join("manifest.json")).unwrap();
    manifest::write(&RealDisk, &path).unwrap();
    let error = verify(&path).unwrap_err();
    let wanted = format!("has layout 9, written by version `{}`", env!("CARGO_PKG_VERSION"));
    assert!(error.to_string().contains(&wanted), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn a_checkpoint_of_the_first_layout_is_named_as_such_and_not_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let path = plan.checkpoints_dir().join("step-000001");
    // It had no average, and its state none of the keys that came later.
    fs::remove_file(path.join(AVERAGE)).unwrap();
    let text = fs::read(path.join(STATE)).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let map = state.as_object_mut().unwrap();
    map.retain(|key, _| {
        !["loss_scale", "best", "evaluated", "evaluation_due"].contains(&key.as_str())
    });
    map.insert("layout".to_owned(), 1.into());
    fs::write(path.join(STATE), state.to_string()).unwrap();
    let text = fs::read(path.join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    manifest["files"].as_object_mut().unwrap().remove(AVERAGE);
    fs::write(path.join("manifest.json"), manifest.to_string()).unwrap();
    let error = verify(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Layout { found: 1, .. }), "{error}");
    let error = latest(&plan.checkpoints_dir()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("has layout 1"), "{error}");
}

#[test]
fn sizes_beyond_all_measure_in_a_manifest_are_compared_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let path = plan.checkpoints_dir().join("step-000001");
    let manifest = path.join("manifest.json");
    let text = fs::read(&manifest).unwrap();
    let mut hostile: serde_json::Value = serde_json::from_slice(&text).unwrap();
    hostile["files"][TRAINABLE]["bytes"] = u64::MAX.into();
    fs::write(&manifest, hostile.to_string()).unwrap();
    let told = verify(&path).unwrap_err().to_string();
    assert!(told.contains("instead of 18446744073709551615"), "{told}");
}

#[test]
fn the_newest_checkpoint_is_the_one_of_the_last_step_whatever_the_clock_said() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 7);
    let hour = std::time::Duration::from_secs(3600);
    for (age, (_, path)) in list(&plan.checkpoints_dir()).unwrap().iter().enumerate() {
        let time = std::time::SystemTime::now() - hour * age as u32;
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(latest(&plan.checkpoints_dir()).unwrap().unwrap().saved.step, 7);
}

#[test]
fn tensors_are_written_as_safetensors_itself_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    for name in [TRAINABLE, OPTIMIZER, AVERAGE] {
        let bytes = fs::read(plan.checkpoint_dir(1).join(name)).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let again = safetensors::serialize(file.iter(), header.metadata().clone()).unwrap();
        assert!(again == bytes, "{name}");
    }
}

#[test]
fn restored_optimizer_settings_are_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stopped(dir.path(), 1);
    let settings = AdamW { weight_decay: 0.5, ..AdamW::default() };
    let fresh = state_with(settings.clone(), DROPOUT);
    let (state, _) = fresh.restore(&plan.checkpoints_dir().join("step-000001")).unwrap();
    assert!(matches!(state.optimizer.method(), OptimizerMethod::AdamW(it) if *it == settings));
    assert_eq!(state.optimizer.states["up"].steps, 1);
}

/// Every method, with states of every kind: the toy's matrices are large enough for 8 bits.
fn optimizers() -> Vec<Optimizer> {
    let adamw_8bit = AdamW8bit { min_8bit_size: 16, ..AdamW8bit::default() };
    vec![
        AdamW::default().into(),
        adamw_8bit.into(),
        Sgd::default().into(),
        Sgd { momentum: 0.9, ..Sgd::default() }.into(),
        Lion::default().into(),
        Adafactor { beta1: Some(0.9), ..Adafactor::default() }.into(),
        Muon::default().into(),
        Optimizer::new(AdamW::default()).with_offload(true),
    ]
}

#[test]
fn every_method_resumes_bit_for_bit() {
    for optimizer in optimizers() {
        let dir = tempfile::tempdir().unwrap();
        let name = optimizer.method().name();
        let fresh = || state_with(optimizer.clone(), DROPOUT);
        let whole = plan(&dir.path().join("whole"), 6);
        let whole = run(fresh(), &[], &whole, &mut Recorder::default()).unwrap();
        let half = plan(&dir.path().join("half"), 6);
        let mut recorder = Recorder { stop_after: Some(3), ..Recorder::default() };
        run(fresh(), &[], &half, &mut recorder).unwrap();
        let (state, _) = fresh().restore(&recorder.checkpoints[0]).unwrap();
        assert_eq!(state.optimizer.states["up"].steps, 3, "{name}");
        let resumed = run(state, &[], &half, &mut Recorder::default()).unwrap();
        assert_eq!(resumed.state.policy.bits(), whole.state.policy.bits(), "{name}");
    }
}

#[test]
fn the_state_of_another_method_is_refused_with_its_name() {
    let optimizers = optimizers();
    for saved in &optimizers {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder { stop_after: Some(1), ..Recorder::default() };
        let plan = plan(dir.path(), 6);
        run(state_with(saved.clone(), DROPOUT), &[], &plan, &mut recorder).unwrap();
        for other in &optimizers {
            let result = state_with(other.clone(), DROPOUT).restore(&recorder.checkpoints[0]);
            if saved.method().name() == other.method().name() {
                continue;
            }
            let error = result.map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let names = format!(
                "by `{}` and does not fit `{}`",
                saved.method().name(),
                other.method().name()
            );
            assert!(error.to_string().contains(&names), "{error}");
        }
    }
}

#[test]
fn missing_strange_and_misshapen_tensors_of_the_optimizer_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder { stop_after: Some(1), ..Recorder::default() };
    let momentum = Sgd { momentum: 0.9, ..Sgd::default() };
    run(state_with(momentum, DROPOUT), &[], &plan(dir.path(), 6), &mut recorder).unwrap();
    let path = &recorder.checkpoints[0];
    let told = |optimizer: Optimizer, policy: Mlp| {
        load_state(&policy, &optimizer, path).map(|_| ()).unwrap_err().to_string()
    };
    let error = told(Sgd::default().into(), Mlp::new(6, 0.0));
    assert!(error.contains("`up.momentum` is unexpected"), "{error}");
    let momentum = || Sgd { momentum: 0.5, ..Sgd::default() };
    let error = told(momentum().into(), Mlp::new(5, 0.0));
    assert!(error.contains("`up.momentum` is F32 [4, 6] instead of F32 [4, 5]"), "{error}");

    let mut recorder = Recorder { stop_after: Some(1), ..Recorder::default() };
    let other = dir.path().join("other");
    run(state_with(Sgd::default(), DROPOUT), &[], &plan(&other, 6), &mut recorder).unwrap();
    let path = &recorder.checkpoints[0];
    let error = load_state(&Mlp::new(6, 0.0), &momentum().into(), path);
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`up.momentum` is missing"), "{error}");
}
