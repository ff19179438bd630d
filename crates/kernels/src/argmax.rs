//! The largest element of each row.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::ops::LlmOps;

/// The place of the largest element of each row of `x [n, width]`, the first of equal ones:
/// `[n, 1]`.
pub fn argmax_rows(x: Tensor<2>) -> Tensor<2, Int> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::argmax_rows(x.into_dispatch()))
}
