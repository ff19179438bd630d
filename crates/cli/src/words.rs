//! Events and figures in words, the same on every surface.

use rekindle_recipe::Event;

/// An event as one line; none for those that only add to a figure.
pub fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Eval { step, split, loss, perplexity, exact_match, .. } => {
            let exact = exact_match.map(|rate| format!(" | exact match {:.1} %", rate * 100.0));
            format!(
                "eval at step {step} | {split} loss {loss:.4} | perplexity {perplexity:.3}{}",
                exact.unwrap_or_default()
            )
        }
        Event::Checkpoint { step, path } => {
            format!("checkpoint of step {step}: {}", path.display())
        }
        Event::Warning { message } => format!("warning: {message}"),
        Event::Exported { kind, path } => format!("{kind}: {}", path.display()),
        Event::Finished { steps, seconds, status } => {
            format!("{status:?} after {steps} steps, {seconds:.1} s")
        }
        Event::Step { step, skipped: true, .. } => {
            format!("step {step} was left out: its gradient was not finite")
        }
        _ => return None,
    })
}

/// A time in its two largest units: `4s`, `12m05s`, `3h20m`, `2d04h`.
pub fn duration(seconds: f64) -> String {
    // The cast saturates; below zero and NaN are zero.
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Bytes in the largest binary unit that leaves a whole part.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A number in at most eight characters.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 1000.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// Text for a terminal, on one line: control characters, which could steer it, are replaced.
pub fn clean(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let durations = [-1.0, 0.4, 59.6, 3599.0, 3600.0, 90_000.0, f64::NAN].map(duration);
        assert_eq!(durations, ["0s", "0s", "1m00s", "59m59s", "1h00m", "1d01h", "0s"]);
        assert_eq!([0, 1023, 1024, 3 << 29].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
        let numbers = [0.0, 1e-4, 0.5, -12.345, 5312.4, 1e9].map(number);
        assert_eq!(numbers, ["0", "1.00e-4", "0.5000", "-12.35", "5312", "1.00e9"]);
        assert_eq!(clean("a\u{1b}[2J\nb"), "a [2J b");
    }
}
