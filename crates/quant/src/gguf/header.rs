//! Header, metadata and tensor table, checked against the file's length.

use std::collections::{BTreeMap, HashSet};

use super::reader::{Fault, Reader};
use super::{GgmlType, GgufError, TensorInfo, Value};
use crate::ReadFile;

/// Longest tensor name, as in ggml.
const MAX_NAME: usize = 64;
/// Longest metadata key, as the format's description has it.
const MAX_KEY: usize = u16::MAX as usize;
const DEFAULT_ALIGNMENT: u32 = 32;

pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: Vec<TensorInfo>,
}

/// A tensor's entry before its place is checked.
struct Entry {
    name: String,
    shape: Vec<usize>,
    elements: usize,
    code: u32,
    offset: u64,
}

pub(super) fn read(file: &ReadFile) -> Result<Header, GgufError> {
    let path = file.path();
    let damaged = |fault: Fault| match fault {
        Fault::Io(source) => GgufError::Io { path: path.to_owned(), source },
        Fault::Damaged(what) => GgufError::Damaged { path: path.to_owned(), what },
    };
    let start = file.bytes(0..file.len().min(4)).map_err(|error| damaged(error.into()))?;
    if start != b"GGUF" {
        let found = format!("`{}`", start.escape_ascii());
        return Err(GgufError::Magic { path: path.to_owned(), found });
    }
    let mut reader = Reader::new(file, 4);
    let version = reader.u32().map_err(damaged)?;
    if (1..=3).contains(&version.swap_bytes()) {
        return Err(GgufError::BigEndian { path: path.to_owned() });
    }
    if version != 2 && version != 3 {
        return Err(GgufError::Version { path: path.to_owned(), found: version });
    }
    // A tensor entry takes at least 24 bytes, a metadata entry at least 13.
    let n_tensors = reader.count("the number of tensors", 24).map_err(damaged)?;
    let n_keys = reader.count("the number of metadata keys", 13).map_err(damaged)?;
    let metadata = metadata(&mut reader, n_keys).map_err(damaged)?;
    let alignment = alignment(&metadata).map_err(damaged)?;
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..n_tensors {
        let entry = entry(&mut reader).map_err(damaged)?;
        if !names.insert(entry.name.clone()) {
            return Err(damaged(format!("tensor `{}` appears twice", entry.name).into()));
        }
        entries.push(entry);
    }
    let start = reader.position().next_multiple_of(alignment as usize);
    let mut tensors = Vec::new();
    for entry in entries {
        let kind = GgmlType::from_code(entry.code).ok_or_else(|| GgufError::TensorType {
            path: path.to_owned(),
            tensor: entry.name.clone(),
            code: entry.code,
            known: GgmlType::known_as(entry.code),
            supported: GgmlType::names(),
        })?;
        tensors.push(place(entry, kind, start, alignment, file.len() as usize).map_err(damaged)?);
    }
    no_overlap(&tensors).map_err(damaged)?;
    Ok(Header { metadata, tensors })
}

fn metadata(reader: &mut Reader<'_>, count: usize) -> Result<BTreeMap<String, Value>, Fault> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = reader.string("a metadata key")?;
        if key.is_empty() || key.len() > MAX_KEY {
            let len = key.len();
            return Err(
                format!("a metadata key has {len} bytes, but must have 1 to {MAX_KEY}").into()
            );
        }
        let value = reader.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata key `{key}` appears twice").into());
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u32, Fault> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(value)) if value.is_power_of_two() && (8..=1 << 16).contains(&value) => {
            Ok(value)
        }
        Some(other) => Err(format!(
            "`general.alignment` is {}, but must be a u32 and a power of two from 8 to 65536",
            other.describe()
        )
        .into()),
    }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, Fault> {
    let name = reader.string("a tensor's name")?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(
            format!("a tensor's name has {} bytes, but must have 1 to 64", name.len()).into()
        );
    }
    let n_dims = reader.u32()?;
    if !(1..=4).contains(&n_dims) {
        return Err(format!("tensor `{name}` has {n_dims} dimensions, but must have 1 to 4").into());
    }
    let mut shape = Vec::new();
    let mut elements = 1usize;
    for _ in 0..n_dims {
        let size = reader.u64()?;
        let product = usize::try_from(size).ok().filter(|&size| size > 0);
        let product = product.and_then(|size| elements.checked_mul(size));
        elements = product.filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| {
            format!("tensor `{name}` has a dimension of {size}, which is zero or too large")
        })?;
        shape.insert(0, size as usize);
    }
    Ok(Entry { name, shape, elements, code: reader.u32()?, offset: reader.u64()? })
}

fn place(
    entry: Entry,
    kind: GgmlType,
    start: usize,
    alignment: u32,
    file_len: usize,
) -> Result<TensorInfo, Fault> {
    let Entry { name, shape, elements, offset, .. } = entry;
    let row = shape.last().copied().unwrap_or(1);
    if row % kind.block_len() != 0 {
        return Err(format!(
            "tensor `{name}` has rows of {row}, but {kind:?} needs a multiple of {}",
            kind.block_len()
        )
        .into());
    }
    if offset % u64::from(alignment) != 0 {
        return Err(
            format!("tensor `{name}` lies at offset {offset}, not aligned to {alignment}").into()
        );
    }
    let len = elements / kind.block_len() * kind.block_bytes();
    let first = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(start));
    let range = first.and_then(|first| Some(first..first.checked_add(len)?));
    match range {
        Some(range) if range.end <= file_len => Ok(TensorInfo { name, shape, kind, range }),
        _ => Err(format!(
            "tensor `{name}` wants {len} bytes at offset {offset}, past the end of the file \
             ({file_len} bytes)"
        )
        .into()),
    }
}

fn no_overlap(tensors: &[TensorInfo]) -> Result<(), Fault> {
    let mut by_place: Vec<&TensorInfo> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.range.start);
    for pair in by_place.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            return Err(format!("tensors `{}` and `{}` overlap", pair[0].name, pair[1].name).into());
        }
    }
    Ok(())
}
