//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use rekindle_recipe::{Event, RunError};

use crate::words;

/// Prints events to standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    seconds: f64,
    steps: u64,
}

impl Progress {
    /// A bar if standard error is a terminal and `plain` is not asked for.
    pub fn new(plain: bool) -> Self {
        let bar = (!plain && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24.cyan/blue} {msg}");
            let bar = ProgressBar::new(0);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, seconds: 0.0, steps: 0 }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => self.started(event),
            Event::Step { .. } => self.step(event),
            Event::Finished { .. } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        if let Some(line) = words::event(event) {
            self.line(&line);
        }
    }

    fn started(&self, event: &Event) {
        let Event::RunStarted {
            run,
            model,
            method,
            trainable_parameters,
            total_parameters,
            device,
            train_rows,
            validation_rows,
            target_tokens,
            total_steps,
        } = event
        else {
            return;
        };
        let share = 100.0 * *trainable_parameters as f64 / (*total_parameters).max(1) as f64;
        self.line(&format!("run {run}: {method} on {model}, device {device}"));
        self.line(&format!(
            "  trains {trainable_parameters} of {total_parameters} parameters ({share:.2} %)"
        ));
        self.line(&format!(
            "  {train_rows} training rows with {target_tokens} target tokens, \
             {validation_rows} validation rows, {total_steps} steps"
        ));
        if let Some(bar) = &self.bar {
            bar.set_length(*total_steps);
        }
    }

    fn step(&mut self, event: &Event) {
        let Event::Step {
            step,
            total_steps,
            loss,
            grad_norm,
            learning_rate,
            seconds,
            tokens_per_second,
            ..
        } = event
        else {
            return;
        };
        self.seconds += seconds;
        self.steps += 1;
        let left = self.seconds / self.steps as f64 * total_steps.saturating_sub(*step) as f64;
        let text = format!(
            "step {step}/{total_steps} ({:.0}%) | loss {loss:.4} | lr {learning_rate:.2e} | \
             gnorm {grad_norm:.3} | {tokens_per_second:.0} tok/s | eta {}",
            100.0 * *step as f64 / (*total_steps).max(1) as f64,
            words::duration(left)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(*step);
                bar.set_message(text);
            }
            None => say(&text),
        }
    }
}

/// Prints a line on standard error; a reader that has gone away must not end the run.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Exit code of a program whose output nobody reads any more, as shells know it from SIGPIPE.
const BROKEN_PIPE: i32 = 141;

/// Ends the program without a word where `print!` finds that the reader has gone, as in
/// `rekindle runs list | head`. Rust panics there.
pub fn end_quietly_on_broken_pipes() {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let words = info.payload_as_str().unwrap_or_default();
        if words.starts_with("failed printing to std") && words.contains("Broken pipe") {
            signal_hook::low_level::exit(BROKEN_PIPE);
        }
        earlier(info);
    }));
}

/// Prints an error as the user is to read it and gives its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let styled = std::io::stderr().is_terminal();
    match error.downcast_ref::<RunError>() {
        Some(RunError::Recipe(error)) => eprintln!("{}", error.render(styled)),
        _ => eprintln!("error: {error}"),
    }
    // A message of ours says its cause already; what anyhow added is shown below it.
    for cause in error.chain().skip(1).filter(|_| error.downcast_ref::<RunError>().is_none()) {
        eprintln!("  because: {cause}");
    }
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<RunError>().map_or(2, RunError::exit_code)
}
