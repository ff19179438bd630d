//! `[data]`: where the rows come from and how they become tokens.

use std::path::PathBuf;

use rekindle_data::DateTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rows to train and to validate on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Training rows: a JSONL or JSON file.
    pub train: PathBuf,
    /// Validation rows in a file of their own; excludes the two keys that split `train`.
    pub validation: Option<PathBuf>,
    /// Number of rows taken out of `train` for validation, chosen by the seed.
    pub validation_rows: Option<u64>,
    /// Part of the rows of `train` taken out for validation, above 0 and below 1.
    pub validation_fraction: Option<f64>,
    /// How a row is laid out; `auto` looks at the rows.
    pub format: RowFormat,
    /// Chat template in place of the model's own: a Jinja file, or `chatml` for the built-in one.
    pub template: Option<String>,
    /// Date and time that the template's `strftime_now` gives, as `2026-11-25T12:00:00`. Without it
    /// a template that asks whether there is a clock is told no, and one that does not ask gets
    /// 2024-07-26, the day that Llama 3's template falls back to.
    pub now: Option<String>,
    /// Longest row, in tokens.
    pub max_tokens: usize,
    /// What happens to a row of more than `max_tokens`.
    pub too_long: TooLong,
    /// Share of the training rows that may be longer than `max_tokens`, from 0 to 1; with more the
    /// run stops before it loads the model's weights.
    pub max_truncated: f64,
    /// Whether short samples share a row of up to `max_tokens`.
    pub packing: Packing,
    /// How the rows of a forward pass are put together.
    pub batching: Batching,
    /// Whether rows of like length share an update, so that less is padding.
    pub group_by_length: bool,
    /// What happens after a row that cannot be used.
    pub on_bad_row: OnBadRow,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            train: PathBuf::new(),
            validation: None,
            validation_rows: None,
            validation_fraction: None,
            format: RowFormat::Auto,
            template: None,
            now: None,
            max_tokens: 1024,                 // TRL SFTConfig.max_length
            too_long: TooLong::TruncateRight, // TRL SFTConfig truncates
            max_truncated: 1.0,
            packing: Packing::None,
            batching: Batching::Padded,
            group_by_length: false,
            on_bad_row: OnBadRow::Fail,
        }
    }
}

impl DataSection {
    /// The time in `now`; nothing where there is none, or what stands there is no time.
    pub fn clock(&self) -> Option<DateTime> {
        self.now.as_ref()?.parse().ok()
    }

    /// Whether any key asks for validation rows.
    pub fn has_validation(&self) -> bool {
        self.validation.is_some()
            || self.validation_rows.is_some()
            || self.validation_fraction.is_some()
    }
}

/// How a row is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RowFormat {
    /// Found from the keys of the rows.
    #[default]
    Auto,
    /// OpenAI chat: `messages` of `role` and `content`.
    Messages,
    /// ShareGPT: `conversations` of `from` and `value`.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// Alpaca: `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `text`: every token is a target.
    Text,
}

/// What happens to a row of more than `max_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// The end is cut off; `truncate` is another name for it.
    #[default]
    #[serde(alias = "truncate")]
    TruncateRight,
    /// The beginning is cut off.
    TruncateLeft,
    /// The row becomes several samples; those without a target are left out and counted.
    Split,
    /// The row is left out and counted.
    Drop,
    /// The row is a bad row.
    Error,
}

/// Whether samples share rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Each sample has a row of its own.
    #[default]
    None,
    /// Samples are packed into rows of up to `max_tokens` by best-fit decreasing; they see nothing
    /// of each other.
    Bfd,
}

/// How the rows of a forward pass are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Batching {
    /// Below each other, padded to the longest.
    #[default]
    Padded,
    /// Behind each other in one row, without padding; they see nothing of each other.
    PaddingFree,
}

/// What happens after a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// The run stops after all bad rows have been reported.
    #[default]
    Fail,
    /// Bad rows are left out, counted and listed.
    Skip,
}
