//! A moving average of the trained weights.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor};

use crate::clip::in_f32;
use crate::params::{ModulePath, leaf};

/// An exponential moving average of the trained weights: `e ← d · e + (1 − d) · θ` after every
/// update, from the weights before the first one.
///
/// Polyak & Juditsky 1992 with constant decay `d`, as in Tarvainen & Valpola 2017
/// (arXiv:1703.01780), eq. 1. Averages are f32, on the weights' plain device.
#[derive(Clone, Debug)]
pub struct Ema {
    decay: f64,
    /// Flat averages with their weights' shapes, by module path.
    pub(crate) averages: BTreeMap<String, (Tensor<1>, Vec<usize>)>,
}

impl Ema {
    /// An average that starts at the trained weights of `policy`; `decay` in \[0, 1).
    pub fn new<M: Module>(decay: f64, policy: &M) -> Self {
        let mut ema = Self { decay, averages: BTreeMap::new() };
        ema.visit(policy, |_, value| value);
        ema
    }

    /// What a checkpoint held; its decay is the plan's.
    pub(crate) fn of(averages: BTreeMap<String, (Tensor<1>, Vec<usize>)>) -> Self {
        Self { decay: 0.0, averages }
    }

    /// The same with another decay from here on.
    pub(crate) fn decaying(self, decay: f64) -> Self {
        Self { decay, ..self }
    }

    /// Takes in the weights of `policy` after an update.
    pub fn update<M: Module>(&mut self, policy: &M) {
        let decay = self.decay;
        self.visit(policy, |old, value| match old {
            Some(old) => old.mul_scalar(decay) + value.mul_scalar(1.0 - decay),
            None => value,
        });
    }

    /// `policy` with the averages in place of its trained weights, to be measured or exported.
    pub fn applied<M: Module>(&self, policy: M) -> M {
        policy.map(&mut Apply { ema: self, path: ModulePath::default() })
    }

    fn visit<M: Module>(
        &mut self,
        policy: &M,
        average: impl Fn(Option<Tensor<1>>, Tensor<1>) -> Tensor<1>,
    ) {
        let averages = &mut self.averages;
        policy.visit(&mut Average { averages, average, path: ModulePath::default() });
    }
}

struct Average<'a, F> {
    averages: &'a mut BTreeMap<String, (Tensor<1>, Vec<usize>)>,
    average: F,
    path: ModulePath,
}

impl<F: Fn(Option<Tensor<1>>, Tensor<1>) -> Tensor<1>> ModuleVisitor for Average<'_, F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val().inner();
        let shape = value.dims().to_vec();
        let value = in_f32(value).reshape([shape.iter().product::<usize>()]);
        let path = self.path.dotted();
        // The old average is taken out: a tensor with one owner is updated in place.
        let old = self.averages.remove(&path).map(|(old, _)| old);
        self.averages.insert(path, ((self.average)(old, value), shape));
    }
}

struct Apply<'a> {
    ema: &'a Ema,
    path: ModulePath,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((average, _)) = self.ema.averages.get(&self.path.dotted()) else { return param };
        let average = average.clone();
        param.map(|old| {
            let average: Tensor<D> = average.reshape(old.dims());
            let average = match old.dtype() {
                DType::F32 => average,
                dtype => average.cast(FloatDType::from(dtype)),
            };
            leaf(average, old.gradient_checkpointing_strategy())
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use rekindle_testkit::{assert_close, device};

    use super::*;

    #[derive(Module, Debug)]
    struct One {
        weight: Param<Tensor<1>>,
        frozen: Param<Tensor<1>>,
    }

    fn one(value: f32) -> One {
        let tensor = |value: f32| Tensor::from_floats([value, -value], &device().autodiff());
        let frozen = Param::from_tensor(tensor(7.0)).set_require_grad(false);
        One { weight: Param::from_tensor(tensor(value)), frozen }
    }

    fn floats(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_average_is_the_closed_form_over_the_updates() {
        let mut ema = Ema::new(0.9, &one(1.0));
        for value in [2.0, 4.0, 8.0] {
            ema.update(&one(value));
        }
        // 0.9³·1 + 0.1·(0.9²·2 + 0.9·4 + 8)
        let wanted = 0.729 + 0.1 * (0.81 * 2.0 + 0.9 * 4.0 + 8.0);
        let averaged = ema.applied(one(8.0));
        assert_close(&floats(averaged.weight.val()), &[wanted, -wanted], 1e-6, 0.0);
        assert!(averaged.weight.is_require_grad());
        assert_eq!(floats(averaged.frozen.val()), [7.0, -7.0]);
        assert_eq!(ema.averages.len(), 1, "what is frozen is not averaged");
    }
}
