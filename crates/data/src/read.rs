//! From a file to records: formats, their detection, and what is refused.

mod conversation;
mod parse;
mod rows;
mod unchecked;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DataError, NameList, ReasonCounts, Reject};
use crate::record::Record;
use rows::{Layout, RawRow, Rows};

pub use unchecked::{Conversation, conversations};

/// Rows looked at before a file is said to have no known format.
const DETECTION_ROWS: usize = 100;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Found out from the keys of the first rows.
    #[default]
    Auto,
    /// OpenAI chat: `messages` of `role` and `content`, with optional `tools` and `weight`.
    Messages,
    /// ShareGPT: `conversations` of `from` and `value`.
    #[serde(rename = "sharegpt", alias = "share_gpt")]
    ShareGpt,
    /// Alpaca: `instruction`, `input`, `output`, with optional `system` and `history`.
    Alpaca,
    /// `prompt` and `completion`: two strings, or two lists of messages.
    PromptCompletion,
    /// `text` in JSON rows; in a plain text file, one document a paragraph.
    Text,
}

impl Format {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::Auto, "auto"),
        (Self::Messages, "messages"),
        (Self::ShareGpt, "sharegpt"),
        (Self::Alpaca, "alpaca"),
        (Self::PromptCompletion, "prompt-completion"),
        (Self::Text, "text"),
    ];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("auto", |(_, name)| name))
    }
}

/// A format's name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no format is called `{0}`; wanted auto, messages, sharegpt, alpaca, prompt-completion or text"
)]
pub struct UnknownFormatName(pub String);

impl FromStr for Format {
    type Err = UnknownFormatName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let plain = name.to_lowercase().replace('_', "-");
        let plain = if plain == "share-gpt" { "sharegpt".into() } else { plain };
        let known = Self::NAMES.iter().find(|(_, known)| *known == plain);
        known.map(|(format, _)| *format).ok_or_else(|| UnknownFormatName(name.into()))
    }
}

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format of the rows.
    pub format: Format,
    /// The longest row that is held in memory, in bytes; longer ones are refused.
    pub max_row_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        // 16 MiB: far above any row that fits a context, far below what hurts.
        Self { format: Format::Auto, max_row_bytes: 16 << 20 }
    }
}

/// A record and where it stands in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Row number, from 1; blank lines are not rows.
    pub row: usize,
    /// Line number, from 1.
    pub line: usize,
    /// What the row says.
    pub record: Record,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadReport {
    /// The good rows, in order.
    pub records: Vec<Located>,
    /// The refused rows, in order.
    pub rejects: Vec<Reject>,
    /// The format of the rows, never [`Format::Auto`].
    pub format: Format,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub bytes_blake3: String,
}

/// Reads a whole file, row by row, and says of each row what it holds or why it is refused.
///
/// JSON lines and a JSON array are told apart by the first byte, not by the file's name. A file
/// named `.txt` or `.md`, or one read as [`Format::Text`] that does not start like JSON, is
/// plain text: each block of lines between blank lines is one document. A row is parsed on its
/// own, so a column may change its type from row to row; at most one row of `max_row_bytes` is
/// held besides the records.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Empty`] if there is no row; [`DataError::UnknownFormat`] if
/// no format fits; [`DataError::AllRowsRejected`] if no row is good.
pub fn read(path: &Path, options: &ReadOptions) -> Result<ReadReport, DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mut hashing = Hashing { inner: file, hasher: blake3::Hasher::new(), bytes: 0 };
    let mut rows = Rows::new(
        BufReader::with_capacity(1 << 16, &mut hashing),
        options.max_row_bytes,
        layout_of(path, options.format),
    )
    .map_err(io)?;
    let format = if rows.is_plain_text() { Format::Text } else { options.format };
    let mut gather = Gather { format, ..Gather::default() };
    while let Some(raw) = rows.next_row().map_err(io)? {
        gather.take(raw, rows.is_plain_text());
        if gather.pending.len() >= DETECTION_ROWS {
            break;
        }
    }
    drop(rows);
    let hash = hashing.hasher.finalize().to_hex().to_string();
    gather.finish(path, hashing.bytes, hash)
}

fn layout_of(path: &Path, format: Format) -> Layout {
    let extension = path.extension().map(|ext| ext.to_ascii_lowercase());
    let is_text_file = extension.is_some_and(|ext| ext == "txt" || ext == "md");
    match format {
        Format::Text if is_text_file => Layout::PlainText,
        Format::Text => Layout::JsonElseText,
        Format::Auto if is_text_file => Layout::PlainText,
        _ => Layout::Json,
    }
}

/// The rows seen so far, and those that wait for the format to be known.
#[derive(Default)]
struct Gather {
    format: Format,
    row: usize,
    pending: Vec<(usize, usize, u64, Value)>,
    records: Vec<Located>,
    rejects: Vec<Reject>,
}

impl Gather {
    fn take(&mut self, raw: RawRow, plain_text: bool) {
        self.row += 1;
        let row = self.row;
        let RawRow { line, byte, bytes } = raw;
        let parsed = match bytes {
            Err(reason) => Err((reason, line, byte)),
            Ok(bytes) if plain_text => parse::text(&bytes)
                .map(|text| Value::from_iter([("text", Value::from(text))]))
                .map_err(|(reason, at)| (reason, line + at.lines, byte + at.bytes)),
            Ok(bytes) => parse::json(&bytes)
                .map_err(|(reason, at)| (reason, line + at.lines, byte + at.bytes)),
        };
        match parsed {
            Err((reason, line, byte)) => self.rejects.push(Reject { row, line, byte, reason }),
            Ok(value) => {
                if self.format == Format::Auto {
                    self.format = parse::detect(&value);
                }
                self.pending.push((row, line, byte, value));
                if self.format != Format::Auto {
                    self.settle();
                }
            }
        }
    }

    fn settle(&mut self) {
        for (row, line, byte, value) in self.pending.drain(..) {
            match parse::record(value, self.format) {
                Ok(record) => self.records.push(Located { row, line, record }),
                Err(reason) => self.rejects.push(Reject { row, line, byte, reason }),
            }
        }
    }

    fn finish(mut self, path: &Path, bytes: u64, hash: String) -> Result<ReadReport, DataError> {
        if self.row == 0 {
            return Err(DataError::Empty { path: path.into(), bytes });
        }
        if !self.pending.is_empty() {
            let found = found_keys(self.pending.iter().map(|(.., value)| value));
            return Err(DataError::UnknownFormat { path: path.into(), found });
        }
        self.rejects.sort_by_key(|reject| reject.row);
        if self.records.is_empty() {
            let first = self.rejects.first().expect("a row is either a record or a reject");
            return Err(DataError::AllRowsRejected {
                rows: self.row,
                counts: ReasonCounts::of(&self.rejects),
                first_line: first.line,
                first: Box::new(first.reason.clone()),
            });
        }
        Ok(ReadReport {
            records: self.records,
            rejects: self.rejects,
            format: self.format,
            bytes_blake3: hash,
        })
    }
}

fn found_keys<'a>(values: impl Iterator<Item = &'a Value>) -> NameList {
    let mut keys: Vec<String> = Vec::new();
    for value in values {
        for key in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    NameList(keys)
}

/// Counts and hashes the bytes that pass through.
struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}
