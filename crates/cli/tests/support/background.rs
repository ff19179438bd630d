//! A run that goes on in the background.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::World;

/// A `train` that goes on; it is killed when the test ends.
pub struct Background(Child);

/// The events of a run that have been written so far.
pub fn events(world: &World, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(world.path(run).join("events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The steps among events.
pub fn steps(events: &[Value]) -> Vec<u64> {
    let steps = events.iter().filter(|event| event["event"] == "step");
    steps.map(|event| event["step"].as_u64().unwrap()).collect()
}

impl Background {
    /// Starts `train` in the folder `run`.
    pub fn spawn(world: &World, more: &[&str]) -> Self {
        let arguments = ["train", "recipe.toml", "--device", "cpu", "--plain"];
        Self::of(world.command(&[&arguments, more].concat()))
    }

    /// Starts a command.
    pub fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until the log of `run` is as is awaited.
    pub fn wait_for(&mut self, world: &World, awaited: impl Fn(&[Value]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !awaited(&events(world, "run")) {
            assert!(self.0.try_wait().unwrap().is_none(), "the run has ended too soon");
            assert!(Instant::now() < deadline, "the run does not get to what is awaited");
            sleep(Duration::from_millis(2));
        }
    }

    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.id()]).status().unwrap().success());
    }

    /// Stops the process and waits until all of its threads stand still.
    pub fn hold(&self) {
        self.signal("-STOP");
        let id = self.id();
        let stands = || {
            let state = Command::new("ps").args(["-o", "state=", "-p", &id]).output().unwrap();
            state.stdout.first() == Some(&b'T')
        };
        while !stands() {
            sleep(Duration::from_millis(5));
        }
    }

    /// How it ends; the time from now on must be within the grace that schedulers give.
    pub fn code(mut self) -> Option<i32> {
        let asked = Instant::now();
        let code = self.0.wait().unwrap().code();
        assert!(asked.elapsed() < Duration::from_secs(30), "the grace period is over");
        code
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has mostly ended already; then there is nothing to kill.
        let _ended = self.0.kill();
        let _code = self.0.wait();
    }
}
