//! What can be wrong with a file, a row, a tokenizer or a template.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::read::Format;
use crate::template::TemplateError;
use crate::tokenizer::TokenizerError;

/// A fault that stops the work on a whole file, tokenizer or template.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file could not be opened or read.
    #[error("cannot read `{}`: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file holds no row at all.
    #[error(
        "`{}` holds no rows ({bytes} bytes, all blank); wanted at least one record: check that the \
         right file is named",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// No row looked like any format that is known.
    #[error(
        "`{}`: the rows have {found}, which no known format has; wanted `messages`, \
         `conversations`, `instruction` + `output`, `prompt` + `completion` or `text`: rename the \
         columns",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The keys of the first rows.
        found: NameList,
    },
    /// Every row was refused.
    #[error("all {rows} rows were refused ({counts}), first at line {first_line}: {first}")]
    AllRowsRejected {
        /// Rows seen.
        rows: usize,
        /// How many rows were refused for which reason.
        counts: ReasonCounts,
        /// Line of the first refused row.
        first_line: usize,
        /// Why the first row was refused.
        first: Box<RowError>,
    },
    /// A row is longer than allowed and the policy says to stop.
    #[error("row {row} (line {line}): {reason}")]
    RowTooLong {
        /// Row number, from 1.
        row: usize,
        /// Line number, from 1.
        line: usize,
        /// The lengths.
        reason: Box<RowError>,
    },
    /// A row that must be good is not.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: Box<RowError>,
    },
    /// A split leaves one side without rows.
    #[error(
        "a validation part of {validation} out of {rows} rows leaves {side} without rows; wanted \
         at least one row on each side: change the size of the validation part or add rows"
    )]
    EmptySplit {
        /// Rows to be split.
        rows: usize,
        /// What was asked for.
        validation: String,
        /// The side that is empty: `training` or `validation`.
        side: &'static str,
    },
    /// A loader got numbers that it cannot work with.
    #[error("{0}")]
    Loader(#[from] crate::loader::LoaderError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl DataError {
    /// The exit code of the command line for this fault: 3 data, 4 tokenizer or template, 6 disk.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => 6,
            Self::Tokenizer(error) => error.exit_code(),
            Self::Template(_) => 4,
            Self::Empty { .. }
            | Self::UnknownFormat { .. }
            | Self::AllRowsRejected { .. }
            | Self::RowTooLong { .. }
            | Self::Row { .. }
            | Self::EmptySplit { .. }
            | Self::Loader(_) => 3,
        }
    }
}

/// A fault of one row; the rest of the file is still good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The bytes are not JSON.
    #[error("not valid JSON: {detail}; fix or remove the row")]
    NotJson {
        /// What the parser said.
        detail: String,
    },
    /// The bytes are not UTF-8.
    #[error("byte `0x{found:02x}` is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The first bad byte.
        found: u8,
    },
    /// A raw NUL byte stands in the text.
    #[error("a NUL byte stands in the text; remove it")]
    Nul,
    /// The row is larger than the reader may hold.
    #[error("the row is longer than {limit} bytes; split it, or raise `max_row_bytes`")]
    TooManyBytes {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A value has the wrong JSON type.
    #[error("`{key}` is {found}, wanted {wanted}")]
    WrongType {
        /// Path of the value inside the row.
        key: String,
        /// What was found.
        found: &'static str,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The keys are not those of the file's format.
    #[error("the row has {found}, wanted {wanted} (format `{format}`)")]
    WrongKeys {
        /// The format of the file.
        format: Format,
        /// The keys of the row.
        found: NameList,
        /// The keys that the format needs.
        wanted: &'static str,
    },
    /// A turn has a role that is not known.
    #[error("turn {turn} has the role `{role}`; wanted {wanted}")]
    UnknownRole {
        /// The turn, from 1.
        turn: usize,
        /// The role as written.
        role: String,
        /// The roles of the format.
        wanted: &'static str,
    },
    /// A conversation has no turns.
    #[error("the conversation has no turns; wanted at least a user and an assistant turn")]
    NoTurns,
    /// The assistant speaks before anybody else has.
    #[error("turn {turn} is the assistant's, before any user turn; put a user turn before it")]
    AssistantFirst {
        /// The turn, from 1.
        turn: usize,
    },
    /// Two user turns follow each other.
    #[error("turns {} and {turn} are both the user's; merge them or add the answer", turn - 1)]
    UserTwice {
        /// The second of the two turns, from 1.
        turn: usize,
    },
    /// The text holds a character that the renderer needs for itself.
    #[error("the text holds the private-use character U+{code:04X}; remove it")]
    ReservedCharacter {
        /// The character's code point.
        code: u32,
    },
    /// The template refused the conversation, or failed on it.
    #[error("the chat template refused the conversation: {detail}")]
    Template {
        /// The template's words.
        detail: String,
    },
    /// The template would fail on any row, so the work stops.
    #[error(transparent)]
    UnusableTemplate(TemplateError),
    /// A conversation came without a chat template to render it.
    #[error("the row is a conversation but there is no chat template; name one, such as `chatml`")]
    NoTemplate,
    /// The text of an assistant turn cannot be found in the rendered conversation.
    #[error(
        "the text of assistant turn {turn} cannot be found in the rendered conversation: the \
         template writes a turn differently once others follow; use a template with \
         `generation` marks, or split the conversation at this turn"
    )]
    TurnNotFound {
        /// The turn, from 1.
        turn: usize,
    },
    /// The tokenizer failed on the text.
    #[error("the tokenizer failed: {detail}")]
    Tokenizer {
        /// The tokenizer's words.
        detail: String,
    },
    /// No token of the row is trained on.
    #[error("no token of the row is a target; wanted an assistant turn or a completion with text")]
    NoTarget,
    /// Cutting or splitting the row to its longest length left nothing to be trained on.
    #[error(
        "of {tokens} tokens, cut at {max_tokens}, those that are left hold no target; raise \
         `max_tokens` or shorten the prompt"
    )]
    TargetCutAway {
        /// Length before the cut, in tokens.
        tokens: usize,
        /// The longest length allowed, in tokens.
        max_tokens: usize,
    },
    /// The row is longer than allowed.
    #[error("the row has {tokens} tokens, wanted at most {max_tokens}; raise `max_tokens` or cut")]
    TooLong {
        /// Length in tokens.
        tokens: usize,
        /// The longest length allowed, in tokens.
        max_tokens: usize,
    },
}

impl RowError {
    /// Short name of the reason, under which rows are counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "not JSON",
            Self::NotUtf8 { .. } => "not UTF-8",
            Self::Nul => "NUL byte",
            Self::TooManyBytes { .. } => "too many bytes",
            Self::WrongType { .. } => "wrong type",
            Self::WrongKeys { .. } => "wrong keys",
            Self::UnknownRole { .. } => "unknown role",
            Self::NoTurns => "no turns",
            Self::AssistantFirst { .. } => "assistant first",
            Self::UserTwice { .. } => "two user turns in a row",
            Self::ReservedCharacter { .. } => "reserved character",
            Self::Template { .. } => "refused by the template",
            Self::UnusableTemplate(_) => "unusable template",
            Self::NoTemplate => "no chat template",
            Self::TurnNotFound { .. } => "turn not found",
            Self::Tokenizer { .. } => "tokenizer failed",
            Self::NoTarget => "no target",
            Self::TargetCutAway { .. } => "target cut away",
            Self::TooLong { .. } => "too long",
        }
    }
}

/// A row that was refused, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Row number, from 1; blank lines are not rows.
    pub row: usize,
    /// Line number in the file, from 1.
    pub line: usize,
    /// Byte offset in the file of the fault, or of the row where the fault has no place.
    pub byte: u64,
    /// Why it was refused.
    pub reason: RowError,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, line, byte, reason } = self;
        write!(f, "row {row} (line {line}, byte {byte}): {reason}")
    }
}

/// How many rows were refused for which reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReasonCounts(pub BTreeMap<&'static str, usize>);

impl ReasonCounts {
    /// Counts refused rows by reason.
    #[must_use]
    pub fn of(rejects: &[Reject]) -> Self {
        let mut counts = BTreeMap::new();
        for reject in rejects {
            *counts.entry(reject.reason.kind()).or_insert(0) += 1;
        }
        Self(counts)
    }
}

impl fmt::Display for ReasonCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, count)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{kind}: {count}")?;
        }
        Ok(())
    }
}

/// Names in a message: each in backticks, the long tail as a count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameList(pub Vec<String>);

impl fmt::Display for NameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        const LONGEST: usize = 40;
        if self.0.is_empty() {
            return f.write_str("no keys");
        }
        for (i, name) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let short: String = name.chars().take(LONGEST).collect();
            write!(f, "{comma}`{short}`")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
