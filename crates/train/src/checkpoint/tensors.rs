//! Tensors of a checkpoint, to safetensors and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use super::disk::{io_error, sync_file};
use super::{OPTIMIZER, TRAINABLE};
use crate::optimizer::Moments;
use crate::params::{ParamSpec, replace_trainable, trainable_specs};
use crate::{AdamW, CheckpointError};

/// Writes the trainable parameters, bit for bit in their own types.
pub(super) fn save_weights(
    path: &Path,
    weights: Vec<(String, TensorData)>,
) -> Result<(), CheckpointError> {
    let mut stored = Vec::with_capacity(weights.len());
    for (name, data) in weights {
        stored.push((name, Stored::new(data)?));
    }
    save(path, stored)
}

/// Writes the optimizer's state: `path.m` and `path.v` in f32, `path.steps` in i64.
pub(super) fn save_moments(path: &Path, optimizer: &AdamW) -> Result<(), CheckpointError> {
    let mut stored = Vec::with_capacity(3 * optimizer.moments.len());
    for (name, Moments { m, v, shape, steps }) in &optimizer.moments {
        for (suffix, tensor) in [("m", m), ("v", v)] {
            let data = tensor.try_to_data().map_err(|error| unsaved(&error))?;
            let data = TensorData::try_from_bytes(data.into_bytes(), shape.clone(), DType::F32)
                .map_err(|error| unsaved(&error))?;
            stored.push((format!("{name}.{suffix}"), Stored::new(data)?));
        }
        let steps = i64::try_from(*steps).unwrap_or(i64::MAX);
        let steps = TensorData::new(vec![steps], [1]);
        stored.push((format!("{name}.steps"), Stored { dtype: Dtype::I64, data: steps }));
    }
    save(path, stored)
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

/// Loads `optimizer.safetensors` below `path`, which was verified, for the parameters of `policy`.
///
/// A parameter without state is one that never had a gradient.
pub(crate) fn load_moments<M: Module>(
    policy: &M,
    path: &Path,
) -> Result<BTreeMap<String, Moments>, CheckpointError> {
    let bytes = read(path, OPTIMIZER)?;
    let file = parse(path, OPTIMIZER, &bytes)?;
    let device = policy.devices().first().map(|device| device.clone().inner());
    let mut problems = Vec::new();
    let mut moments = BTreeMap::new();
    let mut used = 0;
    for spec in trainable_specs(policy) {
        let [m, v, steps] = ["m", "v", "steps"].map(|suffix| format!("{}.{suffix}", spec.path));
        if [&m, &v, &steps].iter().all(|name| file.tensor(name).is_err()) {
            continue;
        }
        used += 3;
        let state = ParamSpec { dtype: DType::F32, ..spec.clone() };
        check(&file, &m, &state, &mut problems);
        check(&file, &v, &state, &mut problems);
        let count = ParamSpec { shape: vec![1], dtype: DType::I64, ..spec.clone() };
        check(&file, &steps, &count, &mut problems);
        if let (true, Some(device)) = (problems.is_empty(), &device) {
            let steps = data(&file, &steps).and_then(|it| it.iter::<i64>().next()).unwrap_or(0);
            let moment = |name: &str| flat(&file, name, device);
            if let (Some(m), Some(v)) = (moment(&m), moment(&v)) {
                let steps = u64::try_from(steps).unwrap_or(0);
                moments.insert(spec.path, Moments { m, v, shape: spec.shape, steps });
            }
        }
    }
    if problems.is_empty() && file.len() != used {
        problems.push(format!("`{OPTIMIZER}` has {} tensors instead of {used}", file.len()));
    }
    fits(path, problems)?;
    Ok(moments)
}

fn check(file: &SafeTensors<'_>, name: &str, wanted: &ParamSpec, problems: &mut Vec<String>) {
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

fn fits(path: &Path, problems: Vec<String>) -> Result<(), CheckpointError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::Mismatch { path: path.to_path_buf(), problems })
}

fn flat(file: &SafeTensors<'_>, name: &str, device: &Device) -> Option<Tensor<1>> {
    let data = data(file, name)?;
    let elements = data.num_elements();
    let data = TensorData::try_from_bytes(data.into_bytes(), [elements], DType::F32).ok()?;
    Some(Tensor::from_data(data, (device, DType::F32)))
}

fn data(file: &SafeTensors<'_>, name: &str) -> Option<TensorData> {
    let view = file.tensor(name).ok()?;
    let dtype = to_burn(view.dtype())?;
    TensorData::try_from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype).ok()
}

/// A tensor on the host, as safetensors sees it.
struct Stored {
    dtype: Dtype,
    data: TensorData,
}

impl Stored {
    fn new(data: TensorData) -> Result<Self, CheckpointError> {
        let dtype = data.dtype();
        let stored = to_safetensors(dtype).ok_or_else(|| CheckpointError::Tensor {
            cause: format!("safetensors has no type for `{dtype:?}`; use f32, f16 or bf16"),
        })?;
        Ok(Self { dtype: stored, data })
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.data.shape().as_slice()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.data.as_bytes().len()
    }
}

fn save(path: &Path, tensors: Vec<(String, Stored)>) -> Result<(), CheckpointError> {
    safetensors::serialize_to_file(tensors, None, path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(cause) => io_error("write", path, cause),
        other => unsaved(&other),
    })?;
    sync_file(path)
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let file = path.join(name);
    fs::read(&file).map_err(|cause| io_error("read", &file, cause))
}

fn parse<'a>(path: &Path, name: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Damaged {
        path: path.to_path_buf(),
        problems: vec![format!("`{name}` is not safetensors: {error}")],
    })
}

fn unsaved(error: &dyn std::error::Error) -> CheckpointError {
    CheckpointError::Tensor { cause: error.to_string() }
}

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
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
        _ => return None,
    })
}
