//! What a run will need, before anything of the model is loaded: memory by part, steps, operations.

mod cheaper;

use std::time::Instant;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use rekindle_data::{Loader, Padding};
use rekindle_kernels::{self as kernels, length_multiple};
use rekindle_models::Arch;
use rekindle_models::cost::{Flops, Footprint, StepSize, Trained, trained_tensors};
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::RunError;
use crate::model::TextSide;
use crate::plan::Plan;
use crate::recipe::Method;
use crate::run::{EVAL_ROWS, loader};

pub use cheaper::Change;

/// What the program itself, its tokenizer and its libraries hold: measured with a vocabulary of
/// 49,152 on a processor.
const PROGRAM: u64 = 48 << 20;

/// What a GPU holds beside: CUDA's context, compiled kernels, copies of a chunk of logits and of
/// scores, and pages that the pool keeps; measured on an H100.
const ON_GPU: u64 = 850 << 20;

/// Rows that are generated from at once.
const QUESTION_ROWS: usize = 32;

/// A part of the memory of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What it holds.
    pub name: &'static str,
    /// How much, in bytes.
    pub bytes: u64,
}

/// What a run will need.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The largest micro-batch: rows.
    pub rows: usize,
    /// The largest micro-batch: tokens of a row that predict another.
    pub seq: usize,
    /// Memory by part; not all parts are held at the same time.
    pub parts: Vec<MemoryPart>,
    /// Most memory held at once, in bytes.
    pub peak_bytes: u64,
    /// Numbers of the model.
    pub total_parameters: u64,
    /// Numbers that are trained.
    pub trainable_parameters: u64,
    /// Bytes of one checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// Updates.
    pub steps: u64,
    /// Updates in one pass over the data.
    pub steps_per_epoch: u64,
    /// Tokens that the run sees, padding included.
    pub tokens: u64,
    /// Tokens with a loss that the run sees.
    pub target_tokens: u64,
    /// Floating point operations of the run, recomputation included.
    pub flops: f64,
}

/// Where a run will be computed.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// How rows are padded there.
    pub padding: Padding,
    /// Whether the device is the host: what is moved to the host stays where it was.
    pub is_host: bool,
}

impl Machine {
    /// The machine behind `device`, for rows of `text`.
    pub fn new(text: &TextSide, device: &Device) -> Self {
        let multiple = length_multiple(device);
        Self { padding: Padding::new(&text.tokenizer, multiple), is_host: multiple == 1 }
    }
}

/// The rows of one pass over the data, as they will be computed.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The micro-batch with the most tokens.
    largest: StepSize,
    /// Tokens, padding included.
    tokens: u64,
    target_tokens: u64,
    /// The longest row.
    seq: usize,
}

impl Pass {
    fn of(loader: Loader, padding: Padding) -> Self {
        let steps = loader.steps_per_epoch();
        let samples = loader.samples().to_vec();
        let size = |rows: &Vec<Vec<usize>>| {
            let length = |row: &Vec<usize>| row.iter().map(|&id| samples[id].tokens.len()).sum();
            let longest: usize = rows.iter().map(length).max().unwrap_or(1);
            let targets = rows.iter().flatten().map(|&id| samples[id].n_targets()).sum();
            StepSize { rows: rows.len(), seq: padding.predicting(longest), targets }
        };
        let mut pass = Self {
            largest: StepSize { rows: 0, seq: 0, targets: 0 },
            tokens: 0,
            target_tokens: 0,
            seq: 0,
        };
        for size in loader.take(steps).flatten().map(|rows| size(&rows)) {
            let tokens = size.rows * size.seq;
            pass.tokens += tokens as u64;
            pass.target_tokens += size.targets as u64;
            pass.seq = pass.seq.max(size.seq);
            if tokens > pass.largest.rows * pass.largest.seq {
                pass.largest = size;
            }
        }
        pass
    }
}

impl Forecast {
    /// What `plan` needs for `dataset` on a model of `arch`.
    ///
    /// # Errors
    /// [`RunError`] where the data or the method do not fit.
    pub fn of(
        plan: &Plan,
        arch: &Arch,
        dataset: &Dataset,
        machine: Machine,
    ) -> Result<Self, RunError> {
        let Machine { padding, is_host } = machine;
        let loader = loader(plan, dataset)?;
        let steps_per_epoch = loader.steps_per_epoch();
        let steps = plan.total_steps(steps_per_epoch);
        let pass = Pass::of(loader, padding);
        let trained = trained(plan, arch)?;
        let recompute = plan.recompute();
        let width = DType::from(plan.dtype()).size();
        let footprint = Footprint::of(arch, &trained, pass.largest, recompute, width);
        let tensors = trained_tensors(arch, &trained);
        let optimizer = plan.optimizer()?;
        let state: usize =
            tensors.iter().map(|(name, shape)| optimizer.state_bytes(name, shape)).sum();
        let on_device = if optimizer.offload() && !is_host { 0 } else { state as u64 };
        let average = if plan.recipe.train.ema_decay.is_some() { 4 * footprint.trained } else { 0 };
        let accumulates = plan.recipe.train.micro_batch_size() < plan.recipe.train.batch_size;
        let training = footprint.peak(on_device + average, accumulates);
        let (evaluation, cache) = evaluation(plan, arch, dataset, padding, width);
        let held = footprint.weights + footprint.adapters + on_device + average;
        let program = if is_host { PROGRAM } else { ON_GPU };
        let peak_bytes = training.max(held + evaluation.max(cache)) + program;
        let passes = steps as f64 / steps_per_epoch as f64;
        let flops = Flops::of(arch, &trained, pass.seq, recompute).done_per_token(&trained);
        let part = |name, bytes| MemoryPart { name, bytes };
        Ok(Self {
            rows: pass.largest.rows,
            seq: pass.largest.seq,
            parts: vec![
                part("weights", footprint.weights),
                part("adapters", footprint.adapters),
                part("optimizer", on_device),
                part("average of weights", average),
                part("gradients", 4 * footprint.trained),
                part("block inputs", footprint.block_inputs),
                part("kept by blocks", footprint.kept),
                part("one block at work", footprint.working),
                part("loss and logits chunk", footprint.loss),
                part("evaluation", evaluation),
                part("cache of answers", cache),
                part("program", program),
            ],
            peak_bytes,
            total_parameters: arch.n_parameters() as u64 + footprint.adapters / 4,
            trainable_parameters: footprint.trained,
            checkpoint_bytes: 4 * footprint.trained + state as u64 + average,
            steps,
            steps_per_epoch: steps_per_epoch as u64,
            tokens: (pass.tokens as f64 * passes) as u64,
            target_tokens: (pass.target_tokens as f64 * passes) as u64,
            flops: flops * pass.tokens as f64 * passes,
        })
    }
}

/// Floating point operations a second of products in `dtype` on `device`, measured in a moment.
pub fn measured_rate(device: &Device, dtype: FloatDType) -> f64 {
    const N: usize = 512;
    const WIDTH: usize = 1024;
    let device = device.clone().inner();
    let matrix = |rows| Tensor::<2>::ones([rows, WIDTH], &device).cast(dtype);
    let (x, w) = (matrix(N), matrix(WIDTH));
    let product = || kernels::linear(x.clone(), w.clone()).slice([0..1, 0..1]).into_data();
    product();
    let started = Instant::now();
    let mut times = 0;
    while times < 3 || started.elapsed().as_secs_f64() < 0.2 {
        product();
        times += 1;
    }
    f64::from(times) * (2 * N * WIDTH * WIDTH) as f64 / started.elapsed().as_secs_f64()
}

/// What `plan` trains of a model of `arch`.
fn trained(plan: &Plan, arch: &Arch) -> Result<Trained, RunError> {
    if let Some(lora) = plan.lora() {
        let maps = arch.linear_maps();
        let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
        let names = lora.target_modules.select(&maps)?;
        let names = names.into_iter().map(str::to_owned).collect();
        return Ok(Trained::Adapters { r: lora.r, names });
    }
    let (frozen_embeddings, first_block) = match &plan.recipe.method {
        Some(Method::Full(full)) => (full.freeze_embeddings, full.freeze_layers),
        _ => (false, 0),
    };
    Ok(Trained::Weights { frozen_embeddings, first_block })
}

/// Bytes of a forward pass over validation rows, and of the cache for their answers.
fn evaluation(
    plan: &Plan,
    arch: &Arch,
    dataset: &Dataset,
    padding: Padding,
    width: usize,
) -> (u64, u64) {
    let longest = dataset.validation.iter().map(|it| it.tokens.len()).max();
    let Some(longest) = longest else { return (0, 0) };
    let rows = EVAL_ROWS.min(dataset.validation.len());
    let tokens = (rows * padding.predicting(longest)) as u64;
    let (hidden, wide) = (arch.hidden as u64, arch.intermediate as u64);
    let chunk = (kernels::CHUNK_LOGITS as u64).min(tokens * arch.vocab as u64);
    let evaluation = tokens * (4 * hidden + 3 * wide) * width as u64 + 4 * chunk;
    let asked = dataset.questions.iter().map(|it| it.prompt.len()).max();
    let cache = asked.map_or(0, |prompt| {
        let slots = prompt + plan.recipe.eval.max_new_tokens;
        let rows = QUESTION_ROWS.min(dataset.questions.len());
        let kv = 2 * arch.kv_heads * arch.head_dim * arch.n_layers();
        // A cache that grows holds the old one beside the new one.
        (2 * rows * slots * kv * width) as u64
            + (4 * rows * prompt * (arch.hidden + arch.intermediate)) as u64
    });
    (evaluation, cache)
}
