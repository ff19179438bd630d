//! From the recipe's data section to samples.

mod notes;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rekindle_data::{
    self as data, Format, LengthReport, Located, Message, ReadOptions, Record, Reject,
    RenderReport, Renderer, Role, RowError, Sample, TooLong, Validation,
};
use rekindle_eval::Question;

use crate::error::RunError;
use crate::recipe::{self, DataSection, OnBadRow, RowFormat};

pub(crate) use notes::notes;

/// The rows of a recipe, read but not yet rendered.
#[derive(Debug)]
pub struct Rows {
    /// Rows to train on.
    pub train: Vec<Located>,
    /// Rows to validate on; empty if none are asked for.
    pub validation: Vec<Located>,
    /// Rows that were left out, with the file they came from.
    pub rejects: Vec<(PathBuf, Reject)>,
    /// BLAKE3 of the files' bytes.
    pub hash: String,
}

/// Samples of a recipe.
#[derive(Debug)]
pub struct Dataset {
    /// Samples to train on.
    pub train: Vec<Sample>,
    /// The row of the training file that each of them is from, from 1.
    pub train_rows: Vec<u64>,
    /// Samples to validate on.
    pub validation: Vec<Sample>,
    /// Validation rows as questions, for greedy answers.
    pub questions: Vec<Question>,
    /// Target tokens of the training samples.
    pub target_tokens: u64,
    /// All tokens of the training samples.
    pub total_tokens: u64,
    /// What became of training rows for their length.
    pub lengths: LengthReport,
    /// Rows left out while reading and rendering.
    pub rejects: Vec<(PathBuf, Reject)>,
}

impl Rows {
    /// Reads the files and splits off the validation part; needs no model.
    ///
    /// # Errors
    /// [`RunError::BadRows`] where rows are bad and the recipe does not skip them, and what the
    /// reader refuses.
    pub fn read(section: &DataSection, seed: u64) -> Result<Self, RunError> {
        let mut rejects = Vec::new();
        let train = read(section, &section.train, &mut rejects)?;
        let mut hash = train.bytes_blake3;
        let mut train = train.records;
        let part = match (section.validation_rows, section.validation_fraction) {
            (Some(rows), _) => Some(Validation::Rows(rows as usize)),
            (None, Some(fraction)) => Some(Validation::Fraction(fraction)),
            (None, None) => None,
        };
        let validation = if let Some(path) = &section.validation {
            let report = read(section, path, &mut rejects)?;
            hash.push_str(&report.bytes_blake3);
            report.records
        } else if let Some(part) = part {
            let (_, held) = data::split(train.len(), part, seed)?;
            let held_rows = held.iter().map(|&index| train[index].clone()).collect();
            let mut index = 0;
            train.retain(|_| {
                index += 1;
                held.binary_search(&(index - 1)).is_err()
            });
            held_rows
        } else {
            Vec::new()
        };
        Ok(Self { train, validation, rejects, hash })
    }

    /// Renders every row; `questions` is the number of validation rows to ask.
    ///
    /// # Errors
    /// As [`Rows::read`], for faults that only rendering finds; [`RunError::TooManyLongRows`].
    pub fn render(
        self,
        section: &DataSection,
        renderer: &Renderer,
        questions: usize,
    ) -> Result<Dataset, RunError> {
        self.render_while(section, renderer, questions, &|| Ok(()))
    }

    /// As [`Rows::render`], until `go_on` fails; it is asked before every row.
    ///
    /// # Errors
    /// As [`Rows::render`], and that of `go_on`.
    pub(crate) fn render_while(
        self,
        section: &DataSection,
        renderer: &Renderer,
        questions: usize,
        go_on: &dyn Fn() -> Result<(), RunError>,
    ) -> Result<Dataset, RunError> {
        let mut rejects = self.rejects;
        let rendered = Rendering { section, renderer, go_on };
        let train = rendered.rows(&section.train, &self.train, &mut rejects)?;
        if train.lengths.share() > section.max_truncated {
            return Err(RunError::TooManyLongRows {
                path: section.train.clone(),
                max_tokens: renderer.max_tokens,
                max_truncated: section.max_truncated,
                lengths: train.lengths,
            });
        }
        let mut validation = Vec::new();
        if !self.validation.is_empty() {
            let path = section.validation.as_ref().unwrap_or(&section.train);
            let report = rendered.rows(path, &self.validation, &mut rejects)?;
            validation = report.samples.into_iter().map(|it| it.sample).collect();
        }
        let questions = self
            .validation
            .iter()
            .filter_map(|row| question(&row.record, renderer))
            .take(questions)
            .collect::<Result<_, _>>()?;
        Ok(Dataset {
            target_tokens: train.target_tokens as u64,
            total_tokens: train.total_tokens as u64,
            lengths: train.lengths,
            train_rows: train.samples.iter().map(|it| it.row as u64).collect(),
            train: train.samples.into_iter().map(|it| it.sample).collect(),
            validation,
            questions,
            rejects,
        })
    }
}

impl Dataset {
    /// Training samples whose tokens are those of an earlier one.
    pub fn duplicates(&self) -> usize {
        let mut seen = HashSet::new();
        self.train.iter().filter(|sample| !seen.insert(sample.tokens.as_slice())).count()
    }

    /// The share of training tokens that are targets, 0 to 1.
    pub fn target_share(&self) -> f64 {
        self.target_tokens as f64 / self.total_tokens.max(1) as f64
    }
}

/// The recipe's name of a format as the reader's.
pub fn format(format: RowFormat) -> Format {
    match format {
        RowFormat::Auto => Format::Auto,
        RowFormat::Messages => Format::Messages,
        RowFormat::ShareGpt => Format::ShareGpt,
        RowFormat::Alpaca => Format::Alpaca,
        RowFormat::PromptCompletion => Format::PromptCompletion,
        RowFormat::Text => Format::Text,
    }
}

/// The recipe's policy for long rows as the renderer's.
pub fn too_long(policy: recipe::TooLong) -> TooLong {
    match policy {
        recipe::TooLong::TruncateRight => TooLong::TruncateRight,
        recipe::TooLong::TruncateLeft => TooLong::TruncateLeft,
        recipe::TooLong::Split => TooLong::Split,
        recipe::TooLong::Drop => TooLong::Drop,
        recipe::TooLong::Error => TooLong::Error,
    }
}

fn read(
    section: &DataSection,
    path: &Path,
    rejects: &mut Vec<(PathBuf, Reject)>,
) -> Result<data::ReadReport, RunError> {
    let options = ReadOptions { format: format(section.format), ..ReadOptions::default() };
    let mut report = data::read(path, &options)?;
    let rows = report.records.len() + report.rejects.len();
    keep(section, path, rows, std::mem::take(&mut report.rejects), rejects)?;
    Ok(report)
}

/// How rows become samples.
struct Rendering<'a> {
    section: &'a DataSection,
    renderer: &'a Renderer,
    go_on: &'a dyn Fn() -> Result<(), RunError>,
}

impl Rendering<'_> {
    fn rows(
        &self,
        path: &Path,
        rows: &[Located],
        rejects: &mut Vec<(PathBuf, Reject)>,
    ) -> Result<RenderReport, RunError> {
        let report = self.renderer.render_all_while(rows, &|| (self.go_on)().is_ok())?;
        (self.go_on)()?;
        let Some(mut report) = report else { return Err(RunError::Stopped { signal: 0 }) };
        let found = std::mem::take(&mut report.rejects);
        keep(self.section, path, rows.len(), found, rejects)?;
        Ok(report)
    }
}

/// Fails on bad rows, or keeps them for the report.
fn keep(
    section: &DataSection,
    path: &Path,
    rows: usize,
    found: Vec<Reject>,
    rejects: &mut Vec<(PathBuf, Reject)>,
) -> Result<(), RunError> {
    // A row that the recipe says to drop for its length is no fault of the row.
    let dropped = |it: &Reject| {
        section.too_long == recipe::TooLong::Drop && matches!(it.reason, RowError::TooLong { .. })
    };
    let faulty = found.iter().any(|reject| !dropped(reject));
    if faulty && section.on_bad_row == OnBadRow::Fail {
        return Err(RunError::BadRows { path: path.to_owned(), rows, rejects: found });
    }
    rejects.extend(found.into_iter().map(|reject| (path.to_owned(), reject)));
    Ok(())
}

/// The last assistant turn of a conversation, or a completion, as a question.
fn question(record: &Record, renderer: &Renderer) -> Option<Result<Question, RowError>> {
    match record {
        Record::Chat { messages, tools } => {
            let last = messages.iter().rposition(|turn| turn.role == Role::Assistant)?;
            let before: &[Message] = &messages[..last];
            let asked = before.iter().rfind(|turn| turn.role == Role::User)?;
            let prompt = renderer.prompt_with_tools(before, tools.as_ref());
            Some(prompt.map(|prompt| Question {
                text: asked.content.clone(),
                prompt,
                answer: messages[last].content.clone(),
            }))
        }
        Record::Completion { prompt, completion } => {
            let tokens = renderer.tokenizer.encode(prompt, data::Specials::Plain);
            Some(tokens.map_err(RowError::from).map(|tokens| Question {
                text: prompt.clone(),
                prompt: tokens,
                answer: completion.clone(),
            }))
        }
        Record::Text(_) => None,
    }
}
