//! Number formats by name.

use burn::tensor::{DType, FloatDType};
use clap::ValueEnum;

/// A number format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// The upper half of them.
    Bf16,
    /// 16 bits of IEEE 754.
    F16,
}

impl Dtype {
    /// The name on command lines and in results.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Bytes of a number.
    pub fn width(self) -> usize {
        DType::from(FloatDType::from(self)).size()
    }
}

impl From<Dtype> for FloatDType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::BF16,
            Dtype::F16 => Self::F16,
        }
    }
}
