//! `[report]`: where what a run measures is told beside its own folder.

use rekindle_track::{Credentials, Server, TrackError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where what the run measures is told beside its own folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportSection {
    /// Event files for TensorBoard, in `tensorboard/` of the run folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TensorBoardReport")]
    pub tensorboard: Option<TensorBoardReport>,
    /// A run of an MLflow server, by way of a spool in `mlflow/` of the run folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MlflowReport")]
    pub mlflow: Option<MlflowReport>,
}

/// Event files for TensorBoard; the section has no keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TensorBoardReport {}

/// A run of an MLflow server. User name, password and token are no keys of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowReport {
    /// The server: `http://host:port`, or `https://` in a build with the feature `https`.
    pub tracking_uri: String,
    /// The experiment, which is made if the server has none of this name.
    pub experiment: String,
    /// The name of the run; that of its folder if not given.
    pub run_name: Option<String>,
}

impl Default for MlflowReport {
    fn default() -> Self {
        Self {
            tracking_uri: "http://localhost:5000".to_owned(), // where `mlflow server` listens
            experiment: "Default".to_owned(),                 // the one that every server has
            run_name: None,
        }
    }
}

/// The key whose value may hold a password, by mistake: messages do not quote it.
pub(crate) const UNQUOTED: &str = "report.mlflow.tracking_uri";

impl MlflowReport {
    /// The server behind `tracking_uri`, to be asked with `credentials`.
    ///
    /// # Errors
    /// The address is none of a server that speaks HTTP, or it holds a user name.
    pub fn server(&self, credentials: Credentials) -> Result<Server, TrackError> {
        Server::new(&self.tracking_uri, credentials)
    }
}
