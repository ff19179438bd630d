//! What the loop tells, turned into events.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use rekindle_models::Decoder;
use rekindle_track::Credentials;
use rekindle_train::{Observer, StepReport, TrainError};

use super::host::statistics;
use super::measure::{measure, validation_loss};
use super::trackers::RunTrackers;
use super::{Loaded, Measured, RunOptions};
use crate::dataset::Dataset;
use crate::error::RunError;
use crate::events::{Environment, Event, EventLog, EventsError, Status};
use crate::plan::Plan;
use crate::recipe::BestMetric;

/// Answers of an evaluation that become events; `summary.json` has them all.
const SAMPLES: usize = 16;

/// How often a log that waits for its disk looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The log file and the listener: every event goes to both.
pub(super) struct Log<'a> {
    file: EventLog,
    listener: &'a mut dyn FnMut(&Event),
    patience: Option<Patience>,
    trackers: Option<(RunTrackers, String)>,
}

/// How a log waits for a disk that takes no more lines.
pub(super) struct Patience {
    /// Time between two tries.
    pub every: Duration,
    /// Ends the waiting once it is not zero.
    pub stop: Arc<AtomicUsize>,
}

impl<'a> Log<'a> {
    /// A log that fails where its disk does, or waits for it.
    pub(super) fn new(
        file: EventLog,
        listener: &'a mut dyn FnMut(&Event),
        patience: Option<Patience>,
    ) -> Self {
        Self { file, listener, patience, trackers: None }
    }

    /// Tells the trackers of the recipe too, from here on.
    pub(super) fn track(&mut self, plan: &Plan, credentials: &Credentials, step: u64) {
        let run = plan.run_dir.display().to_string();
        self.trackers = Some((RunTrackers::open(plan, credentials, step), run));
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<(), RunError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |it| it.as_secs_f64());
        if let (Event::Finished { status, .. }, Some((trackers, run))) = (event, &mut self.trackers)
        {
            // Before the last line of the log, which says that the run has ended.
            let left = trackers.finish(*status, now, run);
            left.into_iter().try_for_each(|message| self.put(now, &Event::Warning { message }))?;
            return self.put(now, event);
        }
        self.put(now, event)?;
        let Some((trackers, _)) = &mut self.trackers else { return Ok(()) };
        trackers.event(now, event);
        let warnings = trackers.warnings();
        warnings.into_iter().try_for_each(|message| self.put(now, &Event::Warning { message }))
    }

    fn put(&mut self, time: f64, event: &Event) -> Result<(), RunError> {
        if let Err(error) = self.file.append(time, event) {
            self.wait_for_disk(time, event, error)?;
        }
        (self.listener)(event);
        Ok(())
    }

    /// Tries until the line is written or the run is asked to stop, if it has the patience.
    fn wait_for_disk(
        &mut self,
        now: f64,
        event: &Event,
        mut error: EventsError,
    ) -> Result<(), RunError> {
        let Some(Patience { every, stop }) = &self.patience else { return Err(error.into()) };
        let message = format!("{error}; the run waits and tries again every {every:?}");
        (self.listener)(&Event::Warning { message });
        loop {
            let asleep = Instant::now();
            while asleep.elapsed() < *every {
                if stop.load(Ordering::SeqCst) != 0 {
                    return Err(error.into());
                }
                std::thread::sleep(GLANCE.min(*every));
            }
            match self.file.append(now, event) {
                Ok(()) => break,
                Err(again) => error = again,
            }
        }
        let message = "the log can be written again; the run goes on".to_owned();
        (self.listener)(&Event::Warning { message });
        Ok(())
    }

    pub(super) fn warn(&mut self, message: &str) -> Result<(), RunError> {
        self.event(&Event::Warning { message: message.to_owned() })
    }

    /// What the run computes with, and what its rows are like; `data_hash` is that of their files.
    pub(super) fn surroundings(
        &mut self,
        environment: Environment,
        dataset: &Dataset,
        data_hash: &str,
    ) -> Result<(), RunError> {
        self.event(&Event::Environment(environment))?;
        self.event(&Event::Data(statistics(dataset, data_hash)))
    }

    pub(super) fn measured(&mut self, step: u64, measured: &Measured) -> Result<(), RunError> {
        let Some(loss) = measured.loss else { return Ok(()) };
        self.event(&Event::Eval {
            step,
            split: "validation".to_owned(),
            loss: loss.loss,
            perplexity: loss.perplexity,
            tokens: loss.tokens,
            exact_match: measured.answers.as_ref().map(|answers| answers.rate()),
        })?;
        let answers = measured.answers.iter().flat_map(|it| &it.answers);
        for answer in answers.take(SAMPLES) {
            self.event(&Event::Sample {
                step,
                split: "validation".to_owned(),
                question: answer.question.clone(),
                wanted: answer.wanted.clone(),
                given: answer.given.clone(),
            })?;
        }
        Ok(())
    }
}

/// Hears the loop, evaluates on the validation rows and passes on requests to stop.
pub(super) struct RunObserver<'a, 'l> {
    log: &'a mut Log<'l>,
    loaded: &'a Loaded,
    options: &'a RunOptions,
    last_step: u64,
    total_steps: u64,
    /// What a choice among checkpoints hangs on, where there is one.
    metric: Option<BestMetric>,
    /// A log that could not be written; the run stops for it.
    pub failure: Option<RunError>,
}

impl<'a, 'l> RunObserver<'a, 'l> {
    /// An observer of a run that continues after `last_step` of `total_steps`.
    pub(super) fn new(
        log: &'a mut Log<'l>,
        loaded: &'a Loaded,
        options: &'a RunOptions,
        metric: Option<BestMetric>,
        [last_step, total_steps]: [u64; 2],
    ) -> Self {
        Self { log, loaded, options, last_step, total_steps, metric, failure: None }
    }

    /// Notes the end of a run by an error, as far as the log can still be written.
    pub(super) fn failed(&mut self, error: TrainError, started: Instant) -> RunError {
        let (status, steps) = (Status::Failed, self.last_step);
        self.tell(&Event::Warning { message: format!("the run has failed: {error}") });
        self.tell(&Event::Finished { status, steps, seconds: started.elapsed().as_secs_f64() });
        error.into()
    }

    fn tell(&mut self, event: &Event) {
        if let Err(error) = self.log.event(event) {
            self.failure.get_or_insert(error);
        }
    }
}

impl Observer<Decoder> for RunObserver<'_, '_> {
    fn on_step(&mut self, report: &StepReport) {
        self.last_step = report.step;
        self.tell(&Event::Step {
            step: report.step,
            total_steps: report.total_steps,
            loss: report.loss,
            grad_norm: report.grad_norm,
            learning_rate: report.learning_rate,
            tokens: report.units,
            seconds: report.seconds,
            tokens_per_second: report.units as f64 / report.seconds,
            skipped: report.skipped,
            memory_bytes: self.options.host.memory_bytes(),
        });
    }

    fn evaluate(&mut self, step: u64, policy: &Decoder) -> Result<Option<f64>, TrainError> {
        // The finished model is measured in full after the loop, unless a choice hangs on it here.
        if step == self.total_steps && self.metric.is_none() {
            return Ok(None);
        }
        let failed = |error: RunError| match error {
            RunError::Stopped { .. } => TrainError::EvaluationStopped,
            error => TrainError::evaluation(error.exit_code(), error),
        };
        let model = policy.valid();
        let measured = match self.metric {
            Some(BestMetric::ExactMatch) => {
                measure(&model, self.loaded, self.options).map_err(failed)?
            }
            _ => {
                let loss = validation_loss(&model, self.loaded, self.options);
                Measured { loss: loss.map_err(failed)?, answers: None }
            }
        };
        self.log.measured(step, &measured).map_err(failed)?;
        Ok(match self.metric {
            None => None,
            Some(BestMetric::Loss) => measured.loss.map(|it| it.loss),
            Some(BestMetric::ExactMatch) => measured.answers.map(|it| it.rate()),
        })
    }

    fn on_checkpoint(&mut self, step: u64, path: &Path) {
        self.tell(&Event::Checkpoint { step, path: path.to_owned() });
    }

    fn on_warning(&mut self, message: &str) {
        self.tell(&Event::Warning { message: message.to_owned() });
    }

    fn stop_requested(&self) -> bool {
        self.failure.is_some()
            || self.options.stop.load(Ordering::SeqCst) != 0
            || self.options.stop_after.is_some_and(|step| self.last_step >= step)
    }

    fn save_requested(&mut self) -> bool {
        self.options.save.swap(false, Ordering::SeqCst)
    }
}

/// Number of weights that require a gradient.
pub(super) fn trainable(model: &Decoder) -> u64 {
    struct Count(u64);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                self.0 += tensor.dims().iter().product::<usize>() as u64;
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    use super::*;

    const EVERY: Duration = Duration::from_millis(1);
    /// Linux's flag by which a full pipe refuses instead of waiting.
    const O_NONBLOCK: i32 = 0o4000;

    /// What the listener hears of a warning, and what comes of it.
    fn warned(file: File, stop: &Arc<AtomicUsize>) -> (Result<(), RunError>, Vec<String>) {
        let mut heard = Vec::new();
        let listener = &mut |event: &Event| match event {
            Event::Warning { message } => heard.push(message.clone()),
            other => panic!("{other:?}"),
        };
        let patience = Patience { every: EVERY, stop: Arc::clone(stop) };
        let result = Log::new(EventLog::on(file), listener, Some(patience)).warn("a word");
        (result, heard)
    }

    #[test]
    fn a_log_without_room_says_so_once_and_waits_until_it_is_asked_to_stop() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let stop = Arc::new(AtomicUsize::new(0));
        let asks = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(100 * EVERY);
            asks.store(15, Ordering::SeqCst);
        });
        let (result, heard) = warned(full, &stop);
        assert_eq!(result.unwrap_err().exit_code(), 6);
        assert_eq!(heard.len(), 1);
        assert!(heard[0].contains("No space left") && heard[0].contains("every 1ms"), "{heard:?}");
        thread.join().unwrap();
    }

    #[test]
    fn a_log_goes_on_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let open = |write: bool| {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(write).custom_flags(O_NONBLOCK).open(&path).unwrap()
        };
        let (mut reader, mut writer) = (open(true), open(true));
        while writer.write(&[b'x'; 64]).is_ok() {}
        let thread = std::thread::spawn(move || {
            std::thread::sleep(50 * EVERY);
            let mut all = Vec::new();
            let mut part = [0; 4096];
            for _ in 0..100 {
                while let Ok(n @ 1..) = reader.read(&mut part) {
                    all.extend_from_slice(&part[..n]);
                }
                std::thread::sleep(5 * EVERY);
            }
            String::from_utf8(all).unwrap()
        });
        let (result, heard) = warned(writer, &Arc::default());
        result.unwrap();
        let [waits, goes_on, word] = heard.as_slice() else { panic!("{heard:?}") };
        assert!(waits.contains("tries again") && goes_on.contains("the run goes on"), "{heard:?}");
        assert_eq!(word, "a word");
        let read = thread.join().unwrap();
        assert_eq!(read.matches("a word").count(), 1, "{read}");
    }
}
