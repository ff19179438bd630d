//! A micro-batch without a target adds nothing, and breaks nothing, on its way through the loop.

mod tiny;

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use rekindle_align::Sft;
use rekindle_data::{MicroBatch, Padding, Sample, TokenBatch, collate};
use rekindle_models::Decoder;
use rekindle_testkit::device;
use rekindle_train::{
    AdamW, Cursor, Decay, Observer, Schedule, SourceError, Step, StepReport, StepSource,
    TrainError, TrainPlan, TrainState, fit,
};
use tiny::arch;

/// Three rows: the last has no target.
fn rows() -> Vec<Sample> {
    let row = |first: u32, target: bool| Sample {
        tokens: (first..first + 6).collect(),
        target: (0..6).map(|at| target && at > 2).collect(),
        truncated: false,
    };
    vec![row(2, true), row(9, true), row(17, false)]
}

/// Steps of the same micro-batches.
struct Same(Vec<MicroBatch>);

impl<M: Module> StepSource<M, TokenBatch> for Same {
    fn next_step(&mut self, _policy: &M) -> Result<Option<Step<TokenBatch>>, SourceError> {
        let padding = Padding { id: 0, multiple: 1 };
        let batch = |micro: &MicroBatch| collate(&rows(), micro, padding, &device());
        Ok(Some(Step { micro: self.0.iter().map(batch).collect() }))
    }

    fn halve(&self, _batch: &TokenBatch) -> Option<[TokenBatch; 2]> {
        None
    }

    fn cursor(&self) -> Cursor {
        Cursor::default()
    }

    fn seek(&mut self, _cursor: Cursor) -> Result<(), SourceError> {
        Ok(())
    }
}

#[derive(Default)]
struct Recorder(Vec<StepReport>, Vec<String>);

impl Observer<Decoder> for Recorder {
    fn on_step(&mut self, report: &StepReport) {
        self.0.push(report.clone());
    }

    fn evaluate(&mut self, _step: u64, _policy: &Decoder) -> Result<Option<f64>, TrainError> {
        Ok(None)
    }

    fn on_checkpoint(&mut self, _step: u64, _path: &Path) {}

    fn on_warning(&mut self, message: &str) {
        self.1.push(message.to_owned());
    }

    fn stop_requested(&self) -> bool {
        false
    }
}

struct Bits(Vec<f32>);

impl ModuleVisitor for Bits {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(param.val().into_data().try_to_vec::<f32>().unwrap());
    }
}

fn trained(micro: Vec<MicroBatch>) -> (Vec<f32>, Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let schedule = Schedule { decay: Decay::Constant, warmup_steps: 0, total_steps: 4 };
    let plan = TrainPlan::new(schedule, 0.01, dir.path());
    let policy = Decoder::random(&arch(0.1), 3, &device().autodiff());
    let state = TrainState::new(policy, AdamW::default());
    let mut recorder = Recorder::default();
    let end = fit(state, &Sft::default(), &mut Same(micro), &plan, &mut recorder).unwrap();
    let mut bits = Bits(Vec::new());
    end.state.policy.visit(&mut bits);
    (bits.0, recorder)
}

#[test]
fn a_micro_batch_without_targets_leaves_loss_and_weights_as_they_are_without_it() {
    let (wanted, without) = trained(vec![vec![vec![0]], vec![vec![1]]]);
    for micro in [
        vec![vec![vec![0]], vec![vec![2]], vec![vec![1]]],
        vec![vec![vec![2]], vec![vec![0]], vec![vec![1]]],
        vec![vec![vec![0]], vec![vec![1]], vec![vec![2]]],
    ] {
        let (weights, with) = trained(micro);
        assert!(with.1.is_empty(), "{:?}", with.1);
        assert!(weights.iter().all(|weight| weight.is_finite()));
        rekindle_testkit::assert_close(&weights, &wanted, 1e-5, 1e-6);
        for (with, without) in with.0.iter().zip(&without.0) {
            assert_eq!((with.units, with.micro_batches), (without.units, 3));
            assert!((with.loss - without.loss).abs() < 1e-6, "{with:?} {without:?}");
        }
    }
}
