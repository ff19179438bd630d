//! Layer normalisation.

use burn::tensor::{DType, Tensor};

use crate::shapes::in_dtype;

/// `(x − mean(x)) / sqrt(var(x) + eps) ⊙ gamma + beta` over the last dimension.
///
/// Ba et al. 2016 (arXiv:1607.06450), eq. 4. `x [.., hidden]`, `gamma [hidden]`, `beta [hidden]`;
/// halves are normalised in f32.
/// Plain tensor operations with the backend's own backward pass: GPT-2 alone uses it.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    let dtype = x.dtype();
    let x = in_dtype(x, DType::F32);
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    let normed = in_dtype(centred / (variance + eps).sqrt(), dtype);
    normed * in_dtype(gamma, dtype).unsqueeze() + in_dtype(beta, dtype).unsqueeze()
}
