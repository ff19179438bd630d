//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rekindle_recipe::{Event, RunError};

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
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => self.started(event),
            Event::Step { .. } => self.step(event),
            Event::Eval { step, split, loss, perplexity, exact_match, .. } => {
                let exact = exact_match.map(|rate| format!(" | exact match {:.1} %", rate * 100.0));
                self.line(&format!(
                    "eval at step {step} | {split} loss {loss:.4} | perplexity {perplexity:.3}{}",
                    exact.unwrap_or_default()
                ));
            }
            Event::Checkpoint { step, path } => {
                self.line(&format!("checkpoint of step {step}: {}", path.display()));
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Exported { kind, path } => self.line(&format!("{kind}: {}", path.display())),
            Event::Finished { steps, seconds, status } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                self.line(&format!("{status:?} after {steps} steps, {seconds:.1} s"));
            }
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
        let eta = Duration::from_secs_f64(left.max(0.0)).as_secs();
        let text = format!(
            "step {step}/{total_steps} ({:.0}%) | loss {loss:.4} | lr {learning_rate:.2e} | \
             gnorm {grad_norm:.3} | {tokens_per_second:.0} tok/s | eta {}m{:02}s",
            100.0 * *step as f64 / (*total_steps).max(1) as f64,
            eta / 60,
            eta % 60
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(*step);
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }
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
