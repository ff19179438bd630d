//! Short names for backend primitives, so that reference bodies read as formulas.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Slice};

/// The sizes of a tensor's dimensions.
pub(crate) fn dims<const D: usize>(x: &impl TensorMetadata) -> [usize; D] {
    x.shape().dims()
}

/// `x` seen with other dimensions.
pub(crate) fn reshape<B: Backend, const D: usize>(
    x: FloatTensor<B>,
    shape: [usize; D],
) -> FloatTensor<B> {
    B::float_reshape(x, Shape::from(shape))
}

/// Whether a tensor's numbers are too coarse for sums and exponentials.
pub(crate) fn is_half(x: &impl TensorMetadata) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16)
}

/// `x` in f32 if its numbers are halves.
pub(crate) fn widened<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if is_half(&x) { B::float_cast(x, FloatDType::F32) } else { x }
}

/// `x` in the format of what it was made from.
pub(crate) fn narrowed<B: Backend>(x: FloatTensor<B>, like: DType) -> FloatTensor<B> {
    if x.dtype() == like { x } else { B::float_cast(x, FloatDType::from(like)) }
}

/// `x · factor`.
pub(crate) fn scale<B: Backend>(x: FloatTensor<B>, factor: f32) -> FloatTensor<B> {
    B::float_mul_scalar(x, Scalar::from(factor))
}

/// Rows `start..end` of dimension `dim` of a tensor of rank `rank`.
pub(crate) fn narrow<B: Backend>(
    x: FloatTensor<B>,
    rank: usize,
    dim: usize,
    range: core::ops::Range<usize>,
) -> FloatTensor<B> {
    let mut slices = vec![Slice::full(); rank];
    slices[dim] = Slice::from(range);
    B::float_slice(x, &slices)
}

/// Log-sum-exp over dimension `dim`, which stays with size 1.
pub(crate) fn log_sum_exp<B: Backend>(x: FloatTensor<B>, dim: usize) -> FloatTensor<B> {
    let max = B::float_max_dim(x.clone(), dim);
    let sum = B::float_sum_dim(B::float_exp(B::float_sub(x, max.clone())), dim);
    B::float_add(B::float_log(sum), max)
}

/// `cap · tanh(x / cap)` and its slope `1 − tanh²(x / cap)`; `x` itself where there is no cap.
pub(crate) fn cap<B: Backend>(
    x: FloatTensor<B>,
    softcap: Option<f32>,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let Some(softcap) = softcap else { return (x, None) };
    let bent = B::float_tanh(scale::<B>(x, softcap.recip()));
    let square = B::float_mul(bent.clone(), bent.clone());
    let slope = B::float_add_scalar(B::float_neg(square), Scalar::from(1.0f32));
    (scale::<B>(bent, softcap), Some(slope))
}
