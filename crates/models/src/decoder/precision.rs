//! The number formats of weights and of activations.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, FloatDType, Tensor};

use super::Decoder;

impl Decoder {
    /// The decoder with every weight in another number format, adapters included.
    ///
    /// Activations and the cache take the weights' format; norms, attention weights and
    /// probabilities are computed in f32.
    #[must_use]
    pub fn cast(self, dtype: FloatDType) -> Self {
        self.map(&mut Cast(dtype))
    }

    /// The same decoder with its products in the number format `dtype`: frozen weights are stored
    /// in it, trained ones keep their own and are cast where they are used.
    ///
    /// What is trained in f32 gets gradients in f32. Sums, norms, attention weights, probabilities
    /// and losses are computed in f32 whatever `dtype` is.
    #[must_use]
    pub fn computing_in(self, dtype: FloatDType) -> Self {
        let decoder = self.map(&mut CastFrozen(dtype));
        Self { compute: Some(DType::from(dtype)), ..decoder }
    }

    /// The number format of activations.
    pub(crate) fn compute_dtype(&self) -> DType {
        self.compute.unwrap_or_else(|| self.model.norm.weight().dtype())
    }
}

/// Casts every parameter.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|it| it.cast(self.0))
    }
}

/// Casts every parameter that is not trained.
struct CastFrozen(FloatDType);

impl ModuleMapper for CastFrozen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match param.is_require_grad() {
            true => param,
            false => Cast(self.0).map_float(param),
        }
    }
}
