//! What can be wrong with a tokenizer.

use std::path::PathBuf;

use crate::error::NameList;

/// A tokenizer that cannot be used, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error("cannot access `{}`: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The description of the tokenizer is broken.
    #[error("the tokenizer is not usable: {detail}; fetch the model's files again")]
    Broken {
        /// What is wrong.
        detail: String,
    },
    /// A special token is named that the vocabulary lacks.
    #[error("the {role} token `{token}` is not in the vocabulary; correct tokenizer_config.json")]
    UnknownSpecial {
        /// `bos`, `eos` or `pad`.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A GGUF vocabulary names a way to cut text that is not known.
    #[error("the pre-tokenizer `{found}` is not known; wanted one of {known}")]
    UnknownPre {
        /// The name found.
        found: String,
        /// Those known.
        known: NameList,
    },
    /// A regular expression could take time exponential in the text's length.
    #[error(
        "the tokenizer's pattern `{pattern}` repeats a repetition or a choice, which can hang on \
         hostile text; wanted a pattern without nested repetition, or a published one"
    )]
    UnsafePattern {
        /// The pattern.
        pattern: String,
    },
    /// The tokenizer gives ids that the model has no embedding for.
    #[error(
        "the tokenizer has {ids} ids but the model has {rows} embedding rows; wanted at most as \
         many ids as rows: use the tokenizer that came with the model"
    )]
    TooManyIds {
        /// One more than the largest id.
        ids: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Encoding or decoding failed.
    #[error("the tokenizer failed: {detail}")]
    Failed {
        /// The tokenizer's words.
        detail: String,
    },
}

impl TokenizerError {
    /// The exit code of the command line: 6 for disk faults, else 4.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Io { .. }) { 6 } else { 4 }
    }
}
