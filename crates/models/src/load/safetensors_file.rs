//! One safetensors file, checked before a byte of its tensors is used.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use rekindle_quant::floats;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::map::MappedFile;
use super::suspect;
use crate::error::ModelError;

/// Bytes a header may have, as the safetensors crate allows.
const HEADER_LIMIT: u64 = 100_000_000;

/// A tensor's place in its file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) shape: Vec<usize>,
    dtype: Dtype,
    bytes: Range<usize>,
}

/// A checked safetensors file.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    map: MappedFile,
    pub(super) tensors: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Maps and checks the file.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let map = MappedFile::open(path)?;
        let tensors = entries(path, map.bytes()?)?;
        Ok(Self { map, tensors })
    }

    /// A tensor's values.
    pub(super) fn read_f32(&self, name: &str, entry: &Entry) -> Result<Vec<f32>, ModelError> {
        let bytes = &self.map.bytes()?[entry.bytes.clone()];
        match entry.dtype {
            Dtype::F32 => Ok(floats::from_f32(bytes)),
            Dtype::F16 => Ok(floats::from_f16(bytes)),
            Dtype::BF16 => Ok(floats::from_bf16(bytes)),
            other => Err(ModelError::UnsupportedDtype {
                name: name.to_owned(),
                dtype: format!("{other:?}"),
            }),
        }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        self.map.path()
    }
}

/// Checks a whole file and returns its tensors.
fn entries(path: &Path, file: &[u8]) -> Result<BTreeMap<String, Entry>, ModelError> {
    suspect::refuse(path, &file[..file.len().min(512)])?;
    let header = header(path, file)?;
    let bad = |reason: String| ModelError::BadSafetensors { path: path.to_owned(), reason };
    let raw: RawHeader = serde_json::from_slice(header).map_err(|error| bad(error.to_string()))?;
    if let Some(name) = twice(&raw.0) {
        return Err(bad(format!("tensor `{name}` is in the header twice")));
    }
    let start = 8 + header.len();
    let mut sorted: Vec<&(String, RawTensor)> = raw.0.iter().collect();
    sorted.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let end = covered(&sorted).map_err(bad)?;
    let wanted = start as u64 + end;
    if (file.len() as u64) < wanted {
        let (path, found) = (path.to_owned(), file.len() as u64);
        return Err(ModelError::Truncated { path, found, wanted });
    }
    if file.len() as u64 > wanted {
        let trailing = file.len() as u64 - wanted;
        return Err(bad(format!("{trailing} bytes follow the last tensor; wanted none")));
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in raw.0 {
        let entry =
            tensor.entry(start).map_err(|reason| bad(format!("tensor `{name}`: {reason}")))?;
        tensors.insert(name, entry);
    }
    // The reference implementation has the last word.
    SafeTensors::read_metadata(file).map_err(|error| bad(error.to_string()))?;
    Ok(tensors)
}

/// The header's text, its length checked against the file's.
fn header<'a>(path: &Path, file: &'a [u8]) -> Result<&'a [u8], ModelError> {
    let len = file.len() as u64;
    let Some((prefix, rest)) = file.split_first_chunk::<8>() else {
        return Err(ModelError::TooSmall { path: path.to_owned(), len });
    };
    let header = u64::from_le_bytes(*prefix);
    if header > HEADER_LIMIT {
        let path = path.to_owned();
        return Err(ModelError::HeaderTooLarge { path, header, limit: HEADER_LIMIT });
    }
    let Some(text) = rest.get(..header as usize) else {
        return Err(ModelError::Truncated {
            path: path.to_owned(),
            found: len,
            wanted: 8 + header,
        });
    };
    let bad = |reason: &str| {
        let reason = reason.to_owned();
        Err(ModelError::BadSafetensors { path: path.to_owned(), reason })
    };
    if std::str::from_utf8(text).is_err() {
        return bad("the header is not UTF-8");
    }
    if !text.starts_with(b"{") {
        return bad("the header does not begin with `{`");
    }
    Ok(text)
}

/// The first name that comes a second time; JSON parsers keep the last without a word.
fn twice(tensors: &[(String, RawTensor)]) -> Option<&str> {
    let mut seen = HashSet::new();
    tensors.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
}

/// Where the last tensor ends, once `sorted` is known to leave no hole and to share no byte.
fn covered(sorted: &[&(String, RawTensor)]) -> Result<u64, String> {
    let mut end = 0;
    for (name, RawTensor { data_offsets: (from, to), .. }) in sorted {
        if to < from {
            return Err(format!("tensor `{name}` ends at {to}, before its start at {from}"));
        }
        if *from < end {
            return Err(format!(
                "tensor `{name}` overlaps the one before it: it starts at {from}, that one ends \
                 at {end}"
            ));
        }
        if *from > end {
            return Err(format!("a hole before tensor `{name}`: bytes {end} to {from} are unused"));
        }
        end = *to;
    }
    // A file cannot be that long, and no sum with the header's length may overflow.
    if end > i64::MAX as u64 - HEADER_LIMIT - 8 {
        return Err(format!("the tensors claim {end} bytes"));
    }
    Ok(end)
}

/// A tensor as the header states it.
#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    /// The tensor's place, once its shape, format and span agree.
    fn entry(self, start: usize) -> Result<Entry, String> {
        let Self { dtype, shape, data_offsets: (from, to) } = self;
        let dtype: Dtype = serde_json::from_value(dtype.clone().into())
            .map_err(|_| format!("unknown number format `{dtype}`"))?;
        let bits = shape
            .iter()
            .try_fold(1, |product: u64, &dim| product.checked_mul(dim))
            .and_then(|elements| elements.checked_mul(dtype.bitsize() as u64))
            .ok_or_else(|| format!("shape {shape:?} overflows"))?;
        let span = to - from;
        if bits % 8 != 0 || bits / 8 != span {
            return Err(format!(
                "shape {shape:?} of {dtype:?} needs {bits} bits, the header gives it {span} bytes"
            ));
        }
        let shape = shape.into_iter().map(|dim| dim as usize).collect();
        Ok(Entry { shape, dtype, bytes: start + from as usize..start + to as usize })
    }
}

/// The header's tensors in the order they are written, duplicates and all.
struct RawHeader(Vec<(String, RawTensor)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let tensor = map
                .next_value()
                .map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
            tensors.push((name, tensor));
        }
        Ok(RawHeader(tensors))
    }
}
