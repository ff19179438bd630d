//! AdamW with f32 state, keyed by module path.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};

use crate::clip::in_f32;
use crate::params::{ModulePath, leaf};

/// Adam with decoupled weight decay.
///
/// m ← β₁·m + (1 − β₁)·g and v ← β₂·v + (1 − β₂)·g²;
/// θ ← θ − η·λ·θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, as `torch.optim.AdamW` departs from
/// it: the decay is multiplied by the learning rate η, there is no other schedule multiplier, and
/// the decay comes before the gradient step.
///
/// The state is f32 on the parameter's plain device, whatever type the parameter has; the update
/// is computed in f32 and rounded to the parameter's type. Parameters without a gradient are left
/// alone and get no state, as in PyTorch.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// β₁, the decay of the mean of gradients.
    pub beta1: f64,
    /// β₂, the decay of the mean of squared gradients.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub epsilon: f64,
    /// λ, the decoupled weight decay.
    pub weight_decay: f64,
    pub(crate) moments: BTreeMap<String, Moments>,
}

/// The state of one parameter.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    /// First moment, flattened.
    pub m: Tensor<1>,
    /// Second moment, flattened.
    pub v: Tensor<1>,
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// Updates so far.
    pub steps: u64,
}

impl Default for AdamW {
    /// PyTorch's defaults: β = (0.9, 0.999), ε = 1e-8, λ = 1e-2.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-2,
            moments: BTreeMap::new(),
        }
    }
}

impl AdamW {
    /// One update of every parameter that has a gradient, at learning rate `lr`.
    ///
    /// Updated parameters keep their identity and stay leaves that require their gradient.
    pub fn step<M: Module>(&mut self, lr: f64, policy: M, grads: GradientsParams) -> M {
        policy.map(&mut Update { optimizer: self, path: ModulePath::default(), grads, lr })
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
        let scaled = grad.clone().mul_scalar(1.0 - self.beta1);
        let squared = grad.square().mul_scalar(1.0 - self.beta2);
        // The old state is taken out, not cloned: a tensor with one owner is updated in place.
        let (m, v, steps) = match self.moments.remove(&path) {
            Some(Moments { m, v, steps, .. }) => {
                (m.mul_scalar(self.beta1) + scaled, v.mul_scalar(self.beta2) + squared, steps + 1)
            }
            None => (scaled, squared, 1),
        };
        let exponent = i32::try_from(steps).unwrap_or(i32::MAX);
        let bias1 = 1.0 - self.beta1.powi(exponent);
        let root_bias2 = (1.0 - self.beta2.powi(exponent)).sqrt();
        // Both sides of the fraction are multiplied by √(1 − β₂ᵗ), which saves an operation.
        let denominator = v.clone().sqrt().add_scalar(self.epsilon * root_bias2);
        let delta = (m.clone() / denominator).mul_scalar(lr * root_bias2 / bias1);
        self.moments.insert(path, Moments { m, v, shape: shape.to_vec(), steps });
        value.mul_scalar(1.0 - lr * self.weight_decay) - delta
    }
}

struct Update<'a> {
    optimizer: &'a mut AdamW,
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
pub(crate) mod tests {
    use rekindle_testkit::{Golden, assert_close, device};

    use super::*;

    /// Two parameters, as in the golden file.
    #[derive(Module, Debug)]
    pub(crate) struct Pair {
        pub weight: Param<Tensor<2>>,
        pub bias: Param<Tensor<1>>,
    }

    impl Pair {
        pub(crate) fn open(golden: &Golden) -> Self {
            let device = device().autodiff();
            Self {
                weight: Param::from_tensor(golden.tensor("weight.start", &device)),
                bias: Param::from_tensor(golden.tensor("bias.start", &device)),
            }
        }
    }

    fn floats<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().into_data().try_to_vec().unwrap()
    }

    #[test]
    fn adamw_matches_torch_over_ten_steps() {
        let golden = Golden::open("train/adamw.safetensors");
        let mut pair = Pair::open(&golden);
        let mut optimizer = AdamW { weight_decay: 0.1, ..AdamW::default() };
        for (step, lr) in golden.floats("rates").into_iter().enumerate() {
            let mut grads = GradientsParams::new();
            let grad = |name: &str| format!("{name}.grad.{step}");
            grads.register(pair.weight.id, golden.tensor::<2>(&grad("weight"), &device()));
            grads.register(pair.bias.id, golden.tensor::<1>(&grad("bias"), &device()));
            pair = optimizer.step(f64::from(lr), pair, grads);
            let after = |name: &str| golden.floats(&format!("{name}.after.{step}"));
            assert_close(&floats(&pair.weight), &after("weight"), 1e-6, 1e-6);
            assert_close(&floats(&pair.bias), &after("bias"), 1e-6, 1e-6);
        }
        let keys: Vec<_> = optimizer.moments.keys().map(String::as_str).collect();
        assert_eq!(keys, ["bias", "weight"]);
    }

    #[test]
    fn a_parameter_keeps_its_identity_and_its_gradient_after_an_update() {
        let golden = Golden::open("train/adamw.safetensors");
        let pair = Pair::open(&golden);
        let id = pair.weight.id;
        let mut optimizer = AdamW::default();
        let grads = pair.weight.val().square().sum().backward();
        let pair_grads = GradientsParams::from_grads(grads, &pair);
        let updated = optimizer.step(0.1, pair.clone(), pair_grads);
        assert_eq!(updated.weight.id, id);
        assert!(updated.weight.is_require_grad());
        // The bias had no gradient: it is untouched and has no state.
        assert_eq!(floats(&updated.bias), floats(&pair.bias));
        assert!(!optimizer.moments.contains_key("bias"));
        let again = updated.weight.val().square().sum().backward();
        assert!(updated.weight.val().grad(&again).is_some());
    }

    #[test]
    fn state_is_f32_for_a_bf16_parameter() {
        let golden = Golden::open("train/adamw.safetensors");
        let mut pair = Pair::open(&golden);
        pair.weight =
            pair.weight.map(|it| it.inner().cast(FloatDType::BF16).autodiff().require_grad());
        let loss = pair.weight.val().cast(FloatDType::F32).square().sum();
        let grads = GradientsParams::from_grads(loss.backward(), &pair);
        let mut optimizer = AdamW::default();
        let updated = optimizer.step(0.1, pair, grads);
        assert_eq!(updated.weight.val().dtype(), DType::BF16);
        assert_eq!(optimizer.moments["weight"].m.dtype(), DType::F32);
        assert!(!optimizer.moments["weight"].m.is_autodiff());
    }
}
