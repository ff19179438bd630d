//! Tensors of a checkpoint, to safetensors and back.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::TRAINABLE;
use super::disk::{Disk, io_error, write_new};
use crate::CheckpointError;
use crate::params::{ParamSpec, replace_trainable, trainable_specs};

/// Writes the trainable parameters, bit for bit in their own types.
pub(super) fn save_weights(
    disk: &dyn Disk,
    path: &Path,
    weights: Vec<(String, TensorData)>,
) -> Result<(), CheckpointError> {
    let mut stored = Vec::with_capacity(weights.len());
    for (name, data) in weights {
        stored.push((name, Stored::new(data)?));
    }
    save(disk, path, stored, None)
}

/// Loads `trainable.safetensors` below `path`, which was verified, into `policy`.
pub(crate) fn load_weights<M: Module>(policy: M, path: &Path) -> Result<M, CheckpointError> {
    let bytes = read(path, TRAINABLE)?;
    let file = parse(path, TRAINABLE, &bytes)?;
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for spec in trainable_specs(&policy) {
        check(&file, &spec.path, &spec, &mut problems);
        known.insert(spec.path);
    }
    let mut strangers: Vec<_> =
        file.names().into_iter().filter(|name| !known.contains(*name)).collect();
    strangers.sort_unstable();
    problems.extend(strangers.iter().map(|name| format!("`{name}` is unexpected")));
    fits(path, problems)?;
    Ok(replace_trainable(policy, |name| data(&file, name)))
}

pub(super) fn check(
    file: &SafeTensors<'_>,
    name: &str,
    wanted: &ParamSpec,
    problems: &mut Vec<String>,
) {
    let Ok(view) = file.tensor(name) else {
        problems.push(format!("`{name}` is missing"));
        return;
    };
    let dtype = to_safetensors(wanted.dtype);
    if view.shape() != wanted.shape || Some(view.dtype()) != dtype {
        problems.push(format!(
            "`{name}` is {:?} {:?} instead of {:?} {:?}",
            view.dtype(),
            view.shape(),
            wanted.dtype,
            wanted.shape
        ));
    }
}

pub(super) fn fits(path: &Path, problems: Vec<String>) -> Result<(), CheckpointError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::Mismatch { path: path.to_path_buf(), problems })
}

pub(super) fn data(file: &SafeTensors<'_>, name: &str) -> Option<TensorData> {
    let view = file.tensor(name).ok()?;
    let dtype = to_burn(view.dtype())?;
    TensorData::try_from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype).ok()
}

/// A tensor on the host, as safetensors sees it.
pub(super) struct Stored {
    dtype: Dtype,
    data: TensorData,
}

impl Stored {
    pub fn new(data: TensorData) -> Result<Self, CheckpointError> {
        let dtype = data.dtype();
        let stored = to_safetensors(dtype).ok_or_else(|| CheckpointError::Tensor {
            cause: format!("safetensors has no type for `{dtype:?}`; use f32, f16 or bf16"),
        })?;
        Ok(Self { dtype: stored, data })
    }
}

/// The header's length stands before it in so many bytes, and is a multiple of them.
const ALIGNMENT: usize = 8;

/// Writes safetensors as the library does, piece by piece and through `disk`.
pub(super) fn save(
    disk: &dyn Disk,
    path: &Path,
    mut tensors: Vec<(String, Stored)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), CheckpointError> {
    // Wide types first, so that all data are aligned; then by name.
    tensors.sort_by(|(a, left), (b, right)| right.dtype.cmp(&left.dtype).then(a.cmp(b)));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, Stored { dtype, data })| {
        let start = end;
        end += data.as_bytes().len();
        let shape = data.shape().as_slice().to_vec();
        (name.clone(), TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) })
    });
    let infos = infos.collect();
    let header = Metadata::new(metadata, infos).map_err(|error| unsaved(&error))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| unsaved(&error))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    write_new(disk, path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, stored)| out.write_all(stored.data.as_bytes()))
    })
}

pub(super) fn read(path: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let file = path.join(name);
    fs::read(&file).map_err(|cause| io_error("read", &file, cause))
}

pub(super) fn parse<'a>(
    path: &Path,
    name: &str,
    bytes: &'a [u8],
) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Damaged {
        path: path.to_path_buf(),
        problems: vec![format!("`{name}` is not safetensors: {error}")],
    })
}

pub(super) fn unsaved(error: &dyn std::error::Error) -> CheckpointError {
    CheckpointError::Tensor { cause: error.to_string() }
}

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        _ => return None,
    })
}

fn to_burn(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}
