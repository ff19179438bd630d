//! Times whole training steps and prints one line of JSON.

use anyhow::Result;
use clap::Parser;
use rekindle_benches::report::{median, peak_rss_gib, rounded};
use rekindle_benches::{Dtype, Method, Shape, Workload, device};
use rekindle_models::arch::Layer;
use rekindle_models::cost::{Flops, Footprint, StepSize, Trained};
use rekindle_models::{Arch, Recompute};
use rekindle_peft_core::LoraConfig;
use rekindle_train::StepReport;
use serde_json::{Value, json};

/// Times whole training steps on random weights and tokens.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Shape of the model.
    #[arg(long, value_enum, default_value = "smollm2-135m")]
    shape: Shape,
    /// Blocks, in place of the shape's own number.
    #[arg(long)]
    layers: Option<usize>,
    /// What is trained.
    #[arg(long, value_enum, default_value = "lora")]
    method: Method,
    /// Tokens of a row that the forward pass sees.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    seq: u32,
    /// Rows of the batch.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Steps before the clock counts.
    #[arg(long, default_value_t = 2)]
    warmup: u32,
    /// Steps that count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Device, as far as built in.
    #[arg(long, default_value = "flex", help = format!("Device: {}", device::HELP))]
    device: String,
    /// Number format of products and frozen weights.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Every how many blocks one is run again in the backward pass; 0 for none.
    #[arg(long, default_value_t = 0)]
    recompute: usize,
    /// Rank of the adapters.
    #[arg(long, default_value_t = 16)]
    r: usize,
    /// Numerator of the adapters' scale.
    #[arg(long, default_value_t = 32.0)]
    alpha: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = device::open(&args.device)?;
    let lora = LoraConfig { r: args.r, lora_alpha: args.alpha, ..LoraConfig::default() };
    let size = [args.batch as usize, args.seq as usize];
    let workload = Workload::new(&arch(&args), args.method, &lora, size, &device)?;
    let recompute = Recompute { every: args.recompute, offload: false };
    let workload = workload.computing(args.dtype.into(), recompute);
    let (trained, optimizer) = workload.trained(args.method, args.r);
    let (_, reports) = workload.run(u64::from(args.warmup) + u64::from(args.steps))?;
    println!("{}", result(&args, &reports, &trained, optimizer));
    Ok(())
}

fn arch(args: &Args) -> Arch {
    let mut arch = args.shape.arch();
    if let Some(layers) = args.layers {
        arch.layers = vec![Layer::FULL; layers];
    }
    arch
}

/// The line that is printed; `reports` holds the warm-up and then at least one step.
fn result(args: &Args, reports: &[StepReport], trained: &Trained, optimizer: u64) -> Value {
    let timed = &reports[args.warmup as usize..];
    let seconds = median(timed.iter().map(|report| report.seconds).collect());
    let tokens_per_s = f64::from(args.batch) * f64::from(args.seq) / seconds;
    let (arch, seq) = (arch(args), args.seq as usize);
    let recompute = Recompute { every: args.recompute, offload: false };
    let flops = Flops::of(&arch, trained, seq, recompute).per_token(trained);
    let rows = args.batch as usize;
    let size = StepSize { rows, seq, targets: rows * seq };
    let planned = Footprint::of(&arch, trained, size, recompute, args.dtype.width());
    let planned = planned.peak(optimizer, false);
    let (first, last) = (&reports[0], &reports[reports.len() - 1]);
    json!({
        "impl": "rekindle",
        "shape": args.shape.name(),
        "method": match args.method { Method::Lora => "lora", Method::Full => "full" },
        "layers": arch.n_layers(),
        "seq": args.seq,
        "batch": args.batch,
        "dtype": args.dtype.name(),
        "recompute": args.recompute,
        "device": args.device,
        "ms_per_step": rounded(seconds * 1e3, 3),
        "tokens_per_s": rounded(tokens_per_s, 2),
        "model_tflops": rounded(flops * tokens_per_s / 1e12, 5),
        "planned_gib": rounded(planned as f64 / f64::from(1 << 30), 3),
        "peak_rss_gib": peak_rss_gib().map(|gib| rounded(gib, 3)),
        "loss_first": first.loss,
        "loss_last": last.loss,
        "grad_norm_last": last.grad_norm,
    })
}
