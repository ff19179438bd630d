//! Writes a run with known numbers, for the check against the trackers' own readers.
//!
//! `write_run FOLDER PART [MLFLOW_URL]`: part `first` tells steps 1 to 30 and stops as if it had
//! crashed, `second` resumes after step 20 and finishes at step 40, `drain` sends what is left,
//! and `steady` tells steps 1 to 200 over some seconds, waiting for lines on its input at steps
//! 60 and 120. What the sending thread has to say goes to the output, a line each.

use rekindle_track::{
    Credentials, Delivery, Mlflow, RunInfo, RunStatus, Server, TensorBoard, Timing, Tracker, drain,
};
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

/// When the run began, in seconds since 1970.
const BEGIN: f64 = 1_700_000_000.0;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, part, rest @ ..] = &args[..] else {
        return Err("usage: write_run FOLDER first|second|drain|steady [MLFLOW_URL]".into());
    };
    let folder = Path::new(folder);
    let server = match rest {
        [url, ..] => Some(Server::new(url, Credentials::none())?.with_timing(timing())),
        [] => None,
    };
    match (part.as_str(), server) {
        ("drain", Some(server)) => {
            let drained = drain(&folder.join("mlflow"), &server, Duration::from_secs(60))?;
            println!("drained: {} sent, {} rejected", drained.sent, drained.rejected);
        }
        ("first", server) => {
            for mut tracker in trackers(folder, 1, server)? {
                begin(tracker.as_mut())?;
                tell(tracker.as_mut(), 1, 30)?;
                // No finish: a crash.
                tracker.flush()?;
            }
        }
        ("second", server) => {
            for mut tracker in trackers(folder, 21, server)? {
                begin(tracker.as_mut())?;
                tell(tracker.as_mut(), 21, 40)?;
                finish(tracker.as_mut())?;
            }
        }
        ("steady", Some(server)) => steady(folder, server)?,
        _ => return Err("no such part, or it needs a URL".into()),
    }
    Ok(())
}

fn timing() -> Timing {
    Timing {
        send_every: Duration::from_millis(200),
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(1),
        finish_timeout: Duration::from_secs(30),
        ..Timing::default()
    }
}

fn trackers(
    folder: &Path,
    first_step: u64,
    server: Option<Server>,
) -> Result<Vec<Box<dyn Tracker>>, Box<dyn Error>> {
    let board = TensorBoard::open(&folder.join("tensorboard"), first_step)?;
    let mut trackers: Vec<Box<dyn Tracker>> = vec![Box::new(board)];
    if let Some(server) = server {
        trackers.push(Box::new(mlflow(folder, server)?));
    }
    Ok(trackers)
}

fn mlflow(folder: &Path, server: Server) -> Result<Mlflow, Box<dyn Error>> {
    let run = RunInfo {
        experiment: "interop".to_owned(),
        run_name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        tags: vec![("made.by".to_owned(), "write_run".to_owned())],
    };
    Ok(Mlflow::open(&folder.join("mlflow"), server, &run, |notice| println!("notice: {notice}"))?)
}

fn begin(tracker: &mut dyn Tracker) -> Result<(), Box<dyn Error>> {
    let pairs = [
        ("learning_rate", "0.0001"),
        ("max_steps", "40"),
        ("method", "lora"),
        ("shuffle", "true"),
        ("seed", "9223372036854775807"),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    tracker.params(&pairs.map(own))?;
    tracker.text(0, BEGIN, "note", "A *small* run.\n\n| a | b |\n| - | - |\n| 1 | ü |")?;
    Ok(())
}

fn tell(tracker: &mut dyn Tracker, first: u64, last: u64) -> Result<(), Box<dyn Error>> {
    for step in first..=last {
        // Part of a run that is lost on resuming has other numbers than what replaces it.
        let loss = if last == 30 && step > 20 { 99.0 } else { 4.0 / step as f64 };
        let norm = if step % 10 == 3 { f64::NAN } else { step as f64 * 0.25 };
        let time = BEGIN + step as f64;
        tracker.scalars(step, time, &[("train/loss", loss), ("train/grad_norm", norm)])?;
        if step % 10 == 0 {
            let limit = if step == 40 { f64::INFINITY } else { step as f64 };
            tracker.scalars(step, time, &[("eval/perplexity", limit)])?;
            tracker.text(step, time, "sample", &format!("text of step {step}"))?;
        }
    }
    Ok(())
}

fn steady(folder: &Path, server: Server) -> Result<(), Box<dyn Error>> {
    let mut tracker = mlflow(folder, server)?;
    let mut lines = std::io::stdin().lock().lines();
    for step in 1..=200 {
        tracker.scalars(step, BEGIN + step as f64, &[("train/loss", 4.0 / step as f64)])?;
        std::thread::sleep(Duration::from_millis(10));
        if step % 60 == 0 && step < 180 {
            println!("waiting at step {step}");
            lines.next().transpose()?;
        }
    }
    finish(&mut tracker)
}

fn finish(tracker: &mut dyn Tracker) -> Result<(), Box<dyn Error>> {
    match tracker.finish(RunStatus::Finished, BEGIN + 1000.0)? {
        Delivery::Complete => println!("complete"),
        Delivery::Pending { bytes } => println!("pending: {bytes} bytes"),
    }
    Ok(())
}
