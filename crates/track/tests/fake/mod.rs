//! A server that speaks enough of MLflow's REST API, on a port of this machine, and misbehaves.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server does with a request.
#[derive(Clone, Debug, Default)]
pub enum Mode {
    #[default]
    Sound,
    /// Answers so, with further header lines.
    Status(u16, &'static str, &'static str),
    /// Bytes that are no HTTP.
    Garbage,
    /// Status 200 and this text.
    Text(&'static str),
    /// Waits before it answers.
    Slow(Duration),
    /// Does what was asked, and hangs up instead of answering at endpoints of this name.
    Lost(&'static str),
}

#[derive(Debug, Default)]
pub struct Run {
    pub name: String,
    pub status: String,
    pub deleted: bool,
    pub tags: BTreeMap<String, String>,
    pub params: BTreeMap<String, String>,
    /// Key, step and value in the order of arrival.
    pub metrics: Vec<(String, u64, Value)>,
}

/// What the server knows; outlives its restarts.
#[derive(Debug, Default)]
pub struct Book {
    pub mode: Mode,
    pub experiments: Vec<String>,
    pub runs: Vec<Run>,
    /// Path and time of every request.
    pub requests: Vec<(String, std::time::Instant)>,
    pub authorization: Option<String>,
    /// Largest counts in one `log-batch`: metrics, params, tags, bytes.
    pub largest: [usize; 4],
}

pub type Shared = Arc<Mutex<Book>>;

pub struct Fake {
    pub port: u16,
    pub book: Shared,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// `port` 0 is any free one.
    pub fn start(port: u16, book: Shared) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&book));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let book = Arc::clone(&shared);
                // A client that hangs up is part of the game.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &book)));
            }
        });
        Self { port, book, stop, thread: Some(thread) }
    }

    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn mode(&self, mode: Mode) {
        self.book.lock().unwrap().mode = mode;
    }

    /// Closes the port.
    pub fn stop(mut self) -> (u16, Shared) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.thread.take().unwrap().join().unwrap();
        (self.port, Arc::clone(&self.book))
    }
}

fn serve(mut stream: TcpStream, book: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => book.lock().unwrap().authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mode = book.lock().unwrap().mode.clone();
    let (mut status, mut headers) = (200, "");
    let text;
    let request = (target.clone(), std::time::Instant::now());
    book.lock().unwrap().requests.push(request);
    match mode {
        Mode::Garbage => return stream.write_all(b"\x00\x01what?\r\n\r\n"),
        Mode::Text(answer) => text = answer.to_owned(),
        Mode::Status(code, more, answer) => {
            (status, headers) = (code, more);
            text = answer.to_owned();
        }
        Mode::Sound | Mode::Slow(_) | Mode::Lost(_) => {
            let (code, answer) = book.lock().unwrap().answer(&target, &body);
            status = code;
            text = answer.to_string();
            match mode {
                Mode::Lost(path) if target.contains(path) => return Ok(()),
                Mode::Slow(time) => std::thread::sleep(time),
                _ => {}
            }
        }
    }
    let length = text.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{text}").as_bytes())
}

impl Book {
    fn answer(&mut self, target: &str, body: &[u8]) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix("/api/2.0/mlflow/").unwrap();
        let argument = query.split_once('=').map_or("", |(_, value)| value).replace("%20", " ");
        let body: Value = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body).expect("the client sends valid JSON"),
        };
        let found = match path {
            "experiments/get-by-name" => self.experiment(&argument),
            "experiments/create" => {
                self.experiments.push(body["name"].as_str().unwrap().to_owned());
                Some(json!({"experiment_id": (self.experiments.len() - 1).to_string()}))
            }
            "runs/create" => Some(self.create(&body)),
            "runs/search" => Some(self.search(body["filter"].as_str().unwrap())),
            "runs/get" => self.get(&argument),
            "runs/update" => {
                let status = body["status"].as_str().unwrap().to_owned();
                self.run(&body["run_id"]).map(|run| {
                    run.status = status;
                    json!({})
                })
            }
            "runs/log-batch" => return self.log_batch(&body),
            other => panic!("no such endpoint: {other}"),
        };
        let missing = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"});
        found.map_or((404, missing), |answer| (200, answer))
    }

    fn experiment(&self, name: &str) -> Option<Value> {
        let id = self.experiments.iter().position(|other| other == name)?;
        Some(json!({"experiment": {"experiment_id": id.to_string()}}))
    }

    fn create(&mut self, body: &Value) -> Value {
        let name = body["run_name"].as_str().unwrap().to_owned();
        let run = Run { name, status: "RUNNING".to_owned(), ..Run::default() };
        self.runs.push(run);
        let last = self.runs.len() - 1;
        self.runs[last].tags.extend(pairs(&body["tags"]));
        json!({"run": {"info": {"run_id": last.to_string()}}})
    }

    fn search(&self, filter: &str) -> Value {
        let wanted = filter.split('\'').nth(1).unwrap();
        let id = |run: &Run| run.tags.get("rekindle.spool_id").is_some_and(|id| id == wanted);
        match self.runs.iter().position(id) {
            Some(found) => json!({"runs": [{"info": {"run_id": found.to_string()}}]}),
            None => json!({}),
        }
    }

    fn get(&mut self, id: &str) -> Option<Value> {
        let run = self.run(&json!(id))?;
        let tags: Vec<Value> =
            run.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let stage = if run.deleted { "deleted" } else { "active" };
        let info = json!({"run_id": id, "lifecycle_stage": stage});
        Some(json!({"run": {"info": info, "data": {"tags": tags}}}))
    }

    fn run(&mut self, id: &Value) -> Option<&mut Run> {
        self.runs.get_mut(id.as_str()?.parse::<usize>().ok()?)
    }

    /// Refuses a metric called `refused` and a changed parameter, whole batches at a time.
    fn log_batch(&mut self, body: &Value) -> (u16, Value) {
        let list = |key: &str| body[key].as_array().unwrap().clone();
        let (metrics, params) = (list("metrics"), pairs(&body["params"]));
        let tags = pairs(&body["tags"]);
        let sizes = [metrics.len(), params.len(), tags.len(), body.to_string().len()];
        self.largest = std::array::from_fn(|at| self.largest[at].max(sizes[at]));
        let run = self.run(&body["run_id"]).unwrap();
        let changed = |(key, value): &(String, String)| {
            run.params.get(key).is_some_and(|before| before != value)
        };
        let bad = metrics.iter().any(|metric| metric["key"] == "refused");
        if bad || run.deleted || params.iter().any(changed) {
            let error = json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "bad value"});
            return (400, error);
        }
        run.params.extend(params);
        run.tags.extend(tags);
        run.metrics.extend(metrics.iter().map(|metric| {
            let key = metric["key"].as_str().unwrap().to_owned();
            (key, metric["step"].as_u64().unwrap(), metric["value"].clone())
        }));
        (200, json!({}))
    }
}

fn pairs(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|pair| (text(&pair["key"]), text(&pair["value"]))).collect()
}
