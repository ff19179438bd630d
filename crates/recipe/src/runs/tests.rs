use super::*;
use crate::events::{Event, EventLog};

const PLAN: &str = "model = \"m\"\n[data]\ntrain = \"t\"\n[method.lora]\nr = 4\n";

fn make(dir: &Path, status: Option<Status>) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(MARKER), PLAN).unwrap();
    let mut log = EventLog::create(dir.join("events.jsonl")).unwrap();
    log.append(1.0, &Event::Warning { message: "w".into() }).unwrap();
    if let Some(status) = status {
        log.append(2.0, &Event::Finished { status, steps: 0, seconds: 1.0 }).unwrap();
    }
}

#[test]
fn the_state_follows_from_the_lock_and_the_last_word() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    for (status, wanted) in [
        (Some(Status::Succeeded), State::Finished),
        (Some(Status::Cancelled), State::Stopped),
        (Some(Status::Preempted), State::Stopped),
        (Some(Status::Failed), State::Failed),
        (None, State::Crashed),
    ] {
        make(&dir, status);
        assert_eq!(find(root.path(), "run").unwrap().state, wanted);
        let lock = RunLock::acquire(&dir).unwrap();
        let run = find(root.path(), "run").unwrap();
        assert_eq!((run.state, run.pid), (State::Running, Some(std::process::id())));
        drop(lock);
        assert_eq!(find(root.path(), "run").unwrap().state, wanted, "a stale lock is no lock");
        remove(&dir).unwrap();
        assert!(!dir.exists());
    }
}

#[test]
fn runs_are_found_one_folder_deeper_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    make(&root.path().join("a"), None);
    make(&root.path().join("demo/run"), None);
    make(&root.path().join("x/y/too-deep"), None);
    fs::create_dir_all(root.path().join("photos")).unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let names: Vec<_> = list(root.path()).unwrap().into_iter().map(|run| run.name).collect();
    assert_eq!(names, ["a", "demo/run"]);
    let error = find(root.path(), "b").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("`b` is no run") && error.to_string().contains("demo/run"));
    assert!(list(&root.path().join("none")).is_err());
}

#[test]
fn a_damaged_log_is_named_and_hides_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    make(&dir, None);
    let path = dir.join("events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{{\"time\":3,\"ev")).unwrap();
    let run = Run::open(&dir, "run").unwrap();
    assert_eq!((run.problems.len(), run.history.warnings.len()), (0, 1), "a torn end is no damage");
    fs::write(&path, format!("damage\n{text}")).unwrap();
    fs::write(dir.join(MARKER), "= 3").unwrap();
    let run = Run::open(&dir, "run").unwrap();
    assert!(run.problems[0].contains("line 1 is no event"), "{:?}", run.problems);
    assert!(run.problems[1].contains("is no TOML"), "{:?}", run.problems);
    assert_eq!(list(root.path()).unwrap().len(), 1);
}

#[test]
fn only_folders_of_ours_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let photos = root.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("cat.jpg"), "meow").unwrap();
    assert!(remove(&photos).unwrap_err().to_string().contains("no run of ours"));
    // A lock alone is what a run leaves that could not start; beside other files it proves nothing.
    let leftover = root.path().join("leftover");
    drop(RunLock::acquire(&leftover).unwrap());
    remove(&leftover).unwrap();
    assert!(!leftover.exists());
    drop(RunLock::acquire(&photos).unwrap());
    assert!(remove(&photos).is_err());
    assert!(photos.join("cat.jpg").exists());
    assert!(remove(&root.path().join("none")).is_err());
}

#[test]
fn a_run_in_progress_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    make(&dir, None);
    let lock = RunLock::acquire(&dir).unwrap();
    let error = remove(&dir).unwrap_err();
    assert!(matches!(error, RunError::Lock(_)) && error.exit_code() == 2, "{error}");
    assert!(dir.join("events.jsonl").exists());
    drop(lock);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let outside = root.path().join("outside");
    make(&outside, None);
    make(&runs.join("run"), None);
    std::os::unix::fs::symlink(&outside, runs.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, runs.join("run/inner")).unwrap();
    let found = list(&runs).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].bytes < 500, "{}", found[0].bytes);
    assert!(remove(&runs.join("link")).unwrap_err().to_string().contains("is a link"));
    remove(&runs.join("run")).unwrap();
    assert!(outside.join("events.jsonl").exists());
}
