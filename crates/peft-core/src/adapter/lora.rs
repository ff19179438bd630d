//! Low-rank adaptation of a linear map.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use rekindle_kernels as kernels;
use rekindle_quant::BaseWeight;
use serde::{Deserialize, Serialize};

use super::{AdapterMath, PeftName};
use crate::{PeftError, Targets, init};

/// `y = W x + s · B · A · dropout(x)`.
///
/// Hu et al. 2021 (arXiv:2106.09685), eq. 3; `s = lora_alpha / r`, or `lora_alpha / √r` for
/// rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732, theorem 3.2).
#[derive(Module, Debug)]
pub struct Lora {
    a: Param<Tensor<2>>, // [r, d_in]
    b: Param<Tensor<2>>, // [d_out, r]
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
}

/// How the low-rank pair starts; `B` is zero either way, so training starts at the base model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraInit {
    /// `A` uniform in `±1/√d_in`: PyTorch's `kaiming_uniform_(a=√5)`, PEFT's default.
    #[default]
    Kaiming,
    /// `A` normal with standard deviation `1/r`: PEFT's `"gaussian"`.
    Gaussian,
}

/// What to adapt and how, under PEFT's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of the update.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Probability of dropping an input of `A` while training.
    pub lora_dropout: f64,
    /// The linear maps that get an adapter.
    pub target_modules: Targets,
    /// Whether the scale is `lora_alpha / √r` instead of `lora_alpha / r`.
    pub use_rslora: bool,
    /// Starting values of `A`.
    pub init_lora_weights: LoraInit,
}

impl Default for LoraConfig {
    /// `r = 16`, `lora_alpha = 32`: TRL's command line defaults, without dropout.
    fn default() -> Self {
        Self {
            r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.0,
            target_modules: Targets::default(),
            use_rslora: false,
            init_lora_weights: LoraInit::default(),
        }
    }
}

impl LoraConfig {
    /// Checks ranges that need no model.
    ///
    /// # Errors
    /// [`PeftError::OutOfRange`] for a rank of 0, a scale that is not finite or a dropout outside
    /// `[0, 1)`.
    pub fn validate(&self) -> Result<(), PeftError> {
        let out_of_range = |key, found: String, wanted: &str| {
            Err(PeftError::OutOfRange { key, found, wanted: wanted.to_owned() })
        };
        if self.r == 0 {
            return out_of_range("r", "0".to_owned(), "at least 1");
        }
        if !self.lora_alpha.is_finite() {
            return out_of_range("lora_alpha", self.lora_alpha.to_string(), "a finite number");
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return out_of_range("lora_dropout", self.lora_dropout.to_string(), "in [0, 1)");
        }
        Ok(())
    }

    /// The factor before `B · A`.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// A fresh adapter for a weight `[d_out, d_in]`; `path` names its random stream.
    ///
    /// # Errors
    /// [`PeftError::OutOfRange`] if the rank exceeds the weight's smaller side.
    pub fn init(
        &self,
        [d_out, d_in]: [usize; 2],
        seed: u64,
        path: &str,
        device: &Device,
    ) -> Result<Lora, PeftError> {
        self.validate()?;
        if self.r > d_in.min(d_out) {
            return Err(PeftError::OutOfRange {
                key: "r",
                found: self.r.to_string(),
                wanted: format!(
                    "at most {} for `{path}`, a [{d_out}, {d_in}] weight",
                    d_in.min(d_out)
                ),
            });
        }
        let mut rng = init::generator(seed, "lora_A", path);
        let values = match self.init_lora_weights {
            LoraInit::Kaiming => {
                init::uniform(&mut rng, self.r * d_in, (d_in as f64).sqrt().recip())
            }
            LoraInit::Gaussian => init::normal(&mut rng, self.r * d_in, (self.r as f64).recip()),
        };
        let a = Tensor::from_data(TensorData::new(values, [self.r, d_in]), device);
        Ok(Lora::new(a, Tensor::zeros([d_out, self.r], device), self.scale(), self.lora_dropout))
    }
}

impl Lora {
    /// An adapter from `a [r, d_in]` and `b [d_out, r]`.
    pub fn new(a: Tensor<2>, b: Tensor<2>, scale: f64, dropout: f64) -> Self {
        Self { a: Param::from_tensor(a), b: Param::from_tensor(b), scale, dropout }
    }

    /// `A` and `B` in the format that is computed in, which may be coarser than their own.
    fn factors(&self, dtype: DType) -> (Tensor<2>, Tensor<2>) {
        let cast = |factor| kernels::in_dtype(factor, dtype);
        (cast(self.a.val()), cast(self.b.val()))
    }

    /// Whether inputs of `A` are dropped. Dropout belongs to training; a model off the autodiff
    /// device is not in training.
    fn drops(&self) -> bool {
        self.dropout > 0.0 && self.a.val().device().is_autodiff()
    }

    /// `s · B · A · dropout(x)`: `[batch, seq, d_out]`.
    fn low_rank(&self, x: Tensor<3>, a: Tensor<2>, b: Tensor<2>) -> Tensor<3> {
        let low = kernels::linear(dropout(x, self.dropout), a); // [batch, seq, r]
        kernels::linear(low, b).mul_scalar(self.scale)
    }

    /// `s · B · A` in f32: `[d_out, d_in]`.
    fn delta(&self) -> Tensor<2> {
        let [a, b] = [&self.a, &self.b].map(|it| kernels::in_dtype(it.val(), DType::F32));
        b.matmul(a).mul_scalar(self.scale)
    }
}

impl AdapterMath for Lora {
    fn forward(&self, x: Tensor<3>, base: &BaseWeight) -> Tensor<3> {
        let (a, b) = self.factors(x.dtype());
        if !self.drops() {
            return base.lora_linear(x, a, b, self.scale);
        }
        base.linear(x.clone()) + self.low_rank(x, a, b)
    }

    fn pull(&self, x: Tensor<3>, base: &BaseWeight, grad: Tensor<3>) -> Tensor<1> {
        let (a, b) = self.factors(x.dtype());
        if !self.drops() {
            return base.lora_linear_pull(x, a, b, self.scale, grad);
        }
        base.linear_pull(x.clone(), grad.clone()) + kernels::pull(self.low_rank(x, a, b), grad)
    }

    fn merge(&self, weight: Tensor<2>) -> Tensor<2> {
        let dtype = weight.dtype();
        kernels::in_dtype(kernels::in_dtype(weight, DType::F32) + self.delta(), dtype)
    }

    fn tensors(&self) -> Vec<(PeftName, Tensor<2>)> {
        vec![("lora_A.weight", self.a.val()), ("lora_B.weight", self.b.val())]
    }
}

/// Zeroes elements with probability `p` and scales the others by `1 / (1 − p)`.
fn dropout(x: Tensor<3>, p: f64) -> Tensor<3> {
    let keep = Tensor::random(x.dims(), Distribution::Bernoulli(1.0 - p), &x.device().inner());
    x * keep.mul_scalar((1.0 - p).recip())
}
