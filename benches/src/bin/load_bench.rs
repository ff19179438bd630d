//! Loads a model and prints, as one line of JSON, how long it took and how much memory it needed.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use rekindle_benches::report::{peak_rss_gib, rounded};
use rekindle_benches::{Dtype, device};
use rekindle_models::{Decoder, load};
use serde_json::json;

/// Loads a model, one tensor at a time.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// A Hugging Face folder or a GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Number format of the weights.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Device, as far as built in.
    #[arg(long, default_value = "flex", help = format!("Device: {}", device::HELP))]
    device: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = device::open(&args.device)?;
    let before = peak_rss_gib();
    let files = load::open(&args.model)?;
    let arch = files.arch()?;
    let start = Instant::now();
    let model = Decoder::load_as(files.source(), &arch, args.dtype.into(), &device)?;
    device.sync()?;
    let seconds = start.elapsed().as_secs_f64();
    let gib =
        |numbers: usize| rounded((numbers * args.dtype.width()) as f64 / f64::from(1 << 30), 3);
    let sizes = arch.tensor_shapes().into_iter().map(|(_, shape)| shape.iter().product());
    println!(
        "{}",
        json!({
            "parameters": model.arch().n_parameters(),
            "dtype": args.dtype.name(),
            "device": args.device,
            "seconds": rounded(seconds, 1),
            "model_gib": gib(arch.n_parameters()),
            "largest_tensor_gib": gib(sizes.max().unwrap_or(0)),
            "rss_before_gib": before.map(|gib| rounded(gib, 3)),
            "peak_rss_gib": peak_rss_gib().map(|gib| rounded(gib, 3)),
        })
    );
    Ok(())
}
