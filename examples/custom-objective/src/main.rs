//! An objective of one's own, minimised by `fit`: distillation of a language model.
//!
//! A student of one block learns the next-token distributions of a trained decoder of four, the
//! one that `rekindle demo` trains on. Model, rows, loop, optimizer and checkpoints are the
//! library's; the loss is not.

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use rekindle_align::SftSource;
use rekindle_data::{
    Loader, LoaderOptions, Padding, Sample, Specials, TokenBatch, Tokenizer, collate,
};
use rekindle_models::{CausalLm, Decoder, Tokens, load};
use rekindle_train::{
    AdamW, Decay, LossSum, Objective, Observer, Schedule, StepReport, TrainError, TrainPlan,
    TrainState, fit,
};

/// The teacher's folder.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/recipe/assets");

const STEPS: u64 = 80;
const ROWS: usize = 256;
/// Rows that are not trained on.
const HELD_OUT: usize = 32;
const MOST_TOKENS: usize = 40;

/// L = T² Σ KL(teacher ‖ student), with both distributions softened by the temperature T.
///
/// Hinton et al. 2015 (arXiv:1503.02531), §2. Unit: one predicted token. The metric counts the
/// tokens for which both find the same one most likely.
struct Distillation {
    teacher: Decoder,
    temperature: f64,
}

impl Objective<Decoder> for Distillation {
    type Batch = TokenBatch;

    fn units(&self, batch: &TokenBatch) -> usize {
        batch.n_targets
    }

    fn loss(&self, student: &Decoder, batch: &TokenBatch) -> LossSum {
        let t = self.temperature;
        let softened = |logits: Tensor<3>| log_softmax(logits / t, 2);
        let logits_q = predictions(student, batch);
        let [rows, seq, _] = logits_q.dims();
        // The teacher lives on the plain device: nothing of it is tracked.
        let logits_p = predictions(&self.teacher, batch);
        let mask = batch.loss_mask.clone().narrow(1, 1, seq); // [batch, seq − 1]

        let agree = logits_p.clone().argmax(2).equal(logits_q.clone().inner().argmax(2));
        let agree = agree.float().reshape([rows, seq]) * mask.clone();

        let log_p = softened(logits_p);
        let log_p = Tensor::<3>::from_inner(log_p);
        let kl = (log_p.clone().exp() * (log_p - softened(logits_q))).sum_dim(2);
        let kl = kl.reshape([rows, seq]) * Tensor::from_inner(mask);
        LossSum { total: kl.sum() * (t * t), metrics: vec![("agreement", agree.sum())] }
    }
}

/// Scores of the next token at all places but the last: `[batch, seq − 1, vocab]`.
fn predictions(model: &Decoder, batch: &TokenBatch) -> Tensor<3> {
    let tokens = Tokens::new(batch.input_ids.clone(), batch.segment.clone());
    model.read_out(model.hidden_but_last(tokens.at(batch.positions.clone())))
}

/// Prints every twentieth step.
struct Lines;

impl<M: Module> Observer<M> for Lines {
    fn on_step(&mut self, report: &StepReport) {
        if report.step.is_multiple_of(20) {
            let agreement = report.metrics.first().map_or(0.0, |(_, value)| 100.0 * value);
            let (step, loss) = (report.step, report.loss);
            println!("step {step}: KL {loss:.3} nats, {agreement:.0} % agree");
        }
    }

    fn evaluate(&mut self, _: u64, _: &M) -> Result<Option<f64>, TrainError> {
        Ok(None)
    }

    fn on_checkpoint(&mut self, _: u64, _: &Path) {}

    fn on_warning(&mut self, message: &str) {
        eprintln!("{message}");
    }

    fn stop_requested(&self) -> bool {
        false
    }
}

/// Rows of text as samples of which every token is predicted.
fn samples(tokenizer: &Tokenizer) -> Result<Vec<Sample>, Box<dyn Error>> {
    let text = std::fs::read_to_string(Path::new(MODEL).join("instructions.jsonl"))?;
    let mut samples = Vec::new();
    for line in text.lines().take(ROWS) {
        let mut tokens = tokenizer.encode(line, Specials::Plain)?;
        tokens.truncate(MOST_TOKENS);
        let target = vec![true; tokens.len()];
        samples.push(Sample { tokens, target, truncated: false });
    }
    Ok(samples)
}

/// Mean divergence over a batch, in nats per token.
fn divergence(
    objective: &Distillation,
    student: &Decoder,
    batch: &TokenBatch,
) -> Result<f32, Box<dyn Error>> {
    let sum: Vec<f32> = objective.loss(student, batch).total.into_data().try_to_vec()?;
    Ok(sum[0] / objective.units(batch) as f32)
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let files = load::open(Path::new(MODEL))?;
    let arch = files.arch()?;
    let teacher = Decoder::load(files.source(), &arch, &device)?;
    let mut small = arch;
    small.layers.truncate(1);
    let student = Decoder::random(&small, 0, &device.clone().autodiff());

    let tokenizer = Tokenizer::from_file(&Path::new(MODEL).join("tokenizer.json"))?;
    let padding = Padding::new(&tokenizer, 1);
    let mut samples = samples(&tokenizer)?;
    let held_out = samples.split_off(samples.len() - HELD_OUT);
    let rows: Vec<Vec<usize>> = (0..HELD_OUT).map(|row| vec![row]).collect();
    let held_out = collate(&held_out, &rows, padding, &device);
    let options = LoaderOptions { batch: 8, micro: 8, ..LoaderOptions::default() };
    let mut source = SftSource::new(Loader::new(samples, options)?, padding, device);

    let objective = Distillation { teacher, temperature: 2.0 };
    let before = divergence(&objective, &student, &held_out)?;
    let folder = tempfile::tempdir()?;
    let schedule =
        Schedule { decay: Decay::Cosine { min_ratio: 0.1 }, warmup_steps: 10, total_steps: STEPS };
    let plan =
        TrainPlan { max_grad_norm: Some(1.0), ..TrainPlan::new(schedule, 5e-3, folder.path()) };
    let state = TrainState::new(student, AdamW::default());
    let trained = fit(state, &objective, &mut source, &plan, &mut Lines)?.state.policy;
    let after = divergence(&objective, &trained, &held_out)?;
    println!("divergence of held-out rows: {before:.3} before, {after:.3} after");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Softened probabilities, computed on the host in f64.
    fn softened(logits: &[f32], t: f64) -> Vec<f64> {
        let exps: Vec<f64> = logits.iter().map(|it| (f64::from(*it) / t).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|it| it / sum).collect()
    }

    #[test]
    fn distillation_is_the_divergence_of_softened_distributions() {
        let device = Device::flex();
        let mut small = load::open(Path::new(MODEL)).unwrap().arch().unwrap();
        small.layers.truncate(1);
        small.initializer_range = 0.2;
        let [teacher, student] = [1, 2].map(|seed| Decoder::random(&small, seed, &device));
        let sample = |tokens: &[u32], target: &[bool]| Sample {
            tokens: tokens.to_vec(),
            target: target.to_vec(),
            truncated: false,
        };
        let samples =
            [sample(&[5, 6, 7, 8], &[false, true, false, true]), sample(&[9, 4], &[true; 2])];
        let padding = Padding { id: 0, multiple: 1 };
        let batch = collate(&samples, &[vec![0], vec![1]], padding, &device);

        let read = |model: &Decoder| -> Vec<f32> {
            predictions(model, &batch).into_data().try_to_vec().unwrap()
        };
        let (p, q) = (read(&teacher), read(&student));
        let mut wanted = 0.0;
        // Row 0 predicts its second and fourth token, row 1 its second: places 0, 2 and 3.
        for place in [0, 2, 3] {
            let of =
                |all: &[f32]| softened(&all[place * small.vocab..(place + 1) * small.vocab], 2.0);
            let pairs = of(&p).into_iter().zip(of(&q));
            wanted += 4.0 * pairs.map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
        let objective = Distillation { teacher: teacher.clone(), temperature: 2.0 };
        let tracked = Decoder::random(&small, 2, &device.clone().autodiff());
        assert_eq!(objective.units(&batch), 3);
        let found: Vec<f32> =
            objective.loss(&tracked, &batch).total.into_data().try_to_vec().unwrap();
        assert!((f64::from(found[0]) - wanted).abs() < 1e-4 * wanted, "{found:?} {wanted}");

        let same = Decoder::random(&small, 1, &device.autodiff());
        let none = objective.loss(&same, &batch).total.into_data().try_to_vec::<f32>().unwrap();
        assert!(none[0].abs() < 1e-4 * wanted as f32, "{none:?}");
    }
}
