//! What can be wrong with a model's files.

use std::fmt;
use std::path::{Path, PathBuf};

use rekindle_quant::gguf::GgufError;

/// Everything that is wrong at once, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    /// The first forty problems, each on a line of its own, and the number of the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        for problem in self.0.iter().take(SHOWN) {
            write!(f, "\n  {problem}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing is at the path.
    #[error(
        "no model at `{}`; give a folder with `config.json` and `model.safetensors`, or a `.gguf` \
         file",
        path.display()
    )]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A folder without `config.json` that holds GGUF files.
    #[error(
        "`{}` holds no `config.json` but `{found}`; give that file itself as the model: `{}`",
        folder.display(),
        folder.join(found).display()
    )]
    GgufInside {
        /// The folder.
        folder: PathBuf,
        /// The first GGUF file in it.
        found: String,
    },
    /// A file that is neither a folder nor GGUF.
    #[error(
        "`{}` is not a GGUF file; for safetensors give the folder that holds `config.json`",
        path.display()
    )]
    NotAModel {
        /// The file.
        path: PathBuf,
    },
    /// A folder without weights.
    #[error(
        "no weights in `{}`; wanted `model.safetensors` or `model.safetensors.index.json`",
        folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder whose weights are pickles.
    #[error(
        "`{}` holds only pickle weights (`{found}`); pickle is not read, because opening it runs \
         code: convert the model to `model.safetensors`",
        folder.display()
    )]
    PickleOnly {
        /// The folder.
        folder: PathBuf,
        /// The first pickle.
        found: String,
    },
    /// The text that Git LFS leaves in place of a file.
    #[error(
        "`{}` is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
        path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A web page saved in place of a file.
    #[error(
        "`{}` is an HTML page, probably of a login or an error; download the file again",
        path.display()
    )]
    HtmlPage {
        /// The file.
        path: PathBuf,
    },
    /// Fewer than eight bytes.
    #[error(
        "`{}` is too small to be safetensors: {len} bytes, wanted at least 8; download it again",
        path.display()
    )]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// A header longer than the format allows.
    #[error(
        "header of `{}` claims {header} bytes; safetensors allows at most {limit}",
        path.display()
    )]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes claimed.
        header: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file ends before its header or its tensors do.
    #[error(
        "`{}` is truncated: it has {found} bytes, its header asks for {wanted}; download it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there.
        found: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// A header or a tensor's description that breaks the format.
    #[error("`{}` is not valid safetensors: {reason}", path.display())]
    BadSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the tensor's name.
        reason: String,
    },
    /// A JSON file that cannot be understood.
    #[error("`{}` is not what it should be: {reason}", path.display())]
    BadJson {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file name that leads out of the model's folder.
    #[error(
        "`{}` names `{name}`, which is not a plain file inside the folder; refused and not opened",
        path.display()
    )]
    OutsideFolder {
        /// The index, or the folder.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// An index and its shards disagree.
    #[error("shards of `{}` are not complete:{problems}", path.display())]
    Shards {
        /// The index.
        path: PathBuf,
        /// All that is wrong.
        problems: Problems,
    },
    /// The tensors are not those of the architecture.
    #[error("weights do not fit the model's config:{problems}")]
    WrongTensors {
        /// Missing, unexpected and misshapen tensors.
        problems: Problems,
    },
    /// A tensor was asked for that is not there.
    #[error("no tensor `{name}` in the model")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// A tensor in a number format that is not read.
    #[error("tensor `{name}` is stored as `{dtype}`; wanted `F32`, `F16` or `BF16`")]
    UnsupportedDtype {
        /// Its name.
        name: String,
        /// Its number format.
        dtype: String,
    },
    /// A model of an unknown kind.
    #[error(
        "model type `{found}` is not supported, and no remote code is ever run; supported: \
         {supported}"
    )]
    UnknownArchitecture {
        /// Its `model_type`, or GGUF's `general.architecture`.
        found: String,
        /// Those that are.
        supported: String,
    },
    /// A setting that the model's maths would need and that is not built.
    #[error("`{key}` is `{found}`, which is not supported; wanted {wanted}")]
    Unsupported {
        /// The config's key.
        key: String,
        /// Its value.
        found: String,
        /// What is supported.
        wanted: String,
    },
    /// A config without a key that has no default.
    #[error("the model's config has no `{key}`; add it, or fetch the whole config again")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A config's value of the wrong kind or out of range.
    #[error("`{key}` of the model's config is {found}; wanted {wanted}")]
    OutOfRange {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is allowed.
        wanted: String,
    },
    /// A GGUF vocabulary that does not fit its embeddings.
    #[error(
        "the vocabulary has {tokens} tokens, the embeddings have {rows} rows; the file is damaged \
         or was put together from two models"
    )]
    VocabRows {
        /// Tokens listed.
        tokens: usize,
        /// Rows of the embeddings.
        rows: usize,
    },
    /// A GGUF vocabulary whose lists disagree.
    #[error("the vocabulary is broken: {reason}")]
    BadVocab {
        /// What is wrong.
        reason: String,
    },
    /// A GGUF file that breaks its format.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

impl ModelError {
    /// An error of the operating system at `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// The program's exit code: 6 where a disk failed, 4 where the model is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => 6,
            Self::Gguf(error) => error.exit_code(),
            _ => 4,
        }
    }
}
