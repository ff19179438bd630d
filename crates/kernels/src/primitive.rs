//! Short names for backend primitives, so that reference bodies read as formulas.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::{Shape, Slice};

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
