//! Runs that are cut off at random instants, again and again, until they are done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::World;

const ADAPTER: &str = "adapter/adapter_model.safetensors";

/// What cuts a run off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// SIGKILL: nothing can be done about it.
    Kill,
    /// SIGTERM: a checkpoint is saved, and the exit code is 75.
    Terminate,
}

/// How often what was hit.
#[derive(Debug, Default)]
pub struct Tally {
    pub cuts: usize,
    /// Before the first step of that part of the run.
    pub before_steps: usize,
    /// With a checkpoint half written or half removed.
    pub in_saves: usize,
    /// Runs that came to their end.
    pub finished: usize,
}

/// A run of `steps` steps with these settings, and what it gives if it is left alone.
pub struct Torment<'w> {
    world: &'w World,
    steps: u64,
    save_every: u64,
    settings: Vec<String>,
    whole: Results,
    /// Seconds that it takes.
    seconds: f64,
}

/// All that must be the same.
#[derive(PartialEq)]
struct Results {
    adapter: Vec<u8>,
    checkpoint: BTreeMap<PathBuf, Vec<u8>>,
    losses: Vec<(u64, Value)>,
    evaluations: Vec<(u64, Value)>,
    measured: [Value; 2],
}

impl<'w> Torment<'w> {
    /// With `save_every` 0, a checkpoint is saved only where the run is asked to stop.
    pub fn new(world: &'w World, [steps, save_every]: [u64; 2], settings: &[&str]) -> Self {
        let mut all = vec!["--set".to_owned(), format!("train.max_steps={steps}")];
        if save_every > 0 {
            all.extend(["--set".to_owned(), format!("train.save_steps={save_every}")]);
        }
        all.extend(settings.iter().flat_map(|it| ["--set".to_owned(), (*it).to_owned()]));
        let mut torment =
            Self { world, steps, save_every, settings: all, whole: Results::none(), seconds: 0.0 };
        let began = Instant::now();
        let settings = torment.settings.iter().map(String::as_str);
        let whole: Vec<_> = ["--output", "whole"].into_iter().chain(settings).collect();
        world.train(&whole).ended(0, &[]);
        torment.seconds = began.elapsed().as_secs_f64();
        torment.whole = torment.results("whole");
        assert_eq!(torment.whole.losses.len() as u64, steps);
        torment
    }

    /// Cuts runs off `times` times; each time, `--resume` goes on, and what comes of a run in the
    /// end is what came of the one that was left alone.
    pub fn run(&self, cut: Cut, times: usize, seed: u64) -> Tally {
        let mut tally = Tally::default();
        let mut random = seed;
        let mut run = "run-0".to_owned();
        while tally.cuts < times {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let part = (random >> 40) as f64 / (1_u64 << 24) as f64;
            let wait = Duration::from_secs_f64(part * 0.7 * self.seconds);
            if self.live(&run, cut, wait, &mut tally) {
                self.assert_whole(&run);
                tally.finished += 1;
                run = format!("run-{}", tally.finished);
            }
        }
        let finished = self.command(&run).status().unwrap().success();
        assert!(finished, "the last run cannot be finished");
        self.assert_whole(&run);
        tally.finished += 1;
        tally
    }

    fn command(&self, run: &str) -> Command {
        let arguments = ["train", "recipe.toml", "--device", "cpu", "--plain", "--output", run];
        let mut command = self.world.command(&arguments);
        command.args(&self.settings).stdout(Stdio::null());
        let said = self.world.path("said");
        command.stderr(fs::File::options().append(true).create(true).open(said).unwrap());
        command.arg("--resume");
        command
    }

    /// One life of a run: whether it came to its end.
    fn live(&self, run: &str, cut: Cut, wait: Duration, tally: &mut Tally) -> bool {
        let before = last_step(&self.world.path(run));
        let mut child = self.command(run).spawn().unwrap();
        if cut == Cut::Terminate && !listens(&mut child) {
            return self.ended(&mut child);
        }
        sleep(wait);
        if child.try_wait().unwrap().is_some() {
            return self.ended(&mut child);
        }
        let signal = if cut == Cut::Kill { "-KILL" } else { "-TERM" };
        let id = child.id().to_string();
        let asked = Instant::now();
        // It may have ended just now; then there is nothing to hear the signal.
        let _heard = Command::new("kill").args([signal, &id]).stderr(Stdio::null()).status();
        let status = child.wait().unwrap();
        if status.success() {
            return true;
        }
        let code = (cut == Cut::Terminate).then_some(75);
        assert_eq!(status.code(), code, "{}", self.said());
        assert!(asked.elapsed() < Duration::from_secs(30), "the grace period is over");
        tally.cuts += 1;
        self.look(run, cut, before, tally);
        false
    }

    /// What was hit, and whether anything is lost.
    fn look(&self, run: &str, cut: Cut, before: u64, tally: &mut Tally) {
        let dir = self.world.path(run);
        let done = last_step(&dir);
        tally.before_steps += usize::from(done == before);
        let names: Vec<_> = fs::read_dir(dir.join("checkpoints"))
            .map(|entries| entries.map(|it| it.unwrap().file_name().into_string().unwrap()))
            .into_iter()
            .flatten()
            .collect();
        let hidden = names.iter().any(|name| name.starts_with('.'));
        tally.in_saves += usize::from(hidden);
        let newest = names.iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max();
        let newest: u64 = newest.unwrap_or(0);
        match cut {
            // It may have been about to save the step.
            Cut::Kill => {
                let lost = done.saturating_sub(newest);
                assert!(lost <= self.save_every, "step {done} was done, {names:?} are left");
            }
            Cut::Terminate => {
                assert_eq!(newest, done, "{names:?}\n{}", self.said());
                assert!(!hidden, "{names:?}");
            }
        }
    }

    fn ended(&self, child: &mut Child) -> bool {
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
        true
    }

    fn said(&self) -> String {
        let said = fs::read_to_string(self.world.path("said")).unwrap();
        said.lines().rev().take(12).collect::<Vec<_>>().join("\n")
    }

    fn results(&self, run: &str) -> Results {
        let dir = self.world.path(run);
        let events = events(&dir);
        let of = |kind: &str| {
            let all = events.iter().filter(|it| it["event"] == kind);
            all.map(|it| (it["step"].as_u64().unwrap(), it["loss"].clone())).collect()
        };
        let summary: Value =
            serde_json::from_slice(&fs::read(dir.join("summary.json")).unwrap()).unwrap();
        let newest = format!("checkpoints/step-{:06}", self.steps);
        let checkpoint = self.world.files(&format!("{run}/{newest}")).into_iter();
        Results {
            adapter: fs::read(dir.join(ADAPTER)).unwrap(),
            checkpoint: checkpoint
                .map(|(path, bytes)| (path.file_name().unwrap().into(), bytes))
                .collect(),
            losses: of("step"),
            evaluations: of("eval"),
            measured: [summary["base"].clone(), summary["tuned"].clone()],
        }
    }

    fn assert_whole(&self, run: &str) {
        let results = self.results(run);
        let Results { adapter, checkpoint, losses, evaluations, measured } = &results;
        assert_eq!(losses, &self.whole.losses, "{run}: each step once, with its loss");
        assert_eq!(evaluations, &self.whole.evaluations, "{run}");
        assert_eq!(measured, &self.whole.measured, "{run}");
        let differs = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            (self.whole.checkpoint.get(path) != Some(bytes)).then(|| path.clone())
        };
        let differing: Vec<_> = checkpoint.iter().filter_map(differs).collect();
        let same = self.save_every == 0 || differing.is_empty();
        assert!(same, "{run}: of the last checkpoint, {differing:?} differ");
        assert!(adapter == &self.whole.adapter, "{run}: the adapters differ");
        let dir = self.world.path(run);
        let is_hidden = |path: &PathBuf| {
            let mut inside = path.strip_prefix(&dir).unwrap().iter();
            inside.any(|part| part.to_string_lossy().starts_with('.'))
        };
        let files = self.world.files(run);
        let hidden: Vec<_> = files.keys().filter(|path| is_hidden(path)).collect();
        assert!(hidden.is_empty(), "{run}: {hidden:?} are left");
    }
}

impl Results {
    fn none() -> Self {
        Self {
            adapter: Vec::new(),
            checkpoint: BTreeMap::new(),
            losses: Vec::new(),
            evaluations: Vec::new(),
            measured: [Value::Null, Value::Null],
        }
    }
}

fn events(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn last_step(dir: &Path) -> u64 {
    let events = events(dir);
    let steps = events.iter().filter(|it| it["event"] == "step");
    steps.filter_map(|it| it["step"].as_u64()).next_back().unwrap_or(0)
}

/// Waits until a process hears SIGTERM; whether it did before it ended.
fn listens(child: &mut Child) -> bool {
    const SIGTERM: u32 = 15;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if caught.is_some_and(|mask| mask & (1 << (SIGTERM - 1)) != 0) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}
