//! The optimizer's state of a checkpoint, to safetensors and back, for every method.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, TensorData};
use safetensors::SafeTensors;

use super::OPTIMIZER;
use super::disk::Disk;
use super::tensors::{Stored, check, data, parse, read, save, unsaved};
use crate::optimizer::{ParamState, Slot, StateTensor};
use crate::params::{ParamSpec, trainable_specs};
use crate::{CheckpointError, Optimizer};

/// The file's metadata entry that names the method.
const METHOD: &str = "method";
/// The suffix of the count of updates, i64, shape `[1]`.
const STEPS: &str = "steps";

/// Writes every parameter's tensors under its path and their names, with its count of updates.
pub(super) fn save_state(
    disk: &dyn Disk,
    path: &Path,
    optimizer: &Optimizer,
) -> Result<(), CheckpointError> {
    let mut stored = Vec::new();
    for (name, state) in &optimizer.states {
        for (slot, tensor) in state.slots.iter().zip(&state.tensors) {
            let data = tensor.to_data().map_err(|error| unsaved(&error))?;
            let data = reshaped(data, &slot.shape).map_err(|error| unsaved(&*error))?;
            stored.push((format!("{name}.{}", slot.name), Stored::new(data)?));
        }
        let steps = i64::try_from(state.steps).unwrap_or(i64::MAX);
        let steps = Stored::new(TensorData::new(vec![steps], [1]))?;
        stored.push((format!("{name}.{STEPS}"), steps));
    }
    let method = HashMap::from([(METHOD.to_owned(), optimizer.method().name().to_owned())]);
    save(disk, path, stored, Some(method))
}

/// Loads `optimizer.safetensors` below `path`, which was verified, for the parameters of `policy`.
///
/// A parameter without any tensor is one that never had a gradient.
pub(crate) fn load_state<M: Module>(
    policy: &M,
    optimizer: &Optimizer,
    path: &Path,
) -> Result<BTreeMap<String, ParamState>, CheckpointError> {
    let bytes = read(path, OPTIMIZER)?;
    let file = parse(path, OPTIMIZER, &bytes)?;
    let saved = method_of(&bytes);
    let wanted = optimizer.method().name();
    let mut problems = Vec::new();
    if saved != wanted {
        problems.push("they keep other tensors".to_owned());
    }
    let mut strangers: BTreeSet<_> = file.names().into_iter().map(str::to_owned).collect();
    let mut states = BTreeMap::new();
    for spec in trainable_specs(policy) {
        let slots = optimizer.slots(&spec.path, &spec.shape);
        let names: Vec<_> = tensor_names(&spec.path, &slots).collect();
        if names.iter().all(|name| file.tensor(name).is_err()) {
            continue;
        }
        strangers.retain(|name| !names.contains(name));
        check_all(&file, &spec, &slots, &mut problems);
        if problems.is_empty()
            && let Some(state) = load_one(&file, &spec.path, slots)
        {
            states.insert(spec.path, state);
        }
    }
    problems.extend(strangers.iter().map(|name| format!("`{name}` is unexpected")));
    if problems.is_empty() {
        move_to_device(policy, optimizer, &mut states);
        return Ok(states);
    }
    Err(CheckpointError::OptimizerMismatch { path: path.to_path_buf(), saved, wanted, problems })
}

/// The method named in the file's metadata.
fn method_of(bytes: &[u8]) -> String {
    let named = SafeTensors::read_metadata(bytes).ok().and_then(|(_, header)| {
        header.metadata().as_ref().and_then(|metadata| metadata.get(METHOD)).cloned()
    });
    named.unwrap_or_else(|| "an unnamed method".to_owned())
}

/// The names of a parameter's tensors, that of its count last.
fn tensor_names<'a>(path: &'a str, slots: &'a [Slot]) -> impl Iterator<Item = String> + 'a {
    let names = slots.iter().map(|slot| slot.name);
    names.chain([STEPS]).map(move |name| format!("{path}.{name}"))
}

fn check_all(file: &SafeTensors<'_>, spec: &ParamSpec, slots: &[Slot], problems: &mut Vec<String>) {
    let count = Slot { name: STEPS, shape: vec![1], dtype: DType::I64 };
    for slot in slots.iter().chain([&count]) {
        let name = format!("{}.{}", spec.path, slot.name);
        let wanted = ParamSpec { path: name.clone(), shape: slot.shape.clone(), dtype: slot.dtype };
        check(file, &name, &wanted, problems);
    }
}

/// The state of one parameter, on the host; its tensors were checked.
fn load_one(file: &SafeTensors<'_>, path: &str, slots: Vec<Slot>) -> Option<ParamState> {
    let steps = data(file, &format!("{path}.{STEPS}"))?.iter::<i64>().next()?;
    let tensor = |slot: &Slot| {
        let data = data(file, &format!("{path}.{}", slot.name))?;
        reshaped(data, &[slot.elements()]).ok().map(StateTensor::Host)
    };
    let tensors = slots.iter().map(tensor).collect::<Option<_>>()?;
    Some(ParamState { steps: u64::try_from(steps).unwrap_or(0), slots, tensors })
}

/// Uploads the states, unless they are to stay on the host.
fn move_to_device<M: Module>(
    policy: &M,
    optimizer: &Optimizer,
    states: &mut BTreeMap<String, ParamState>,
) {
    let device = policy.devices().first().map(|device| device.clone().inner());
    let Some(device) = device.filter(|_| !optimizer.offload()) else { return };
    for state in states.values_mut() {
        let tensors = std::mem::take(&mut state.tensors);
        state.tensors = tensors.into_iter().map(|tensor| tensor.on(&device)).collect();
    }
}

fn reshaped(data: TensorData, shape: &[usize]) -> Result<TensorData, Box<dyn std::error::Error>> {
    let dtype = data.dtype();
    Ok(TensorData::try_from_bytes(data.into_bytes(), shape.to_vec(), dtype)?)
}
