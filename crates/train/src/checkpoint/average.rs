//! The average of the trained weights in a checkpoint, to safetensors and back.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData};

use super::AVERAGE;
use super::disk::Disk;
use super::tensors::{Stored, check, data, fits, parse, read, save, unsaved};
use crate::params::{ParamSpec, trainable_specs};
use crate::{CheckpointError, Ema};

/// Writes the averages under their weights' paths, in f32; without an average, a file of no tensor.
pub(super) fn save_average(
    disk: &dyn Disk,
    path: &Path,
    ema: Option<&Ema>,
) -> Result<(), CheckpointError> {
    let mut stored = Vec::new();
    for (name, (average, shape)) in ema.iter().flat_map(|ema| &ema.averages) {
        let data = average.try_to_data().map_err(|error| unsaved(&error))?;
        let data = TensorData::try_from_bytes(data.into_bytes(), shape.clone(), DType::F32)
            .map_err(|error| unsaved(&error))?;
        stored.push((name.clone(), Stored::new(data)?));
    }
    save(disk, path, stored, None)
}

/// Loads `average.safetensors` below `path`, which was verified, for the parameters of `policy`;
/// `None` if the run had no average.
pub(crate) fn load_average<M: Module>(
    policy: &M,
    path: &Path,
) -> Result<Option<Ema>, CheckpointError> {
    let bytes = read(path, AVERAGE)?;
    let file = parse(path, AVERAGE, &bytes)?;
    if file.is_empty() {
        return Ok(None);
    }
    let device = policy.devices().first().map(|device| device.clone().inner());
    let mut problems = Vec::new();
    let mut averages = BTreeMap::new();
    let specs = trainable_specs(policy);
    let count = specs.len();
    for spec in specs {
        let wanted = ParamSpec { dtype: DType::F32, ..spec };
        check(&file, &wanted.path, &wanted, &mut problems);
        let flat = data(&file, &wanted.path).and_then(|data| {
            let elements = data.num_elements();
            TensorData::try_from_bytes(data.into_bytes(), [elements], DType::F32).ok()
        });
        if let (true, Some(flat), Some(device)) = (problems.is_empty(), flat, &device) {
            let average = Tensor::from_data(flat, (device, DType::F32));
            averages.insert(wanted.path, (average, wanted.shape));
        }
    }
    if problems.is_empty() && file.len() != count {
        problems.push(format!("`{AVERAGE}` has {} tensors instead of {count}", file.len()));
    }
    fits(path, problems)?;
    Ok(Some(Ema::of(averages)))
}
