//! From a file to token batches: readers, chat templates, loss masks, loaders.
//!
//! A row of a file becomes a [`Record`] ([`read()`]), the record a [`Sample`] of token ids and a
//! mask of what is trained on ([`Renderer`]), and samples become a [`TokenBatch`] on a device
//! ([`collate()`]), in the order that a [`Loader`] draws from a seed and in the rows that it makes
//! of them ([`pack()`]). Each hop is one function.
//!
//! The crate knows no model and no loss, and no tensor before `collate`. It prints nothing, reads
//! no environment and fetches nothing: a fault of one row is a [`RowError`] with its place, a
//! fault of a whole file a [`DataError`] with its exit code.
//!
//! Start reading at [`read()`] and [`Renderer::render`].

pub mod record;
pub mod read;
pub mod tokenizer;
pub mod template;
pub mod render;
pub mod split;
mod order;
pub mod pack;
pub mod loader;
pub mod collate;
pub mod preview;
pub mod error;

/// A date and time without a zone, for [`ChatTemplate::with_now`].
pub use jiff::civil::DateTime;

pub use collate::{Padding, TokenBatch, collate};
pub use error::{DataError, NameList, ReasonCounts, Reject, RowError};
pub use loader::{Cursor, Layout, Loader, LoaderError, LoaderOptions, MicroBatch, Order};
pub use pack::pack;
pub use preview::{Style, preview};
pub use read::{
    Conversation, Format, Located, ReadOptions, ReadReport, UnknownFormatName, conversations, read,
};
pub use record::{Message, Record, Role};
pub use render::{
    LengthReport, LongRow, Pieces, RenderReport, Renderer, RowSample, Sample, TooLong,
    UnknownTooLongName,
};
pub use split::{Validation, split};
pub use template::{ChatTemplate, Rendered, TemplateError};
pub use tokenizer::{
    DecodeStream, Encoded, SpecialTokens, Specials, StopTexts, Tokenizer, TokenizerError,
    UnknownSpecialName, VocabModel, VocabSpec,
};
