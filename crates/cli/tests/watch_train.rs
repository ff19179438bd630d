//! What `rekindle train` shows while it goes on: the dashboard, lines, events as JSON.

#![cfg(unix)]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use support::World;

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// What came of a run on a terminal.
struct Shown {
    status: ExitStatus,
    screen: String,
    modes: [LocalModes; 2],
}

/// What is done to a run.
enum Ask<'a> {
    /// It goes its way.
    Nothing,
    /// These keys are typed.
    Keys(&'a [u8]),
    /// `rekindle runs stop`.
    Stop,
}

/// Trains on a terminal of its own and asks once the second step is done.
fn on_terminal(world: &World, more: &[&str], ask: Ask<'_>, term: &str) -> Shown {
    on_columns(100, world, &[&["--tui"], more].concat(), ask, term)
}

/// Trains on a terminal of so many columns.
fn on_columns(columns: u16, world: &World, more: &[&str], ask: Ask<'_>, term: &str) -> Shown {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let size = Winsize { ws_row: 30, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let slave = File::options().read(true).write(true).open(name).unwrap();
    let before = tcgetattr(&slave).unwrap().local_modes;
    let mut command = world.command(&["train", "recipe.toml", "--device", "cpu"]);
    command.args(more).env("TERM", term).env_remove("NO_COLOR").stdout(Stdio::null());
    command.stdin(slave.try_clone().unwrap()).stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    // The command keeps its ends of the terminal open as long as it lives.
    drop(command);
    let mut reader = File::from(master);
    let mut writer = reader.try_clone().unwrap();
    let screen = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut part = [0; 4096];
        // Reading fails once nobody holds the other side.
        while let Ok(n @ 1..) = reader.read(&mut part) {
            all.extend_from_slice(&part[..n]);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    let log = world.path("run/events.jsonl");
    while !matches!(ask, Ask::Nothing)
        && !fs::read_to_string(&log).unwrap_or_default().contains("\"step\":2,")
    {
        assert!(Instant::now() < deadline, "the run does not begin");
        sleep(Duration::from_millis(5));
    }
    match ask {
        Ask::Nothing => {}
        Ask::Keys(keys) => writer.write_all(keys).unwrap(),
        Ask::Stop => world.run(&["runs", "stop", "run", "--dir", "."]).ended(0, &["asked process"]),
    }
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        sleep(Duration::from_millis(5));
    };
    let after = tcgetattr(&slave).unwrap().local_modes;
    drop(slave);
    Shown { status, screen: screen.join().unwrap(), modes: [before, after] }
}

fn last_event(world: &World) -> Value {
    let text = fs::read_to_string(world.path("run/events.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn q_on_the_dashboard_saves_and_stops_and_gives_the_terminal_back() {
    for key in [&b"q"[..], b"\x03"] {
        let world = World::new();
        let long = ["--set", "train.max_steps=100000"];
        let shown = on_terminal(&world, &long, Ask::Keys(key), "xterm-256color");
        assert_eq!(shown.status.code(), Some(130), "{}", shown.screen);
        assert_eq!(last_event(&world)["status"], "cancelled");
        assert!(!world.files("run/checkpoints").is_empty());
        assert_eq!(shown.modes[0], shown.modes[1]);
        let inside = shown.screen.split(ENTER).nth(1).expect("the alternate screen");
        let (inside, outside) = inside.split_once(LEAVE).expect("and back");
        assert!(inside.contains("Loss") && inside.contains("tokens/s"), "{inside}");
        assert!(outside.contains("Cancelled after"), "{outside}");
    }
}

#[test]
fn a_run_on_a_dashboard_can_be_stopped_from_outside() {
    let world = World::new();
    let long = ["--set", "train.max_steps=100000"];
    let shown = on_terminal(&world, &long, Ask::Stop, "xterm-256color");
    assert_eq!(shown.status.code(), Some(75), "{}", shown.screen);
    assert_eq!(last_event(&world)["status"], "preempted");
    assert_eq!(shown.modes[0], shown.modes[1]);
    // It goes on where it was, and ends by itself.
    let done = last_event(&world)["steps"].as_u64().unwrap();
    let more = ["--resume", "--stop-after", &(done + 2).to_string(), long[0], long[1]];
    let shown = on_terminal(&world, &more, Ask::Nothing, "xterm-256color");
    assert_eq!(shown.status.code(), Some(0), "{}", shown.screen);
    assert!(shown.screen.contains(&format!("Cancelled after {} steps", done + 2)));
}

#[test]
fn a_second_q_ends_at_once_and_gives_the_terminal_back() {
    let world = World::new();
    let long = ["--set", "train.max_steps=100000"];
    let shown = on_terminal(&world, &long, Ask::Keys(b"\tqq"), "xterm-256color");
    assert_eq!(shown.status.code(), Some(130), "{}", shown.screen);
    assert_eq!(shown.modes[0], shown.modes[1]);
    assert!(shown.screen.contains(LEAVE));
}

#[test]
fn a_run_that_ends_with_an_error_gives_the_terminal_back_first() {
    let world = World::new();
    let shown =
        on_terminal(&world, &["--set", "data.train=none.jsonl"], Ask::Nothing, "xterm-256color");
    assert_eq!(shown.status.code(), Some(6), "{}", shown.screen);
    assert_eq!(shown.modes[0], shown.modes[1]);
    let (_, after) = shown.screen.split_once(LEAVE).expect("the screen is left");
    assert!(after.contains("error: ") && after.contains("none.jsonl"), "{after}");
}

#[test]
fn a_terminal_that_can_do_nothing_gets_plain_lines() {
    let world = World::new();
    let shown = on_terminal(&world, &[], Ask::Nothing, "dumb");
    assert_eq!(shown.status.code(), Some(0), "{}", shown.screen);
    assert!(!shown.screen.contains('\u{1b}'), "{}", shown.screen);
    assert!(shown.screen.contains("plain lines instead") && shown.screen.contains("step 6/6"));
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let world = World::new();
    world.train(&["--tui"]).ended(0, &["step 6/6", "Succeeded after 6 steps"]);
    let arguments = ["train", "recipe.toml", "--device", "cpu", "--tui", "--overwrite"];
    world.run(&arguments).ended(0, &["no terminal for `--tui`", "step 6/6"]);
}

#[test]
fn events_are_streamed_as_they_are_logged_and_the_summary_comes_last() {
    let world = World::new();
    let arguments = ["train", "recipe.toml", "--device", "cpu", "--events", "json", "--json"];
    let output = world.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let parse = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut streamed = parse(&String::from_utf8(output.stdout).unwrap());
    let summary = streamed.pop().unwrap();
    assert_eq!((&summary["status"], &summary["steps"]), (&"succeeded".into(), &6.into()));
    assert!(summary["event"].is_null());
    let mut logged = parse(&fs::read_to_string(world.path("run/events.jsonl")).unwrap());
    for record in streamed.iter_mut().chain(&mut logged) {
        record["time"] = 0.into();
    }
    assert_eq!(streamed, logged);
    let step = logged.iter().find(|it| it["event"] == "step").unwrap();
    if cfg!(target_os = "linux") {
        assert!(step["memory_bytes"].as_u64().unwrap() > 1 << 20, "{step}");
    }
}

#[test]
fn a_run_goes_on_when_nobody_reads_it_any_more() {
    let world = World::new();
    let arguments = ["train", "recipe.toml", "--device", "cpu", "--events", "json"];
    let mut command = world.command(&arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("run_started"), "{first}");
    drop(child.stderr.take());
    child.wait().unwrap();
    assert_eq!(last_event(&world)["status"], "succeeded");
    assert!(world.path("run/report.html").is_file());
}

#[test]
fn a_list_that_nobody_reads_ends_without_a_panic() {
    let world = World::new();
    world.train(&[]).ended(0, &[]);
    let mut command = world.command(&["runs", "list", "--dir", "."]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn a_terminal_of_twenty_columns_or_of_one_breaks_neither_bar_nor_dashboard() {
    for columns in [20, 1] {
        for mode in [&["--tui"][..], &[]] {
            let world = World::new();
            let shown = on_columns(columns, &world, mode, Ask::Nothing, "xterm-256color");
            assert_eq!(shown.status.code(), Some(0), "{columns} {mode:?}: {}", shown.screen);
            assert!(!shown.screen.contains("panicked"), "{}", shown.screen);
            assert_eq!(shown.modes[0], shown.modes[1]);
        }
    }
}
