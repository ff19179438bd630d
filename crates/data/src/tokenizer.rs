//! Text to token ids and back.

mod contain;
mod error;
mod known_patterns;
mod regex_guard;
mod special;
mod stop;
mod stream;
mod vocab;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

pub use error::TokenizerError;
pub use special::{SpecialTokens, UnknownSpecialName};
pub use stop::StopTexts;
pub use stream::DecodeStream;
pub use vocab::{VocabModel, VocabSpec};

/// More ids than any model has; a file that claims more is broken.
const MAX_VOCAB: usize = 10_000_000;

/// What becomes of the text of a special token, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Specials {
    /// It becomes the special token's id.
    Parse,
    /// It is text like any other.
    #[default]
    Plain,
}

/// Token ids of a text, and the bytes of the text that each stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Byte range in the text, one a token. A token without text has an empty range.
    pub offsets: Vec<Range<usize>>,
}

/// A tokenizer and the ids that have a meaning of their own.
///
/// Ids may have gaps, as some published tokenizers do; what counts against the model's embedding
/// is the largest id ([`Tokenizer::check_rows`]).
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    plain: OnceLock<Box<tokenizers::Tokenizer>>,
    specials: Vec<String>,
    vocab_len: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    adds_bos: bool,
    adds_eos: bool,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vocab_len, bos, eos, pad, adds_bos, adds_eos, .. } = self;
        write!(
            f,
            "Tokenizer {{ vocab_len: {vocab_len}, bos: {bos:?}, eos: {eos:?}, pad: {pad:?}, "
        )?;
        write!(f, "adds_bos: {adds_bos}, adds_eos: {adds_eos} }}")
    }
}

impl Tokenizer {
    /// The tokenizer of a `tokenizer.json`; special ids come with [`Self::with_special_tokens`].
    ///
    /// # Errors
    /// [`TokenizerError`] if the file cannot be read or is not a usable tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let io = |source| TokenizerError::Io { path: path.into(), source };
        Self::from_bytes(&std::fs::read(path).map_err(io)?)
    }

    /// The tokenizer of the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`] if they are not a usable tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let broken = |detail: String| TokenizerError::Broken { detail };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| broken(format!("tokenizer.json: {error}")))?;
        regex_guard::check(&inner)?;
        // Rows are cut and padded here, in the open, never inside the tokenizer.
        inner.with_truncation(None).map_err(|error| broken(error.to_string()))?;
        inner.with_padding(None);
        let largest = inner.get_vocab(true).into_values().max();
        let vocab_len = largest.map_or(0, |id| id as usize + 1);
        if vocab_len == 0 || vocab_len > MAX_VOCAB {
            let detail = format!("its vocabulary has {vocab_len} ids, wanted 1 to {MAX_VOCAB}");
            return Err(broken(detail));
        }
        let added = inner.get_added_tokens_decoder();
        let mut specials: Vec<String> = added
            .into_values()
            .filter(|token| token.special && !token.content.is_empty())
            .map(|token| token.content)
            .collect();
        specials.sort_unstable();
        let (before, after) = policy(&inner)?;
        Ok(Self {
            inner,
            plain: OnceLock::new(),
            specials,
            vocab_len,
            bos: before,
            eos: after,
            pad: None,
            adds_bos: before.is_some(),
            adds_eos: after.is_some(),
        })
    }

    /// The tokenizer of a GGUF vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError`] if the vocabulary contradicts itself or needs what is not known.
    pub fn from_vocab(spec: &VocabSpec) -> Result<Self, TokenizerError> {
        let mut tokenizer = Self::from_bytes(vocab::to_json(spec)?.to_string().as_bytes())?;
        tokenizer.bos = spec.bos;
        tokenizer.eos = spec.eos;
        tokenizer.pad = spec.pad;
        Ok(tokenizer)
    }

    /// This tokenizer with the special ids that `tokenizer_config.json` names.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownSpecial`] if the vocabulary lacks one of them.
    pub fn with_special_tokens(mut self, names: &SpecialTokens) -> Result<Self, TokenizerError> {
        let id = |role, token: &Option<String>, now| match token {
            None => Ok(now),
            Some(token) => self
                .token_id(token)
                .map(Some)
                .ok_or_else(|| TokenizerError::UnknownSpecial { role, token: token.clone() }),
        };
        let bos = id("bos", &names.bos_token, self.bos)?;
        let eos = id("eos", &names.eos_token, self.eos)?;
        let pad = id("pad", &names.pad_token, self.pad)?;
        (self.bos, self.eos, self.pad) = (bos, eos, pad);
        self.adds_bos = names.add_bos_token.unwrap_or(self.adds_bos);
        self.adds_eos = names.add_eos_token.unwrap_or(self.adds_eos);
        Ok(self)
    }

    /// Token ids of a text. Never puts a begin-of-text or end-of-text id of its own.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.encode_with_offsets(text, specials)?.ids)
    }

    /// Token ids of a text, each with its place in the text.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn encode_with_offsets(
        &self,
        text: &str,
        specials: Specials,
    ) -> Result<Encoded, TokenizerError> {
        let tokenizer = match specials {
            Specials::Parse => &self.inner,
            Specials::Plain => self.plain.get_or_init(|| {
                let mut plain = self.inner.clone();
                plain.set_encode_special_tokens(true);
                Box::new(plain)
            }),
        };
        let encoding = contain::contained(|| tokenizer.encode(text, false))?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets })
    }

    /// The text of token ids; with `skip_special`, without the special tokens among them.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        contain::contained(|| self.inner.decode(ids, skip_special))
    }

    /// A decoder that is fed one id at a time.
    #[must_use]
    pub fn stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }

    /// One more than the largest id.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.vocab_len
    }

    /// Id of the begin-of-text token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Id of the end-of-text (or end-of-turn) token.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Id of the padding token.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether a document of this tokenizer starts with the begin-of-text token.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos && self.bos.is_some()
    }

    /// Whether a document of this tokenizer ends with the end-of-text token even for inference.
    #[must_use]
    pub fn adds_eos(&self) -> bool {
        self.adds_eos && self.eos.is_some()
    }

    /// Texts of the special tokens, in ascending order.
    #[must_use]
    pub fn special_texts(&self) -> &[String] {
        &self.specials
    }

    /// The vocabulary's entry for an id, as it is stored (`Ġthe`, `▁the`, `<0x0A>`).
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a vocabulary entry.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The `tokenizer.json` of this tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Failed`] with the tokenizer's words.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(false).map_err(failed)
    }

    /// Writes the `tokenizer.json` of this tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokenizerError> {
        let io = |source| TokenizerError::Io { path: path.into(), source };
        std::fs::write(path, self.to_json()?).map_err(io)
    }

    /// Checks that an embedding of `n_rows` rows has one for every id.
    ///
    /// # Errors
    /// [`TokenizerError::TooManyIds`] if it has not.
    pub fn check_rows(&self, n_rows: usize) -> Result<(), TokenizerError> {
        if self.vocab_len > n_rows {
            return Err(TokenizerError::TooManyIds { ids: self.vocab_len, rows: n_rows });
        }
        Ok(())
    }
}

/// The ids that the tokenizer's own post-processing puts before and after a text.
fn policy(inner: &tokenizers::Tokenizer) -> Result<(Option<u32>, Option<u32>), TokenizerError> {
    let bare = contain::contained(|| inner.encode("a", false))?;
    let whole = contain::contained(|| inner.encode("a", true))?;
    let (bare, whole) = (bare.get_ids(), whole.get_ids());
    let before = whole.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
    let first = whole[..before].first().copied();
    let last = whole.get(before + bare.len()..).and_then(<[u32]>::last).copied();
    Ok((first, last))
}

fn failed(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Failed { detail: error.to_string() }
}
