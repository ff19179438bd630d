//! Times greedy generation and prints one line of JSON for each batch size.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use rekindle_benches::report::{peak_rss_gib, rounded};
use rekindle_benches::{Dtype, Shape, device};
use rekindle_kernels as kernels;
use rekindle_models::{Decoder, Generation, load};
use rekindle_peft_core::init;
use serde_json::{Value, json};

/// Times greedy generation from prompts of random tokens; no text ends early.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Shape of a model with random weights.
    #[arg(long, value_enum, default_value = "smollm2-135m")]
    shape: Shape,
    /// A Hugging Face folder or a GGUF file instead.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Number format of weights and cache.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Batch sizes, one after the other.
    #[arg(long, num_args = 1.., default_values_t = [1, 16])]
    batches: Vec<usize>,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// Tokens added to each.
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// Runs that count; the fastest is told.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Device, as far as built in.
    #[arg(long, default_value = "flex", help = format!("Device: {}", device::HELP))]
    device: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    kernels::on_compute_threads(|| run(&args))
}

fn run(args: &Args) -> Result<()> {
    let device = device::open(&args.device)?;
    let model = model(args, &device)?;
    for &batch in &args.batches {
        println!("{}", measure(args, &model, batch));
    }
    Ok(())
}

fn model(args: &Args, device: &Device) -> Result<Decoder> {
    let dtype = args.dtype.into();
    let Some(path) = &args.model else {
        return Ok(Decoder::random(&args.shape.arch(), 0, device).cast(dtype));
    };
    let files = load::open(path)?;
    Ok(Decoder::load_as(files.source(), &files.arch()?, dtype, device)?)
}

fn measure(args: &Args, model: &Decoder, batch: usize) -> Value {
    let prompts = prompts(model.arch().vocab, batch, args.prompt);
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let seconds = |new: usize, repeats: usize| {
        let how = Generation::greedy(Vec::new(), new);
        let run = || {
            let start = Instant::now();
            let texts = model.generate(&rows, &how, |_| true);
            assert!(texts.iter().all(|text| text.tokens.len() == new), "a text ended early");
            start.elapsed().as_secs_f64()
        };
        (0..repeats.max(1)).map(|_| run()).fold(f64::INFINITY, f64::min)
    };
    // Kernels are compiled for every number of slots on the way.
    seconds(args.new, 1);
    let (whole, first) = (seconds(args.new, args.repeats), seconds(1, args.repeats));
    let step = (whole - first) / (args.new - 1).max(1) as f64;
    json!({
        "impl": "rekindle",
        "dtype": args.dtype.name(),
        "device": args.device,
        "batch": batch,
        "tokens_per_s": rounded((batch * args.new) as f64 / whole, 1),
        "decode_tokens_per_s": rounded(batch as f64 / step, 1),
        "prefill_ms": rounded(first * 1e3, 1),
        "decode_ms": rounded(step * 1e3, 3),
        "peak_rss_gib": peak_rss_gib().map(|gib| rounded(gib, 3)),
    })
}

fn prompts(vocab: usize, batch: usize, len: usize) -> Vec<Vec<u32>> {
    let mut rng = init::generator(0, "tokens", "prompts");
    let draws = init::uniform(&mut rng, batch * len, 0.5);
    let token = |draw: &f32| (((draw + 0.5) * vocab as f32) as usize).min(vocab - 1) as u32;
    draws.chunks(len.max(1)).map(|row| row.iter().map(token).collect()).collect()
}
