//! MLflow's REST API over HTTP, one request at a time.

use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::Server;
use super::address::Address;
use super::credentials::Credentials;
use crate::TrackError;

/// Longest answer that is read, in bytes; a run's own answer is some tens of kilobytes.
const ANSWER: u64 = 16 << 20;

/// Longest text of a server that is passed on, in characters.
const REASON: usize = 300;

/// Why a request did not do what it was to do.
#[derive(Debug)]
pub enum Fault {
    /// The server is not there, is busy, or something else answers in its place: later may help.
    Away { reason: String, retry_after: Option<Duration> },
    /// The server understood and refused.
    Refused { code: String, reason: String },
    /// A file on our side.
    Local(TrackError),
}

impl Fault {
    pub fn away(reason: impl Into<String>) -> Self {
        Self::Away { reason: reason.into(), retry_after: None }
    }

    /// A refusal of what everything else depends on: nothing can be dropped, so it is tried again.
    pub fn into_away(self) -> Self {
        match self {
            Self::Refused { reason, .. } => Self::away(reason),
            other => other,
        }
    }
}

impl From<TrackError> for Fault {
    fn from(error: TrackError) -> Self {
        Self::Local(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { reason, .. } | Self::Refused { reason, .. } => f.write_str(reason),
            Self::Local(error) => error.fmt(f),
        }
    }
}

/// Asks one server.
pub struct Client {
    agent: Agent,
    address: Address,
    credentials: Credentials,
}

impl Client {
    pub fn new(server: &Server) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(server.timing.request_timeout))
            // A redirect leads to a login page or elsewhere; neither may take a run for granted.
            .max_redirects(0)
            // A kept connection may be dead by the next batch, and its failure looks like an
            // absent server.
            .max_idle_connections(0)
            // Otherwise the environment would be read.
            .proxy(None)
            .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "https")]
        let config = config.tls_config(tls());
        let agent = config.build().new_agent();
        Self { agent, address: server.address.clone(), credentials: server.credentials.clone() }
    }

    /// `POST` of JSON; the answer is a JSON object.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        let mut request = self.agent.post(self.address.endpoint(path));
        if let Some(header) = self.credentials.header() {
            request = request.header("Authorization", header);
        }
        answer(request.content_type("application/json").send(body.to_string()))
    }

    /// `GET` with one parameter.
    pub fn get(&self, path: &str, key: &str, value: &str) -> Result<Value, Fault> {
        let mut request = self.agent.get(self.address.endpoint(path)).query(key, value);
        if let Some(header) = self.credentials.header() {
            request = request.header("Authorization", header);
        }
        answer(request.call())
    }

    /// The experiment of a name, made if there is none.
    pub fn experiment(&self, name: &str) -> Result<String, Fault> {
        match self.experiment_by_name(name) {
            Err(Fault::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {}
            found => return found.map_err(Fault::into_away),
        }
        match self.post("experiments/create", &json!({ "name": name })) {
            Ok(made) => text(&made, &["experiment_id"]),
            // Another run may have made it in between.
            Err(Fault::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => {
                self.experiment_by_name(name)
            }
            Err(fault) => Err(fault),
        }
        .map_err(Fault::into_away)
    }

    fn experiment_by_name(&self, name: &str) -> Result<String, Fault> {
        let found = self.get("experiments/get-by-name", "experiment_name", name)?;
        text(&found, &["experiment", "experiment_id"])
    }
}

/// A text inside an answer; an answer without it is not MLflow's.
pub fn text(answer: &Value, path: &[&str]) -> Result<String, Fault> {
    let found = path.iter().try_fold(answer, |value, key| value.get(key));
    let found = found.and_then(Value::as_str).filter(|text| !text.is_empty());
    found.map(str::to_owned).ok_or_else(|| {
        Fault::away(format!("the answer has no `{}`; is this an MLflow server?", path.join(".")))
    })
}

fn answer(answered: Result<Response<Body>, ureq::Error>) -> Result<Value, Fault> {
    let mut response = answered.map_err(|error| Fault::away(error.to_string()))?;
    let status = response.status();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let body = response.body_mut().with_config().limit(ANSWER).read_to_string();
    let body = body.map_err(|error| Fault::away(format!("the answer broke off: {error}")))?;
    let object = serde_json::from_str::<Value>(&body).ok().filter(Value::is_object);
    if status.is_success() {
        return object
            .ok_or_else(|| Fault::away("the answer is not JSON; is this an MLflow server?"));
    }
    let field = |key| object.as_ref().and_then(|object| object.get(key)?.as_str());
    let code = field("error_code").unwrap_or_default().to_owned();
    let message = field("message").unwrap_or_default();
    let reason = format!("status {} {code} {message}", status.as_u16());
    let reason: String = reason.trim().chars().take(REASON).collect();
    // Only MLflow itself refuses for good: a proxy has no code, and a wrong password, too many
    // requests and a busy server are mended by time or by the user.
    match status.as_u16() {
        400 | 404 | 409 | 413 | 422 if !code.is_empty() => Err(Fault::Refused { code, reason }),
        _ => Err(Fault::Away { reason, retry_after }),
    }
}

/// Certificates that the system trusts, so that a company's own authority works.
#[cfg(feature = "https")]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{RootCerts, TlsConfig};
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build()
}
