//! One safetensors file, checked before a byte of its tensors is used.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use rekindle_quant::{ReadFile, floats};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{WeightSource, suspect};
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
    file: ReadFile,
    pub(super) tensors: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Opens the file and checks its header.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |error| ModelError::io(path, error);
        let file = ReadFile::open(path).map_err(io)?;
        let start = file.bytes(0..file.len().min(512)).map_err(io)?;
        suspect::refuse(path, &start)?;
        let header = header_len(path, &start, file.len())?;
        let header = file.bytes(0..8 + header).map_err(io)?;
        let tensors = entries(path, &header, file.len())?;
        Ok(Self { file, tensors })
    }

    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>, ModelError> {
        let bytes = self.file.bytes(entry.bytes.start as u64..entry.bytes.end as u64);
        bytes.map_err(|error| ModelError::io(self.path(), error))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }
}

impl WeightSource for SafetensorsFile {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|entry| entry.shape.clone())
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(ModelError::NoTensor { name: name.to_owned() });
        };
        let bytes = self.bytes(entry)?;
        match entry.dtype {
            Dtype::F32 => Ok(floats::from_f32(&bytes)),
            Dtype::F16 => Ok(floats::from_f16(&bytes)),
            Dtype::BF16 => Ok(floats::from_bf16(&bytes)),
            other => Err(ModelError::UnsupportedDtype {
                name: name.to_owned(),
                dtype: format!("{other:?}"),
            }),
        }
    }

    fn read(&self, name: &str) -> Result<TensorData, ModelError> {
        let stored = self.tensors.get(name).and_then(|entry| {
            // The files are little-endian, and so is the data only on such a machine.
            let dtype = match entry.dtype {
                Dtype::F16 if cfg!(target_endian = "little") => DType::F16,
                Dtype::BF16 if cfg!(target_endian = "little") => DType::BF16,
                _ => return None,
            };
            Some((entry, dtype))
        });
        let Some((entry, dtype)) = stored else {
            let shape = self.shape(name).unwrap_or_default();
            return Ok(TensorData::new(self.read_f32(name)?, shape));
        };
        Ok(TensorData::from_bytes_vec(self.bytes(entry)?, entry.shape.clone(), dtype))
    }

    fn describe(&self) -> String {
        format!("safetensors file `{}`", self.path().display())
    }
}

/// Checks the header of a file of `len` bytes, which begins with `head`, and returns its tensors.
fn entries(path: &Path, head: &[u8], len: u64) -> Result<BTreeMap<String, Entry>, ModelError> {
    let header = &head[8..];
    let bad = |reason: String| ModelError::BadSafetensors { path: path.to_owned(), reason };
    if let Some(reason) = no_header(header) {
        return Err(bad(reason.to_owned()));
    }
    let raw: RawHeader = serde_json::from_slice(header).map_err(|error| bad(error.to_string()))?;
    if let Some(name) = twice(&raw.0) {
        return Err(bad(format!("tensor `{name}` is in the header twice")));
    }
    let start = 8 + header.len();
    let mut sorted: Vec<&(String, RawTensor)> = raw.0.iter().collect();
    sorted.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let end = covered(&sorted).map_err(bad)?;
    let wanted = start as u64 + end;
    if len < wanted {
        return Err(ModelError::Truncated { path: path.to_owned(), found: len, wanted });
    }
    if len > wanted {
        let trailing = len - wanted;
        return Err(bad(format!("{trailing} bytes follow the last tensor; wanted none")));
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in raw.0 {
        let entry =
            tensor.entry(start).map_err(|reason| bad(format!("tensor `{name}`: {reason}")))?;
        tensors.insert(name, entry);
    }
    // The reference implementation has the last word.
    serde_json::from_slice::<Metadata>(header).map_err(|error| bad(error.to_string()))?;
    Ok(tensors)
}

/// The header's length, checked against the file's, which begins with `start`.
fn header_len(path: &Path, start: &[u8], len: u64) -> Result<u64, ModelError> {
    let path = path.to_owned();
    let Some(prefix) = start.first_chunk::<8>() else {
        return Err(ModelError::TooSmall { path, len });
    };
    let header = u64::from_le_bytes(*prefix);
    if header > HEADER_LIMIT {
        return Err(ModelError::HeaderTooLarge { path, header, limit: HEADER_LIMIT });
    }
    let wanted = 8 + header;
    if len < wanted {
        return Err(ModelError::Truncated { path, found: len, wanted });
    }
    Ok(header)
}

/// Whether the header can be read as text at all, and why not.
fn no_header(header: &[u8]) -> Option<&'static str> {
    if std::str::from_utf8(header).is_err() {
        return Some("the header is not UTF-8");
    }
    (!header.starts_with(b"{")).then_some("the header does not begin with `{`")
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
