//! `rekindle doctor`.

use anyhow::Result;
use burn::tensor::{Distribution, Tensor};
use clap::Args;

use crate::device;

/// Arguments of `rekindle doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Says which backends this build has and whether each computes a product rightly.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checks: Vec<(&str, Result<f32, String>)> =
        device::backends().into_iter().map(|name| (name, check(name))).collect();
    let healthy = checks.iter().all(|(_, check)| check.as_ref().is_ok_and(|error| *error < 1e-2));
    if arguments.json {
        let backends: Vec<_> = checks
            .iter()
            .map(|(name, check)| match check {
                Ok(error) => serde_json::json!({ "name": name, "max_error": error }),
                Err(message) => serde_json::json!({ "name": name, "failure": message }),
            })
            .collect();
        println!(
            "{:#}",
            serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
                "threads": threads,
                "backends": backends,
            })
        );
    } else {
        println!(
            "rekindle {} on {}-{}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS
        );
        println!("{threads} threads");
        for (name, check) in &checks {
            match check {
                Ok(error) => println!("{name}: works, a product differs by at most {error:.1e}"),
                Err(message) => println!("{name}: fails: {message}"),
            }
        }
    }
    Ok(if healthy { 0 } else { 1 })
}

/// The largest error of a 64 x 64 product against f64 on the host.
fn check(name: &str) -> Result<f32, String> {
    const N: usize = 64;
    let device = device::open(name).map_err(|error| format!("{error:#}"))?;
    let make = || Tensor::<2>::random([N, N], Distribution::Uniform(-1.0, 1.0), &device);
    let (a, b) = (make(), make());
    let host = |x: &Tensor<2>| -> Result<Vec<f32>, String> {
        let data = x.clone().try_into_data().map_err(|error| error.to_string())?;
        data.try_to_vec().map_err(|error| format!("{error:?}"))
    };
    let (left, right, product) = (host(&a)?, host(&b)?, host(&a.matmul(b))?);
    let mut worst = 0.0f32;
    for i in 0..N {
        for j in 0..N {
            let terms = (0..N).map(|k| f64::from(left[i * N + k]) * f64::from(right[k * N + j]));
            worst = worst.max((terms.sum::<f64>() as f32 - product[i * N + j]).abs());
        }
    }
    Ok(worst)
}
