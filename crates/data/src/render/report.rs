//! All rows of a file, rendered, and what became of the long ones.

use std::fmt;

use super::lengths::{Pieces, TooLong};
use super::{Renderer, Sample};
use crate::error::{DataError, ReasonCounts, Reject, RowError};
use crate::read::Located;

/// Longest rows that a report names.
const NAMED: usize = 5;

/// All rows of a file, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderReport {
    /// The samples of the good rows, in order.
    pub samples: Vec<RowSample>,
    /// The refused rows, in order. `byte` is not known here and is 0.
    pub rejects: Vec<Reject>,
    /// What became of rows for their length.
    pub lengths: LengthReport,
    /// Targets of all samples that can be predicted.
    pub target_tokens: usize,
    /// Tokens of all samples.
    pub total_tokens: usize,
}

/// A sample and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSample {
    /// Row number, from 1.
    pub row: usize,
    /// Place in the row of the sample's first token; not 0 if the row was cut there.
    pub start: usize,
    /// The sample.
    pub sample: Sample,
}

/// What became of rows for their length; rows with other faults are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LengthReport {
    /// Rows that are short enough.
    pub kept: usize,
    /// Rows that were cut at one end.
    pub truncated: usize,
    /// Rows that were split into several samples.
    pub split: usize,
    /// Samples that the split rows gave.
    pub pieces: usize,
    /// Pieces of split rows that were left out because they hold no target.
    pub pieces_dropped: usize,
    /// Rows that were left out for their length.
    pub dropped: usize,
    /// Rows that were left out because no target was left after they were cut or split.
    pub targets_lost: usize,
    /// The longest of the rows that are too long, longest first.
    pub longest: Vec<LongRow>,
}

/// A row that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongRow {
    /// Row number, from 1.
    pub row: usize,
    /// Line number in the file, from 1.
    pub line: usize,
    /// Its length, in tokens.
    pub tokens: usize,
}

impl LengthReport {
    /// All rows that were counted.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.kept + self.too_long()
    }

    /// Rows that are too long, whatever became of them.
    #[must_use]
    pub fn too_long(&self) -> usize {
        self.truncated + self.split + self.dropped + self.targets_lost
    }

    /// The share of rows that are too long, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.too_long() as f64 / self.rows().max(1) as f64
    }

    fn count(&mut self, pieces: &Pieces, at: LongRow) {
        if pieces.is_split() {
            self.split += 1;
            self.pieces += pieces.samples.len();
            self.pieces_dropped += pieces.dropped;
        } else if pieces.samples.iter().any(|(_, sample)| sample.truncated) {
            self.truncated += 1;
        } else {
            self.kept += 1;
            return;
        }
        self.name(at);
    }

    fn count_lost(&mut self, reason: &RowError, row: usize, line: usize) {
        let tokens = match *reason {
            RowError::TooLong { tokens, .. } => {
                self.dropped += 1;
                tokens
            }
            RowError::TargetCutAway { tokens, .. } => {
                self.targets_lost += 1;
                tokens
            }
            _ => return,
        };
        self.name(LongRow { row, line, tokens });
    }

    fn name(&mut self, long: LongRow) {
        let place = self.longest.partition_point(|it| it.tokens >= long.tokens);
        self.longest.insert(place, long);
        self.longest.truncate(NAMED);
    }
}

impl fmt::Display for LengthReport {
    /// The counts of long rows by outcome, and the longest rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows are too long", self.too_long(), self.rows())?;
        let counts = [
            (self.truncated, "cut"),
            (self.split, "split"),
            (self.dropped, "dropped"),
            (self.targets_lost, "dropped as no target was left"),
        ];
        for (i, (count, what)) in counts.iter().filter(|(count, _)| *count > 0).enumerate() {
            write!(f, "{} {count} {what}", if i == 0 { ":" } else { "," })?;
            if *what == "split" {
                write!(f, " into {} samples", self.pieces)?;
                if self.pieces_dropped > 0 {
                    write!(f, " and {} pieces without a target", self.pieces_dropped)?;
                }
            }
        }
        for (i, long) in self.longest.iter().enumerate() {
            let LongRow { line, tokens, .. } = long;
            match i {
                0 => write!(f, "; the longest has {tokens} tokens (line {line})")?,
                1 => write!(f, ", then {tokens} (line {line})")?,
                _ => write!(f, ", {tokens} (line {line})")?,
            }
        }
        Ok(())
    }
}

impl Renderer {
    /// Renders every row and counts what was refused, cut, split and dropped.
    ///
    /// # Errors
    /// [`DataError::AllRowsRejected`] if no row is left, [`DataError::RowTooLong`] at the first
    /// long row under [`TooLong::Error`], [`DataError::Template`] at the first row that shows that
    /// the template cannot be used.
    pub fn render_all(&self, rows: &[Located]) -> Result<RenderReport, DataError> {
        let report = self.render_all_while(rows, &|| true)?;
        Ok(report.expect("nothing asks it to end"))
    }

    /// As [`Self::render_all`], as long as `go_on` says so; it is asked before every row.
    ///
    /// `Ok(None)` once it says no.
    ///
    /// # Errors
    /// As [`Self::render_all`].
    pub fn render_all_while(
        &self,
        rows: &[Located],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<RenderReport>, DataError> {
        let mut samples = Vec::with_capacity(rows.len());
        let mut rejects = Vec::new();
        let mut lengths = LengthReport::default();
        for &Located { row, line, ref record } in rows {
            if !go_on() {
                return Ok(None);
            }
            match self.pieces(record) {
                Ok(pieces) => {
                    lengths.count(&pieces, LongRow { row, line, tokens: pieces.tokens });
                    let pieces = pieces.samples.into_iter();
                    samples.extend(pieces.map(|(start, sample)| RowSample { row, start, sample }));
                }
                Err(reason @ RowError::TooLong { .. }) if self.too_long == TooLong::Error => {
                    return Err(DataError::RowTooLong { row, line, reason: Box::new(reason) });
                }
                Err(RowError::UnusableTemplate(error)) => return Err(error.into()),
                Err(reason) => {
                    lengths.count_lost(&reason, row, line);
                    rejects.push(Reject { row, line, byte: 0, reason });
                }
            }
        }
        if let (true, Some(first)) = (samples.is_empty(), rejects.first()) {
            return Err(DataError::AllRowsRejected {
                rows: rows.len(),
                counts: ReasonCounts::of(&rejects),
                first_line: first.line,
                first: Box::new(first.reason.clone()),
            });
        }
        Ok(Some(RenderReport {
            target_tokens: samples.iter().map(|it| it.sample.n_targets()).sum(),
            total_tokens: samples.iter().map(|it| it.sample.tokens.len()).sum(),
            samples,
            rejects,
            lengths,
        }))
    }
}
