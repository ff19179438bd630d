//! Optimizers: one update of every parameter that has a gradient, with state by module path.
//!
//! A method's settings and formula stand in a file of their own below; [`ParamGroups`] says which
//! parameters have another learning rate or weight decay; the state is a count of updates and
//! named tensors for each parameter, on the device or, with `offload`, on the host.

mod adafactor;
mod adamw;
mod adamw_8bit;
mod block_quantization;
mod groups;
mod lion;
mod method;
mod muon;
mod sgd;
mod state;
mod update;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};

use crate::OptimizerError;
use crate::clip::in_f32;
use crate::params::{ModulePath, leaf, trainable_specs};

pub use adafactor::Adafactor;
pub use adamw::AdamW;
pub use adamw_8bit::AdamW8bit;
pub use groups::{LoraPlus, ParamGroup, ParamGroups, PathPattern};
pub use lion::Lion;
pub use method::OptimizerMethod;
pub use muon::{AdjustLearningRate, Muon};
pub use sgd::Sgd;

use block_quantization::Codebooks;
use update::ParamUpdate;

pub(crate) use state::{ParamState, Slot, StateTensor};

/// A method, its parameter groups and its state.
///
/// The state has the types its method states, on the parameter's plain device, whatever type the
/// parameter has; an update is computed in f32 and rounded to the parameter's type. Parameters
/// without a gradient are left alone and get no state, as in PyTorch.
#[derive(Debug, Clone)]
pub struct Optimizer {
    method: OptimizerMethod,
    groups: ParamGroups,
    offload: bool,
    pub(crate) states: BTreeMap<String, ParamState>,
    codebooks: Codebooks,
}

impl Optimizer {
    /// The method for all parameters alike, without state, on the device.
    pub fn new(method: impl Into<OptimizerMethod>) -> Self {
        Self {
            method: method.into(),
            groups: ParamGroups::default(),
            offload: false,
            states: BTreeMap::new(),
            codebooks: Codebooks::default(),
        }
    }

    /// The same with parameter groups.
    pub fn with_groups(self, groups: ParamGroups) -> Self {
        Self { groups, ..self }
    }

    /// The same with its state on the host between updates, if `offload`.
    ///
    /// One parameter's state at a time is brought to the device, updated and read back, so the
    /// numbers are the same bit for bit; each update waits for the device.
    pub fn with_offload(self, offload: bool) -> Self {
        Self { offload, ..self }
    }

    /// The method and its settings.
    pub fn method(&self) -> &OptimizerMethod {
        &self.method
    }

    /// Whether the state is on the host between updates.
    pub fn offload(&self) -> bool {
        self.offload
    }

    /// Checks the groups against the trainable parameters of `policy`.
    ///
    /// # Errors
    /// [`OptimizerError::UnmatchedGroup`] for a group that is no parameter's first match.
    pub fn check<M: Module>(&self, policy: &M) -> Result<(), OptimizerError> {
        let paths: Vec<_> = trainable_specs(policy).into_iter().map(|spec| spec.path).collect();
        self.groups.check(&paths)
    }

    /// Bytes of the state of a parameter `[shape]` at module path `path`, wherever it is kept.
    pub fn state_bytes(&self, path: &str, shape: &[usize]) -> usize {
        self.slots(path, shape).iter().map(|slot| slot.elements() * slot.dtype.size()).sum()
    }

    /// One update of every parameter that has a gradient, at learning rate `lr`.
    ///
    /// Updated parameters keep their identity and stay leaves that require their gradient.
    pub fn step<M: Module>(&mut self, lr: f64, policy: M, grads: GradientsParams) -> M {
        policy.map(&mut Update { optimizer: self, path: ModulePath::default(), grads, lr })
    }

    /// What the state of one parameter consists of.
    pub(crate) fn slots(&self, path: &str, shape: &[usize]) -> Vec<Slot> {
        self.method.rule(path, shape).slots(shape)
    }

    /// The new flat value of one parameter; `grad` and `value` are flat, plain and f32.
    fn update(
        &mut self,
        lr: f64,
        path: String,
        shape: &[usize],
        value: Tensor<1>,
        grad: Tensor<1>,
    ) -> Tensor<1> {
        let rule = self.method.rule(&path, shape);
        let device = value.device();
        // The old state is taken out, not cloned: a tensor with one owner is updated in place.
        let old = self.states.remove(&path);
        let old = old.unwrap_or_else(|| ParamState::zeros(rule.slots(shape), &device));
        let steps = old.steps + 1;
        let slots = old.slots;
        let tensors = old.tensors.into_iter().map(|tensor| tensor.on(&device)).collect();
        let choice = self.groups.choose(&path, shape);
        let (updated, tensors) = rule.update(
            ParamUpdate {
                lr: lr * choice.lr_factor * self.method.lr_factor(&path, shape),
                weight_decay: choice.weight_decay.unwrap_or_else(|| rule.weight_decay()),
                steps,
                shape,
                value,
                grad,
                codebooks: &mut self.codebooks,
            },
            tensors,
        );
        let tensors = match self.offload {
            true => tensors.into_iter().map(StateTensor::on_host).collect(),
            false => tensors,
        };
        self.states.insert(path, ParamState { steps, slots, tensors });
        updated
    }
}

impl<T: Into<OptimizerMethod>> From<T> for Optimizer {
    fn from(method: T) -> Self {
        Self::new(method)
    }
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    path: ModulePath,
    grads: GradientsParams,
    lr: f64,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else { return param };
        let path = self.path.dotted();
        param.map(|old| {
            let (shape, dtype) = (old.dims(), old.dtype());
            let strategy = old.gradient_checkpointing_strategy();
            let elements = shape.iter().product::<usize>();
            let value = in_f32(old.inner()).reshape([elements]);
            let grad = in_f32(grad).reshape([elements]);
            let updated = self.optimizer.update(self.lr, path, &shape, value, grad).reshape(shape);
            leaf(in_dtype(updated, dtype), strategy)
        })
    }
}

fn in_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        DType::F32 => tensor,
        _ => tensor.cast(FloatDType::from(dtype)),
    }
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod peers;
