//! What `[report]` tells TensorBoard and MLflow, against the log of the same run.

#[expect(dead_code, reason = "these tests misbehave less than those of the crate it is from")]
#[path = "../../track/tests/fake/mod.rs"]
mod fake;
mod event_files;
mod support;

use std::fs;
use std::net::TcpListener;

use event_files::{EventFile, Number};
use fake::{Fake, Mode, Shared};
use serde_json::Value;
use support::{Done, World};

const TENSORBOARD: [&str; 2] = ["--set", "report.tensorboard={}"];
const HELD: [&str; 4] = ["--set", "data.validation_rows=3", "--set", "eval.generate=2"];
const TOKEN: &str = "s3cret-t0ken";

/// What the log of a run says that trackers are to have, in order.
fn logged(world: &World, run: &str) -> Vec<Number> {
    let text = fs::read_to_string(world.path(run).join("events.jsonl")).unwrap();
    let mut numbers = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let (group, keys): (_, &[&str]) = match event["event"].as_str().unwrap() {
            "step" => {
                let keys =
                    &["loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_bytes"];
                ("train", keys)
            }
            "eval" => ("eval", &["loss", "perplexity", "exact_match"]),
            _ => continue,
        };
        for key in keys {
            if let Some(value) = event[key].as_f64() {
                let step = event["step"].as_u64().unwrap();
                numbers.push((format!("{group}/{key}"), step, value as f32));
            }
        }
    }
    numbers
}

fn sorted(mut numbers: Vec<Number>) -> Vec<Number> {
    numbers.sort_by(|a, b| a.partial_cmp(b).unwrap());
    numbers
}

/// The event files of `run`, oldest first.
fn event_files_of(world: &World) -> Vec<EventFile> {
    event_files::read(&world.path("run/tensorboard"))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Trains with `[report.mlflow]` at `uri` and a token in the environment.
fn train_for(world: &World, uri: &str, more: &[&str]) -> Done {
    let address = format!("report.mlflow.tracking_uri={uri}");
    let name = ["--set", "report.mlflow.run_name=lora, rank 4"];
    let experiment = ["--set", "report.mlflow.experiment=tiny models"];
    let first = ["train", "recipe.toml", "--device", "cpu", "--plain", "--set", &address];
    with_token(world, &[&first[..], &name, &experiment, more].concat())
}

fn with_token(world: &World, arguments: &[&str]) -> Done {
    let output = world.command(arguments).env("MLFLOW_TRACKING_TOKEN", TOKEN).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Done { code: output.status.code(), said: String::from_utf8(said).unwrap() }
}

/// What the server holds of one run's metrics.
fn arrived(book: &Shared, run: usize) -> Vec<Number> {
    let book = book.lock().unwrap();
    let metrics = book.runs[run].metrics.iter();
    metrics.map(|(key, step, value)| (key.clone(), *step, value.as_f64().unwrap() as f32)).collect()
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn event_files_hold_what_the_log_holds() {
    let world = World::new();
    let more = ["--set", "train.eval_steps=2"];
    world.train(&[&TENSORBOARD[..], &HELD, &more].concat()).ended(0, &["Succeeded"]);
    let files = event_files_of(&world);
    assert_eq!(files.len(), 1);
    let logged = logged(&world, "run");
    // Six steps of five numbers, the base model, two evaluations on the way, and the tuned model.
    assert_eq!(logged.len(), 6 * 5 + 3 + 2 * 2 + 3);
    assert_eq!(files[0].scalars, logged);

    let texts = &files[0].texts;
    let of = |tag: &'static str| texts.iter().filter(move |(name, ..)| name == tag);
    let steps: Vec<u64> = of("samples/2").map(|(_, step, _)| *step).collect();
    assert_eq!(steps, [0, 6]);
    assert!(holds(&of("samples/1").next().unwrap().2, "**question**\n\n> The "));
    let settings = &of("_hparams_/session_start_info").next().unwrap().2;
    for key in ["method.lora.r", "train.learning_rate", "report.tensorboard"] {
        assert!(holds(settings, key), "{key}");
    }
    assert_eq!(of("_hparams_/session_end_info").count(), 1);
}

#[test]
fn a_resumed_run_opens_a_file_that_counts_from_its_next_step() {
    let world = World::new();
    world.train(&[&TENSORBOARD[..], &["--stop-after", "4"]].concat()).ended(0, &["Cancelled"]);
    world.train(&[&TENSORBOARD[..], &["--resume"]].concat()).ended(0, &["Succeeded"]);
    let files = event_files_of(&world);
    assert_eq!(files.iter().map(|file| file.first_step).collect::<Vec<_>>(), [0, 5]);
    let told = files.into_iter().flat_map(|file| file.scalars).collect::<Vec<_>>();
    assert_eq!(told, logged(&world, "run"));
}

#[test]
fn where_reports_go_may_change_and_a_tracker_that_fails_is_left_out_with_one_warning() {
    let world = World::new();
    world.train(&["--stop-after", "2"]).ended(0, &["Cancelled"]);
    fs::write(world.path("run/tensorboard"), "in the way").unwrap();
    let done = world.train(&[&TENSORBOARD[..], &["--resume"]].concat());
    done.ended(0, &["warning: TensorBoard is left out from here on", "Succeeded after 6 steps"]);
    assert_eq!(done.said.matches("left out").count(), 1, "{}", done.said);
}

#[test]
fn mlflow_has_what_the_log_holds_and_no_file_or_message_the_token() {
    let world = World::new();
    let server = Fake::start(0, Shared::default());
    let done = train_for(&world, &server.uri(), &HELD);
    done.ended(0, &["Succeeded"]);
    assert!(!done.said.contains("warning"), "{}", done.said);
    assert_eq!(sorted(arrived(&server.book, 0)), sorted(logged(&world, "run")));
    let book = server.book.lock().unwrap();
    assert_eq!(book.experiments, ["tiny models"]);
    assert_eq!(book.authorization.as_deref(), Some(&*format!("Bearer {TOKEN}")));
    let run = &book.runs[0];
    assert_eq!((run.name.as_str(), run.status.as_str()), ("lora, rank 4", "FINISHED"));
    assert_eq!(run.params["method.lora.r"], "4");
    assert_eq!(run.params["data.train"], "rows.jsonl");
    assert!(run.tags["samples/1"].contains("**given**"), "{:?}", run.tags);
    assert_eq!(run.tags["rekindle.method"], "lora");

    assert!(!done.said.contains(TOKEN));
    let files = world.files("run");
    assert!(files.contains_key(&world.path("run/mlflow/spool.jsonl")));
    for (path, bytes) in files {
        assert!(!holds(&bytes, TOKEN), "{}", path.display());
    }
}

#[test]
fn a_user_name_and_a_password_go_before_a_token_and_into_no_file() {
    let world = World::new();
    let server = Fake::start(0, Shared::default());
    let address = format!("report.mlflow.tracking_uri={}", server.uri());
    let mut command =
        world.command(&["train", "recipe.toml", "--device", "cpu", "--set", &address]);
    command.env("MLFLOW_TRACKING_USERNAME", "Aladdin").env("MLFLOW_TRACKING_TOKEN", TOKEN);
    let output = command.env("MLFLOW_TRACKING_PASSWORD", "open sesame").output().unwrap();
    assert!(output.status.success());
    // The example of RFC 7617, section 2.
    let pair = "QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    let sent = server.book.lock().unwrap().authorization.clone();
    assert_eq!(sent, Some(format!("Basic {pair}")));
    let mut written = world.files("run");
    written.insert("output".into(), [output.stdout, output.stderr].concat());
    for (path, bytes) in written {
        for secret in ["Aladdin", "open sesame", pair, TOKEN] {
            assert!(!holds(&bytes, secret), "{}", path.display());
        }
    }
}

#[test]
fn a_resumed_run_goes_on_in_its_own_run_of_mlflow() {
    let world = World::new();
    let server = Fake::start(0, Shared::default());
    train_for(&world, &server.uri(), &["--stop-after", "4"]).ended(0, &["Cancelled"]);
    assert_eq!(server.book.lock().unwrap().runs[0].status, "KILLED");
    train_for(&world, &server.uri(), &["--resume"]).ended(0, &["Succeeded"]);
    assert_eq!(sorted(arrived(&server.book, 0)), sorted(logged(&world, "run")));
    let book = server.book.lock().unwrap();
    assert_eq!(book.runs.len(), 1);
    assert_eq!(book.runs[0].status, "FINISHED");
}

#[test]
fn what_an_absent_server_missed_is_sent_by_runs_sync() {
    let world = World::new();
    let done = train_for(&world, &nowhere(), &[]);
    let wanted = ["MLflow does not take records", "rekindle runs sync run", "Succeeded"];
    done.ended(0, &wanted);
    assert_eq!(done.said.matches("does not take records").count(), 1, "{}", done.said);
    let sync = ["runs", "sync", "run"];
    let done = with_token(&world, &sync);
    done.ended(9, &["did not take the records", "they stay in the spool"]);
    assert!(!done.said.contains(TOKEN));

    let server = Fake::start(0, Shared::default());
    let plan = world.path("run/plan.toml");
    let text = fs::read_to_string(&plan).unwrap();
    let line = text.lines().find(|line| line.starts_with("tracking_uri")).unwrap();
    fs::write(&plan, text.replace(line, &format!("tracking_uri = \"{}\"", server.uri()))).unwrap();
    with_token(&world, &sync).ended(0, &["records sent, nothing is left"]);
    with_token(&world, &sync).ended(0, &["nothing was left to send"]);
    assert_eq!(sorted(arrived(&server.book, 0)), sorted(logged(&world, "run")));
    assert_eq!(server.book.lock().unwrap().runs[0].status, "FINISHED");
}

#[test]
fn a_server_that_refuses_everything_does_not_end_a_run() {
    let world = World::new();
    let server = Fake::start(0, Shared::default());
    server.mode(Mode::Status(403, "", "{\"error_code\": \"PERMISSION_DENIED\"}"));
    let done = train_for(&world, &server.uri(), &[]);
    done.ended(0, &["warning: MLflow", "Succeeded after 6 steps"]);
    assert!(!done.said.contains(TOKEN), "{}", done.said);
}

#[test]
fn what_cannot_be_told_is_refused_before_the_run_and_without_its_secrets() {
    let world = World::new();
    let done = train_for(&world, "http://jane:hunter2@host", &[]);
    done.ended(2, &["report.mlflow.tracking_uri", "holds a user name"]);
    assert!(!done.said.contains("hunter2"), "{}", done.said);
    if cfg!(not(feature = "https")) {
        train_for(&world, "https://host", &[]).ended(2, &["needs a build with the feature"]);
    }
    let mut broken = world.command(&["train", "recipe.toml", "--set", "report.mlflow={}"]);
    let output = broken.env("MLFLOW_TRACKING_TOKEN", "s3cret\ntail").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the token for the tracking server") && !said.contains("s3cret"));
    assert!(!world.path("run").exists());
    world.train(&[]).ended(0, &["Succeeded"]);
    world.run(&["runs", "sync", "run"]).ended(2, &["without `[report.mlflow]`"]);
}
