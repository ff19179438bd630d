use burn::tensor::Tensor;
use proptest::prelude::*;
use rekindle_testkit::assert_close;

use super::*;
use crate::optimizer::StateTensor;
use crate::source::Step;
use crate::toy::{Batch, Mlp, Recorder, Row, Rows, SquaredError, plan, row, run, state, turn};
use crate::{LossSum, SourceError, StepReport};

fn gradient(rows: &[Row], split: &[usize]) -> (Vec<f32>, f64) {
    let policy = Mlp::new(6, 0.0);
    let mut rest = rows;
    let micro = split.iter().map(|&size| {
        let (batch, after) = rest.split_at(size);
        rest = after;
        Batch::new(batch)
    });
    let step = Step { micro: micro.collect() };
    let seeds = Seeds { devices: &[], seed: 0, step: 0 };
    let micro = Micro { policy: &policy, objective: &SquaredError, scale: 1.0 };
    let (grads, _, numbers) = accumulate(&micro, &step, &seeds, Instant::now()).unwrap();
    let mut flat = Vec::new();
    for id in [policy.up.id, policy.down.id] {
        let grad: Tensor<2> = grads.get(id).unwrap();
        flat.extend(grad.into_data().try_to_vec::<f32>().unwrap());
    }
    (flat, numbers.loss)
}

fn assert_same_gradient(rows: &[Row], split: &[usize]) {
    let (whole, whole_loss) = gradient(rows, &[rows.len()]);
    let (parts, parts_loss) = gradient(rows, split);
    assert_close(&parts, &whole, 1e-6, 1e-6);
    assert_close(&[parts_loss as f32], &[whole_loss as f32], 1e-6, 0.0);
}

#[test]
fn even_and_ragged_splits_of_a_step_give_the_same_gradient() {
    let rows: Vec<_> = (0..8).map(row).collect();
    for split in [&[1; 8][..], &[2; 4], &[4, 4], &[8], &[1, 5, 2], &[7, 1]] {
        assert_same_gradient(&rows, split);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_split_of_any_masked_step_gives_the_same_gradient(
        cuts in prop::collection::vec(any::<bool>(), 7),
        masks in prop::collection::vec(any::<[bool; 3]>(), 8),
    ) {
        let mut rows: Vec<_> = (0..8).map(row).collect();
        for (row, mask) in rows.iter_mut().zip(masks) {
            row.2 = mask;
        }
        rows[0].2[0] = true;
        let mut split = vec![1];
        for cut in cuts {
            match split.last_mut() {
                Some(last) if !cut => *last += 1,
                _ => split.push(1),
            }
        }
        assert_same_gradient(&rows, &split);
    }
}

#[test]
fn training_reduces_the_loss_and_reports_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), 200);
    plan.eval_every = Some(80);
    let mut recorder = Recorder::default();
    let outcome = run(state(0.0), &[], &plan, &mut recorder).unwrap();
    assert_eq!(outcome.ended, Ended::Finished);
    assert_eq!(outcome.state.step, 200);
    let mean = |reports: &[StepReport]| reports.iter().map(|it| it.loss).sum::<f64>() / 8.0;
    let (first, last) = (mean(&recorder.reports[..8]), mean(&recorder.reports[192..]));
    assert!(last < first * 0.2, "the loss went from {first} to {last}");
    assert_eq!(recorder.evaluated, [80, 160, 200]);
    assert!(recorder.checkpoints.is_empty());

    let report = &recorder.reports[0];
    assert_eq!((report.step, report.total_steps, report.micro_batches), (1, 200, 2));
    // Rows 0 to 3 have 3 outputs each, less one in rows 0 and 3.
    assert_eq!(report.units, 10);
    assert_eq!(report.learning_rate, 0.0);
    assert_eq!(recorder.reports[1].learning_rate, 0.01);
    assert_eq!(report.metrics[0].0, "absolute_error");
    assert!(report.metrics[0].1 > 0.0);
    let units = recorder.reports.iter().map(|it| it.units).sum::<u64>();
    assert_eq!(outcome.state.units, units);
}

#[test]
fn a_nan_in_the_first_micro_batch_leaves_weights_and_optimizer_bit_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::default();
    let before = run(state(0.0), &[], &plan(dir.path(), 5), &mut recorder).unwrap().state;
    let bits = before.policy.bits();
    let moments = moment_bits(&before);
    let after = run(before, &[5], &plan(dir.path(), 6), &mut recorder).unwrap().state;
    assert_eq!(after.step, 6);
    assert_eq!(after.policy.bits(), bits);
    assert_eq!(moment_bits(&after), moments);
    let report = recorder.reports.last().unwrap();
    assert!(report.skipped && report.loss.is_nan());
    assert!(recorder.warnings[0].contains("step 6"), "{:?}", recorder.warnings);
}

fn moment_bits(state: &TrainState<Mlp>) -> Vec<(String, u64, Vec<u32>)> {
    let bits = |tensor: &StateTensor| {
        let values: Vec<f32> = tensor.to_data().unwrap().try_to_vec().unwrap();
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let states = state.optimizer.states.iter();
    states
        .map(|(path, it)| (path.clone(), it.steps, it.tensors.iter().flat_map(bits).collect()))
        .collect()
}

#[test]
fn the_third_broken_step_in_a_row_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::default();
    let error =
        run(state(0.0), &[2, 3, 5, 6, 7], &plan(dir.path(), 20), &mut recorder).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(matches!(error, TrainError::Diverged { step: 8, in_a_row: 3, .. }), "{error}");
    assert_eq!(recorder.warnings.len(), 4);
    assert_eq!(recorder.reports.len(), 7);
    // The rows and numbers of the three are in a file that the message names.
    let path = dir.path().join("nonfinite-step-8.json");
    assert!(error.to_string().contains(&format!("`{}`", path.display())), "{error}");
    let dump: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let steps = dump["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|it| it["step"].as_u64().unwrap()).collect::<Vec<_>>(), [6, 7, 8]);
    let samples = serde_json::json!([[[20], [21]], [[22], [23]]]);
    assert_eq!(steps[0]["micro_batch_samples"], samples);
    assert_eq!(steps[0]["micro_batch_losses"][0], "NaN");
    assert!(steps[0]["micro_batch_losses"][1].as_f64().unwrap() > 0.0);
    assert_eq!((&steps[0]["loss"], &steps[0]["grad_norm"]), (&"NaN".into(), &"NaN".into()));
}

#[test]
fn a_stop_request_saves_a_checkpoint_and_returns() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder { stop_after: Some(3), ..Recorder::default() };
    let outcome = run(state(0.0), &[], &plan(dir.path(), 20), &mut recorder).unwrap();
    assert_eq!(outcome.ended, Ended::Stopped);
    assert_eq!(outcome.state.step, 3);
    assert_eq!(recorder.checkpoints, [dir.path().join("checkpoints/step-000003")]);
}

/// A source that samples, as reinforcement learning does; it keeps what it drew.
struct Sampling {
    rows: Rows,
    drawn: Vec<f32>,
}

impl StepSource<Mlp, Batch> for Sampling {
    fn next_step(&mut self, policy: &Mlp) -> Result<Option<Step<Batch>>, SourceError> {
        let device = rekindle_testkit::device();
        let draw = Tensor::<1>::random([5], burn::tensor::Distribution::Default, &device);
        self.drawn.push(draw.sum().into_scalar());
        self.rows.next_step(policy)
    }

    fn halve(&self, batch: &Batch) -> Option<[Batch; 2]> {
        self.rows.halve(batch)
    }

    fn cursor(&self) -> crate::Cursor {
        self.rows.cursor()
    }

    fn seek(&mut self, cursor: crate::Cursor) -> Result<(), SourceError> {
        self.rows.seek(cursor)
    }
}

#[test]
fn randomness_depends_on_seed_step_and_micro_batch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 4);
    let quiet = run(state(0.3), &[], &plan, &mut Recorder::default()).unwrap().state;
    let sampled = |step: u64| {
        let _turn = turn();
        let mut source = Sampling { rows: Rows { next: step, broken: Vec::new() }, drawn: vec![] };
        let start = TrainState { step, ..state(0.3) };
        let mut recorder = Recorder::default();
        let end = fit(start, &SquaredError, &mut source, &plan, &mut recorder).unwrap().state;
        (end.policy.bits(), source.drawn)
    };
    let (bits, drawn) = sampled(0);
    // What the source draws does not shift the dropout masks.
    assert_eq!(bits, quiet.policy.bits());
    // A run that starts at step 2 draws there what the whole run drew.
    assert_eq!(sampled(2).1, drawn[2..]);
    assert_ne!(drawn[0], drawn[1]);
}

/// A step without a counted output.
struct Masked;

impl StepSource<Mlp, Batch> for Masked {
    fn next_step(&mut self, _policy: &Mlp) -> Result<Option<Step<Batch>>, SourceError> {
        let (x, y, _) = row(0);
        Ok(Some(Step { micro: vec![Batch::new(&[(x, y, [false; 3])])] }))
    }

    fn halve(&self, _batch: &Batch) -> Option<[Batch; 2]> {
        None
    }

    fn cursor(&self) -> crate::Cursor {
        crate::Cursor::default()
    }

    fn seek(&mut self, _cursor: crate::Cursor) -> Result<(), SourceError> {
        Ok(())
    }
}

#[test]
fn a_step_without_units_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 1);
    let _turn = turn();
    let error =
        fit(state(0.0), &SquaredError, &mut Masked, &plan, &mut Recorder::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
}

/// A loss that no parameter reaches.
struct Constant;

impl Objective<Mlp> for Constant {
    type Batch = Batch;

    fn units(&self, _batch: &Batch) -> usize {
        1
    }

    fn loss(&self, _policy: &Mlp, _batch: &Batch) -> LossSum {
        let total = Tensor::ones([1], &rekindle_testkit::device().autodiff());
        LossSum { total, metrics: Vec::new() }
    }
}

#[test]
fn a_loss_that_reaches_no_parameter_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 1);
    let _turn = turn();
    let error =
        fit(state(0.0), &Constant, &mut Masked, &plan, &mut Recorder::default()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}
