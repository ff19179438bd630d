//! Clipping to a global gradient norm.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};

/// The L2 norm of all gradients together, shape `[1]`, f32, left on the device.
///
/// `None` if no parameter of `policy` has a gradient.
pub fn global_norm<M: Module>(policy: &M, grads: &GradientsParams) -> Option<Tensor<1>> {
    let mut visitor = Squares { grads, sums: Vec::new() };
    policy.visit(&mut visitor);
    let sums = visitor.sums;
    // One concatenation costs less than one addition for each of hundreds of small tensors.
    (!sums.is_empty()).then(|| Tensor::cat(sums, 0).sum().sqrt())
}

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), as torch's `clip_grad_norm_` does.
///
/// `norm` is the value of [`global_norm`], read by the caller: the loop needs it on the host
/// before the update anyway, and no gradient is touched when nothing is to be clipped.
pub fn clip_global_norm<M: Module>(
    policy: &M,
    grads: GradientsParams,
    norm: f64,
    max_norm: Option<f64>,
) -> GradientsParams {
    match max_norm.map(|max_norm| max_norm / (norm + 1e-6)) {
        Some(coefficient) if coefficient < 1.0 => rescaled(policy, grads, coefficient),
        _ => grads,
    }
}

/// All gradients times `coefficient`.
pub(crate) fn rescaled<M: Module>(
    policy: &M,
    grads: GradientsParams,
    coefficient: f64,
) -> GradientsParams {
    let mut visitor = Rescale { grads, coefficient };
    policy.visit(&mut visitor);
    visitor.grads
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(in_f32(grad).square().sum());
        }
    }
}

struct Rescale {
    grads: GradientsParams,
    coefficient: f64,
}

impl ModuleVisitor for Rescale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register::<D>(param.id, grad.mul_scalar(self.coefficient));
        }
    }
}

// Norms are taken in f32: a bf16 sum of many squares loses the small layers.
pub(crate) fn in_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}

#[cfg(test)]
mod tests {
    use rekindle_testkit::{Golden, assert_close, device};

    use super::*;
    use crate::optimizer::tests::Pair;

    fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn clipping_matches_torch() {
        let golden = Golden::open("train/adamw.safetensors");
        let device = device();
        let pair = Pair::open(&golden);
        for case in ["tight", "loose"] {
            let name = |part: &str| format!("clip.{case}.{part}");
            let mut grads = GradientsParams::new();
            let weight = golden.tensor::<2>(&name("weight.grad"), &device);
            grads.register(pair.weight.id, weight);
            grads.register(pair.bias.id, golden.tensor::<1>(&name("bias.grad"), &device));

            let norm = floats(global_norm(&pair, &grads).unwrap());
            assert_close(&norm, &golden.floats(&name("norm")), 1e-6, 0.0);
            let max_norm = f64::from(golden.floats(&name("max_norm"))[0]);
            let clipped = clip_global_norm(&pair, grads, f64::from(norm[0]), Some(max_norm));

            let weight = floats(clipped.get::<2>(pair.weight.id).unwrap());
            assert_close(&weight, &golden.floats(&name("weight.clipped")), 1e-6, 1e-7);
            let bias = floats(clipped.get::<1>(pair.bias.id).unwrap());
            assert_close(&bias, &golden.floats(&name("bias.clipped")), 1e-6, 1e-7);
        }
    }
}
