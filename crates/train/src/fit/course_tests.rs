//! Runs that go back, stop early, keep the best, average, scale losses or run out of memory.

use super::*;
use crate::toy::{Batch, Mlp, Recorder, Rows, SquaredError, plan, run, state, turn};
use crate::{EarlyStopping, LossScale, LossSum, Metric, OnSpike, TrainState, Watchdog};

/// The squared error, a thousand times as large in the steps that hold the row after `from`.
struct Leaping {
    from: u64,
}

impl Objective<Mlp> for Leaping {
    type Batch = Batch;

    fn units(&self, batch: &Batch) -> usize {
        SquaredError.units(batch)
    }

    fn loss(&self, policy: &Mlp, batch: &Batch) -> LossSum {
        let LossSum { total, metrics } = SquaredError.loss(policy, batch);
        let leaps = batch.rows[0] == crate::toy::row(self.from as usize * 4);
        LossSum { total: if leaps { total * 1000.0 } else { total }, metrics }
    }
}

fn leaping(
    on_spike: OnSpike,
    save_every: Option<u64>,
) -> (Result<Outcome<Mlp>, TrainError>, Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let watchdog = Watchdog { threshold: 20.0, patience: 0, on_spike };
    let plan = TrainPlan { watchdog: Some(watchdog), save_every, ..plan(dir.path(), 8) };
    let mut recorder = Recorder::default();
    let _turn = turn();
    let mut source = Rows { next: 0, broken: Vec::new() };
    let outcome = fit(state(0.0), &Leaping { from: 5 }, &mut source, &plan, &mut recorder);
    (outcome, recorder)
}

#[test]
fn a_loss_that_leaps_ends_the_run_where_it_is_told_to() {
    let (outcome, recorder) = leaping(OnSpike::Stop, Some(2));
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(matches!(error, TrainError::Spiked { step: 6, .. }), "{error}");
    assert_eq!(recorder.checkpoints.len(), 2);
}

#[test]
fn a_run_goes_back_to_its_checkpoint_and_on_with_the_next_rows() {
    let (outcome, recorder) = leaping(OnSpike::Rollback, Some(2));
    // Steps 1 to 6, of which the sixth leaps; then from 4 on again.
    let steps: Vec<u64> = recorder.reports.iter().map(|report| report.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 5, 6, 7, 8]);
    assert!(recorder.warnings[0].contains("those of step 4 again"), "{:?}", recorder.warnings);
    assert!(recorder.reports[6].loss < 20.0);
    assert_eq!(outcome.unwrap().state.step, 8);
}

#[test]
fn without_a_checkpoint_there_is_no_way_back() {
    let error = leaping(OnSpike::Rollback, None).0.unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(matches!(error, TrainError::NoWayBack { step: 6, .. }), "{error}");
}

#[test]
fn the_best_checkpoint_outlives_newer_ones_and_stale_evaluations_end_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let early_stopping = Some(EarlyStopping { patience: 3, threshold: 0.0 });
    let metric = Metric { greater_is_better: false, keep_best: true, early_stopping };
    let plan = TrainPlan {
        metric: Some(metric),
        eval_every: Some(1),
        save_every: Some(1),
        keep_checkpoints: 1,
        ..plan(dir.path(), 20)
    };
    let values = vec![3.0, 1.0, 2.0, 1.5, 1.2, 0.1];
    let mut recorder = Recorder { values, ..Recorder::default() };
    let outcome = run(state(0.0), &[], &plan, &mut recorder).unwrap();
    assert_eq!((outcome.ended, outcome.state.step), (Ended::EarlyStopped, 5));
    let best = outcome.state.best.unwrap();
    assert_eq!((best.step, best.value, best.stale), (2, 1.0, 3));
    let mut names: Vec<_> = std::fs::read_dir(plan.checkpoints_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["step-000002", "step-000005"]);
    let fresh = state(0.0).policy;
    let kept = checkpoint::load_into(fresh, &plan.checkpoints_dir().join(&names[0])).unwrap();
    assert_eq!(kept.bits(), recorder.measured[1]);
}

#[test]
fn what_is_evaluated_is_the_average_and_training_is_not_touched_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let plain = TrainPlan { eval_every: Some(1), ..plan(dir.path(), 6) };
    let averaged = TrainPlan { ema_decay: Some(0.5), ..plain.clone() };
    let (mut quiet, mut recorder) = (Recorder::default(), Recorder::default());
    let without = run(state(0.0), &[], &plain, &mut quiet).unwrap().state;
    let with = run(state(0.0), &[], &averaged, &mut recorder).unwrap().state;
    assert_eq!(with.policy.bits(), without.policy.bits());
    assert_ne!(recorder.measured, quiet.measured);
    // e ← (e + θ) / 2, from the first weights on.
    let floats = |bits: &[u32]| bits.iter().map(|&it| f32::from_bits(it)).collect::<Vec<_>>();
    let mut average = floats(&state(0.0).policy.bits());
    for (weights, measured) in quiet.measured.iter().zip(&recorder.measured) {
        let weights = floats(weights);
        average = average.iter().zip(&weights).map(|(e, w)| 0.5 * e + 0.5 * w).collect();
        rekindle_testkit::assert_close(&floats(measured), &average, 1e-6, 1e-7);
    }
}

#[test]
fn a_scaled_loss_gives_the_same_weights_and_the_scale_is_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let plain = plan(dir.path(), 6);
    let scaled = TrainPlan { scale_losses: true, ..plain.clone() };
    let (mut quiet, mut recorder) = (Recorder::default(), Recorder::default());
    let without = run(state(0.0), &[], &plain, &mut quiet).unwrap().state;
    let with = run(state(0.0), &[], &scaled, &mut recorder).unwrap().state;
    // A power of two moves no mantissa.
    assert_eq!(with.policy.bits(), without.policy.bits());
    assert_eq!(with.scale, Some(LossScale { scale: 65_536.0, good_steps: 6 }));
    for (with, without) in recorder.reports.iter().zip(&quiet.reports) {
        assert_eq!((with.loss, with.grad_norm), (without.loss, without.grad_norm));
    }
}

#[test]
fn an_overflow_for_ever_lowers_the_scale_to_its_floor_and_then_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let plan = TrainPlan { scale_losses: true, ..plan(dir.path(), 40) };
    let broken: Vec<u64> = (2..40).collect();
    let mut recorder = Recorder::default();
    let error = run(state(0.0), &broken, &plan, &mut recorder).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    // Two good steps, sixteen halvings from 2¹⁶ to 1, and three in a row that nothing excuses.
    assert!(matches!(error, TrainError::Diverged { step: 21, in_a_row: 3, .. }), "{error}");
    assert_eq!(recorder.warnings.len(), 18);
}

#[test]
fn an_evaluation_given_up_for_a_stop_is_made_first_when_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let metric = Metric { greater_is_better: false, keep_best: true, early_stopping: None };
    let values = vec![3.0, 1.0, 2.0];
    for given_up in [2, 4, 6] {
        let plan = |name: String| TrainPlan {
            metric: Some(metric),
            eval_every: Some(2),
            save_every: Some(2),
            ..plan(&dir.path().join(name), 6)
        };
        let whole = plan(format!("whole-{given_up}"));
        let mut recorder = Recorder { values: values.clone(), ..Recorder::default() };
        let wanted = run(state(0.3), &[], &whole, &mut recorder).unwrap();

        let plan = plan(format!("run-{given_up}"));
        let mut first =
            Recorder { values: values.clone(), give_up: Some(given_up), ..Recorder::default() };
        let outcome = run(state(0.3), &[], &plan, &mut first).unwrap();
        assert_eq!((outcome.ended, outcome.state.step), (Ended::Stopped, given_up));
        let (resumed, saved) = state(0.3).restore(&plan.checkpoint_dir(given_up)).unwrap();
        assert!(saved.evaluation_due);
        let rest = values[first.evaluated.len()..].to_vec();
        let mut second = Recorder { values: rest, ..Recorder::default() };
        let outcome = run(resumed, &[], &plan, &mut second).unwrap();
        assert_eq!(second.evaluated[0], given_up);
        let both = |first: &Recorder, second: &Recorder| {
            [first.measured.clone(), second.measured.clone()].concat()
        };
        assert_eq!(both(&first, &second), recorder.measured);
        assert_eq!(outcome.state.policy.bits(), wanted.state.policy.bits());
        assert_eq!(outcome.state.best, wanted.state.best);
        let saved = checkpoint::verify(&plan.checkpoint_dir(6)).unwrap();
        assert_eq!(saved, checkpoint::verify(&whole.checkpoint_dir(6)).unwrap());
    }
}

#[test]
fn a_run_that_had_stopped_early_does_not_train_on_when_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let early_stopping = Some(EarlyStopping { patience: 1, threshold: 0.0 });
    let metric = Metric { greater_is_better: false, keep_best: false, early_stopping };
    let plan = TrainPlan {
        metric: Some(metric),
        eval_every: Some(1),
        save_every: Some(1),
        ..plan(dir.path(), 20)
    };
    let mut recorder = Recorder { values: vec![1.0, 2.0], ..Recorder::default() };
    let first = run(state(0.0), &[], &plan, &mut recorder).unwrap();
    assert_eq!((first.ended, first.state.step), (Ended::EarlyStopped, 2));
    let (resumed, _) = state(0.0).restore(&plan.checkpoint_dir(2)).unwrap();
    let mut recorder = Recorder::default();
    let second = run(resumed, &[], &plan, &mut recorder).unwrap();
    assert_eq!((second.ended, second.state.step), (Ended::EarlyStopped, 2));
    assert!(recorder.reports.is_empty() && recorder.checkpoints.is_empty());
    assert_eq!(second.state.policy.bits(), first.state.policy.bits());
}

#[test]
fn a_run_that_was_cut_off_after_its_last_step_does_not_evaluate_that_twice() {
    let dir = tempfile::tempdir().unwrap();
    let metric = Metric { greater_is_better: false, keep_best: false, early_stopping: None };
    // The last evaluation is due by its step, or by the end alone.
    for (eval_every, values) in [(2, vec![1.0, 2.0, 3.0]), (4, vec![1.0, 2.0])] {
        let plan = TrainPlan {
            metric: Some(metric),
            eval_every: Some(eval_every),
            save_every: Some(2),
            ..plan(&dir.path().join(eval_every.to_string()), 6)
        };
        let mut recorder = Recorder { values, ..Recorder::default() };
        let first = run(state(0.0), &[], &plan, &mut recorder).unwrap();
        let (resumed, saved) = state(0.0).restore(&plan.checkpoint_dir(6)).unwrap();
        assert_eq!(saved.best, first.state.best);
        let mut recorder = Recorder { values: vec![9.0], ..Recorder::default() };
        let second = run(resumed, &[], &plan, &mut recorder).unwrap();
        assert!(recorder.evaluated.is_empty() && recorder.checkpoints.is_empty());
        assert_eq!(second.state.best, first.state.best);
        assert_eq!(checkpoint::verify(&plan.checkpoint_dir(6)).unwrap(), saved);
    }
}

#[test]
fn a_checkpoint_asked_for_is_saved_after_the_step_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 6);
    let mut recorder = Recorder { save_after: vec![2, 3], ..Recorder::default() };
    let outcome = run(state(0.0), &[], &plan, &mut recorder).unwrap();
    assert_eq!((outcome.ended, outcome.state.step), (Ended::Finished, 6));
    assert_eq!(recorder.checkpoints, [2, 3].map(|step| plan.checkpoint_dir(step)));
}

/// The squared error on a device that has no room for more rows than this.
struct Tight(usize);

impl Objective<Mlp> for Tight {
    type Batch = Batch;

    fn units(&self, batch: &Batch) -> usize {
        SquaredError.units(batch)
    }

    fn loss(&self, policy: &Mlp, batch: &Batch) -> LossSum {
        assert!(batch.rows.len() <= self.0, "allocation failed: out of memory");
        SquaredError.loss(policy, batch)
    }
}

#[test]
fn a_step_without_room_is_done_in_halves_and_gives_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 6);
    let roomy = run(state(0.0), &[], &plan, &mut Recorder::default()).unwrap().state;
    let tight = |rows: usize| {
        let _turn = turn();
        let mut recorder = Recorder::default();
        let mut source = Rows { next: 0, broken: Vec::new() };
        (fit(state(0.0), &Tight(rows), &mut source, &plan, &mut recorder), recorder)
    };
    let (outcome, recorder) = tight(1);
    let state: TrainState<Mlp> = outcome.unwrap().state;
    let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
    rekindle_testkit::assert_close(
        &floats(state.policy.bits()),
        &floats(roomy.policy.bits()),
        1e-5,
        1e-6,
    );
    assert_eq!(recorder.warnings.len(), 1, "{:?}", recorder.warnings);
    assert!(recorder.reports.iter().all(|report| report.micro_batches == 4));
    let error = tight(0).0.unwrap_err();
    assert_eq!(error.exit_code(), 5);
}

/// A loss of nothing: what a device gives that has computed nothing.
struct Nothing;

impl Objective<Mlp> for Nothing {
    type Batch = Batch;

    fn units(&self, batch: &Batch) -> usize {
        SquaredError.units(batch)
    }

    fn loss(&self, policy: &Mlp, batch: &Batch) -> LossSum {
        let LossSum { total, metrics } = SquaredError.loss(policy, batch);
        LossSum { total: total * 0.0, metrics }
    }
}

#[test]
fn a_loss_and_a_gradient_of_exactly_zero_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut recorder, _turn) = (Recorder::default(), turn());
    let mut source = Rows { next: 0, broken: Vec::new() };
    fit(state(0.0), &Nothing, &mut source, &plan(dir.path(), 2), &mut recorder).unwrap();
    assert_eq!(recorder.warnings.len(), 2, "{:?}", recorder.warnings);
    assert!(recorder.warnings[0].contains("exactly zero"), "{:?}", recorder.warnings);
}
