//! The MLflow tracker against a server that goes away, comes back and answers nonsense.

mod fake;

use fake::{Fake, Mode, Shared};
use rekindle_track::{
    Credentials, Delivery, Mlflow, Notice, RunInfo, RunStatus, Server, Timing, TrackError, Tracker,
    drain, mlflow,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Notices = Arc<Mutex<Vec<Notice>>>;

const PATIENCE: Duration = Duration::from_secs(20);

fn timing() -> Timing {
    Timing {
        send_every: Duration::from_millis(5),
        request_timeout: Duration::from_secs(5),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(40),
        sync_every: Duration::from_millis(20),
        finish_timeout: PATIENCE,
    }
}

fn open_with(folder: &Path, uri: &str, timing: Timing) -> (Mlflow, Notices) {
    let server = Server::new(uri, Credentials::token("s3cret").unwrap()).unwrap();
    let run = RunInfo {
        experiment: "tiny models".to_owned(),
        run_name: "first".to_owned(),
        tags: vec![("who".to_owned(), "test".to_owned())],
    };
    let notices = Notices::default();
    let heard = Arc::clone(&notices);
    let notify = move |notice| heard.lock().unwrap().push(notice);
    let server = server.with_timing(timing);
    (Mlflow::open(folder, server, &run, notify).unwrap(), notices)
}

fn open(folder: &Path, uri: &str) -> (Mlflow, Notices) {
    open_with(folder, uri, timing())
}

fn tell(tracker: &mut Mlflow, steps: std::ops::RangeInclusive<u64>) {
    for step in steps {
        tracker.scalars(step, step as f64, &[("loss", 1.0 / step as f64)]).unwrap();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn requests(book: &Shared) -> usize {
    book.lock().unwrap().requests.len()
}

/// Every step of `loss` once and in order, in one run.
fn check_steps(book: &Shared, last: u64) {
    let book = book.lock().unwrap();
    assert_eq!(book.runs.len(), 1, "one run");
    let steps: Vec<u64> = book.runs[0].metrics.iter().map(|(_, step, _)| *step).collect();
    assert_eq!(steps, (1..=last).collect::<Vec<_>>());
}

fn check_notices(notices: &Notices) {
    let notices = notices.lock().unwrap();
    assert!(matches!(&notices[..], [Notice::Away { .. }, Notice::Back]), "{notices:?}");
    assert!(!format!("{notices:?}").contains("s3cret"));
}

fn complete(tracker: &mut Mlflow) {
    assert_eq!(tracker.finish(RunStatus::Finished, 9.0).unwrap(), Delivery::Complete);
}

#[test]
fn a_run_arrives_whole_with_its_limits_kept() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open(folder.path(), &fake.uri());
    let params: Vec<(String, String)> =
        (0..150).map(|at| (format!("p{at:03}"), format!("{at}"))).collect();
    tracker.params(&params).unwrap();
    tell(&mut tracker, 1..=2500);
    tracker.text(2500, 0.0, "sample", "Once upon a time").unwrap();
    complete(&mut tracker);
    check_steps(&fake.book, 2500);
    let book = fake.book.lock().unwrap();
    let run = &book.runs[0];
    assert_eq!(book.experiments, ["tiny models"]);
    assert_eq!((run.name.as_str(), run.status.as_str()), ("first", "FINISHED"));
    assert_eq!(run.params, params.into_iter().collect());
    assert_eq!(run.tags["sample"], "Once upon a time");
    assert_eq!(run.tags["who"], "test");
    assert_eq!(book.authorization.as_deref(), Some("Bearer s3cret"));
    let [metrics, params, tags, bytes] = book.largest;
    assert!(metrics <= 999 && params <= 100 && tags <= 100 && bytes < 1_000_000);
    assert!(notices.lock().unwrap().is_empty());
    assert_eq!(mlflow::pending(folder.path()).unwrap(), 0);
}

#[test]
fn a_value_that_is_not_finite_is_text_in_valid_json() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, _) = open(folder.path(), &fake.uri());
    let values = [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d:x", 0.5)];
    tracker.scalars(1, 0.0, &values).unwrap();
    complete(&mut tracker);
    let book = fake.book.lock().unwrap();
    let values: Vec<_> =
        book.runs[0].metrics.iter().map(|(key, _, v)| format!("{key}={v}")).collect();
    assert_eq!(values, ["a=\"NaN\"", "b=\"Infinity\"", "c=\"-Infinity\"", "d_x=0.5"]);
}

#[test]
fn what_is_told_before_the_server_is_there_arrives_in_order() {
    let (port, book) = Fake::start(0, Shared::default()).stop();
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open(folder.path(), &format!("http://127.0.0.1:{port}"));
    tell(&mut tracker, 1..=10);
    until("the absence is noticed", || notices.lock().unwrap().len() == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(notices.lock().unwrap().len(), 1, "an absence is said once");
    let fake = Fake::start(port, book);
    tell(&mut tracker, 11..=20);
    complete(&mut tracker);
    check_steps(&fake.book, 20);
    check_notices(&notices);
}

#[test]
fn a_server_that_goes_away_and_comes_back_gets_each_value_once() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open(folder.path(), &fake.uri());
    tell(&mut tracker, 1..=5);
    let book = Arc::clone(&fake.book);
    until("five arrive", || {
        book.lock().unwrap().runs.first().is_some_and(|r| r.metrics.len() == 5)
    });
    let (port, book) = fake.stop();
    tell(&mut tracker, 6..=10);
    until("the absence is noticed", || notices.lock().unwrap().len() == 1);
    let fake = Fake::start(port, book);
    tell(&mut tracker, 11..=15);
    complete(&mut tracker);
    check_steps(&fake.book, 15);
    check_notices(&notices);
}

/// The server misbehaves for a while from the first request on, and then no more.
fn check_recovery(mode: Mode, timing: Timing) {
    let fake = Fake::start(0, Shared::default());
    fake.mode(mode);
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open_with(folder.path(), &fake.uri(), timing);
    tell(&mut tracker, 1..=5);
    until("several attempts", || requests(&fake.book) >= 4);
    assert_eq!(notices.lock().unwrap().len(), 1);
    fake.mode(Mode::Sound);
    complete(&mut tracker);
    check_steps(&fake.book, 5);
    check_notices(&notices);
}

#[test]
fn errors_of_the_server_and_nonsense_are_waited_out() {
    for mode in [
        Mode::Status(500, "", "{\"error_code\": \"INTERNAL_ERROR\"}"),
        Mode::Status(503, "", "<html>busy</html>"),
        Mode::Status(404, "", "<html>no MLflow here</html>"),
        Mode::Status(401, "", "{\"error_code\": \"UNAUTHENTICATED\"}"),
        Mode::Status(302, "Location: http://127.0.0.1:1/\r\n", ""),
        Mode::Garbage,
        Mode::Text("<html>log in</html>"),
        Mode::Text("{}"),
        Mode::Text("[1"),
    ] {
        check_recovery(mode, timing());
    }
}

/// The server carries out what it is asked, but for a while the client never learns of it.
fn check_not_repeated(mode: Mode, timing: Timing) {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open_with(folder.path(), &fake.uri(), timing);
    tell(&mut tracker, 1..=3);
    until("the run is there", || fake.book.lock().unwrap().runs.len() == 1);
    fake.mode(mode);
    tell(&mut tracker, 4..=200);
    let before = requests(&fake.book);
    until("several attempts", || requests(&fake.book) >= before + 4);
    fake.mode(Mode::Sound);
    complete(&mut tracker);
    check_steps(&fake.book, 200);
    check_notices(&notices);
}

#[test]
fn a_slow_answer_is_given_up_and_its_request_not_repeated() {
    let timing = Timing { request_timeout: Duration::from_millis(100), ..timing() };
    check_recovery(Mode::Slow(Duration::from_millis(400)), timing);
    check_not_repeated(Mode::Slow(Duration::from_millis(400)), timing);
}

#[test]
fn an_answer_that_was_lost_doubles_no_value() {
    check_recovery(Mode::Lost(""), timing());
    check_not_repeated(Mode::Lost(""), timing());
}

#[test]
fn a_run_whose_making_was_not_answered_is_found_again() {
    let fake = Fake::start(0, Shared::default());
    fake.mode(Mode::Lost("runs/create"));
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open(folder.path(), &fake.uri());
    tell(&mut tracker, 1..=5);
    complete(&mut tracker);
    check_steps(&fake.book, 5);
    check_notices(&notices);
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let fake = Fake::start(0, Shared::default());
    fake.mode(Mode::Status(429, "Retry-After: 1\r\n", "{}"));
    let folder = tempfile::tempdir().unwrap();
    let patient = Timing { longest_wait: Duration::from_secs(30), ..timing() };
    let (mut tracker, _) = open_with(folder.path(), &fake.uri(), patient);
    until("the first attempt", || requests(&fake.book) == 1);
    fake.mode(Mode::Sound);
    tell(&mut tracker, 1..=3);
    complete(&mut tracker);
    let book = fake.book.lock().unwrap();
    let waited = book.requests[1].1 - book.requests[0].1;
    assert!(waited >= Duration::from_millis(950), "{waited:?}");
}

#[test]
fn a_record_that_is_refused_is_reported_and_the_others_arrive() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let lazy = Timing { send_every: Duration::from_millis(200), ..timing() };
    let (mut tracker, notices) = open_with(folder.path(), &fake.uri(), lazy);
    tell(&mut tracker, 1..=7);
    tracker.scalars(7, 0.0, &[("refused", 1.0)]).unwrap();
    tell(&mut tracker, 8..=12);
    complete(&mut tracker);
    check_steps(&fake.book, 12);
    let notices = notices.lock().unwrap();
    let [Notice::Rejected { reason }] = &notices[..] else { panic!("{notices:?}") };
    assert!(reason.contains("bad value"), "{reason}");
}

#[test]
fn a_deleted_run_drops_nothing() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, notices) = open(folder.path(), &fake.uri());
    until("the run is there", || fake.book.lock().unwrap().runs.len() == 1);
    fake.book.lock().unwrap().runs[0].deleted = true;
    tell(&mut tracker, 1..=5);
    until("it is noticed", || notices.lock().unwrap().len() == 1);
    fake.book.lock().unwrap().runs[0].deleted = false;
    complete(&mut tracker);
    check_steps(&fake.book, 5);
    check_notices(&notices);
}

#[test]
fn a_finish_without_a_server_ends_in_time_and_the_rest_is_drained_later() {
    let (port, book) = Fake::start(0, Shared::default()).stop();
    let uri = format!("http://127.0.0.1:{port}");
    let folder = tempfile::tempdir().unwrap();
    let hasty = Timing { finish_timeout: Duration::from_millis(100), ..timing() };
    let (mut tracker, _) = open_with(folder.path(), &uri, hasty);
    tell(&mut tracker, 1..=10);
    let start = Instant::now();
    let left = tracker.finish(RunStatus::Failed, 1.0).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    let Delivery::Pending { bytes } = left else { panic!("{left:?}") };
    assert_eq!(mlflow::pending(folder.path()).unwrap(), bytes);
    drop(tracker);

    let server = Server::new(&uri, Credentials::none()).unwrap();
    until("the thread has let go", || {
        !matches!(drain(folder.path(), &server, PATIENCE), Err(TrackError::InUse { .. }))
    });
    let absent = drain(folder.path(), &server, PATIENCE).unwrap_err();
    assert!(matches!(absent, TrackError::Unsent { .. }), "{absent}");
    let fake = Fake::start(port, book);
    assert_eq!(drain(folder.path(), &server, PATIENCE).unwrap().rejected, 0);
    check_steps(&fake.book, 10);
    assert_eq!(fake.book.lock().unwrap().runs[0].status, "FAILED");
    assert_eq!(drain(folder.path(), &server, PATIENCE).unwrap().sent, 0);
}

#[test]
fn a_spool_in_use_is_not_drained() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (_tracker, _) = open(folder.path(), &fake.uri());
    let server = Server::new(&fake.uri(), Credentials::none()).unwrap();
    let error = drain(folder.path(), &server, PATIENCE).unwrap_err();
    assert!(matches!(error, TrackError::InUse { .. }), "{error}");
}

#[test]
fn a_resumed_run_goes_on_in_the_same_run_and_repeats_no_step() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let setting = |value: &str| [("beta".to_owned(), value.to_owned())];
    let (mut tracker, _) = open(folder.path(), &fake.uri());
    tracker.params(&setting("0.1")).unwrap();
    tell(&mut tracker, 1..=10);
    assert_eq!(tracker.finish(RunStatus::Stopped, 1.0).unwrap(), Delivery::Complete);
    assert_eq!(fake.book.lock().unwrap().runs[0].status, "KILLED");

    let (mut tracker, _) = open(folder.path(), &fake.uri());
    until("it runs again", || fake.book.lock().unwrap().runs[0].status == "RUNNING");
    tracker.params(&setting("0.2")).unwrap();
    tell(&mut tracker, 6..=15);
    complete(&mut tracker);
    check_steps(&fake.book, 15);
    let book = fake.book.lock().unwrap();
    assert_eq!(book.runs[0].params["beta"], "0.1");
    assert_eq!(book.runs[0].tags["changed.beta"], "0.2");
}

#[test]
fn a_crash_before_the_cursor_was_written_doubles_nothing() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, _) = open(folder.path(), &fake.uri());
    until("the run is there", || fake.book.lock().unwrap().runs.len() == 1);
    let cursor = folder.path().join("cursor.json");
    until("the run is known", || std::fs::read_to_string(&cursor).unwrap().contains("\"0\""));
    let early = std::fs::read(&cursor).unwrap();
    tell(&mut tracker, 1..=10);
    complete(&mut tracker);
    drop(tracker);
    std::fs::write(&cursor, early).unwrap();
    let (mut tracker, _) = open(folder.path(), &fake.uri());
    tell(&mut tracker, 11..=12);
    complete(&mut tracker);
    check_steps(&fake.book, 12);
}

#[test]
fn a_torn_last_line_and_a_spoilt_one_do_not_stop_the_rest() {
    let (port, book) = Fake::start(0, Shared::default()).stop();
    let uri = format!("http://127.0.0.1:{port}");
    let folder = tempfile::tempdir().unwrap();
    let hasty = Timing { finish_timeout: Duration::ZERO, ..timing() };
    let (mut tracker, _) = open_with(folder.path(), &uri, hasty);
    tell(&mut tracker, 1..=3);
    drop(tracker);
    let spool = folder.path().join("spool.jsonl");
    let mut text = std::fs::read(&spool).unwrap();
    text.extend(b"{\"kind\": \"metrics\", \x00\n{\"kind\": \"metr");
    until("the thread has let go", || {
        std::fs::File::open(folder.path().join("lock")).unwrap().try_lock().is_ok()
    });
    std::fs::write(&spool, text).unwrap();
    let fake = Fake::start(port, book);
    let (mut tracker, notices) = open(folder.path(), &uri);
    tell(&mut tracker, 4..=6);
    complete(&mut tracker);
    check_steps(&fake.book, 6);
    let notices = notices.lock().unwrap();
    assert!(matches!(&notices[..], [Notice::Rejected { .. }]), "{notices:?}");
}

#[test]
fn a_spool_shorter_than_what_was_sent_is_an_error() {
    let fake = Fake::start(0, Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let (mut tracker, _) = open(folder.path(), &fake.uri());
    complete(&mut tracker);
    drop(tracker);
    std::fs::remove_file(folder.path().join("spool.jsonl")).unwrap();
    let server = Server::new(&fake.uri(), Credentials::none()).unwrap();
    let again = Mlflow::open(folder.path(), server, &RunInfo::default(), |_| {});
    assert!(matches!(again, Err(TrackError::Spool { .. })), "{again:?}");
}
