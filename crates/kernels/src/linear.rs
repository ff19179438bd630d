//! Linear maps: frozen or trained weight, and a frozen weight with a low-rank update.

use burn::backend::Dispatch;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;

use crate::ops::LlmOps;
use crate::primitive::scale;

/// Up to so many rows a product with a weight is taken to cost what reading the weight costs.
pub(crate) const FEW_ROWS: usize = 64;

/// `x · weightᵀ` over the last dimension.
///
/// `x [.., d_in]`, `weight [d_out, d_in]`, result `[.., d_out]`. The backward pass keeps `x` only
/// where the weight is trained; a frozen weight costs no activation and no weight gradient.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    on_rows(x, weight.dims()[0], |x| Dispatch::project(x.into_dispatch(), weight.into_dispatch()))
}

/// `x · weightᵀ + scale · (x · aᵀ) · bᵀ`: a frozen weight and its low-rank update in one node.
///
/// Hu et al. 2021 (arXiv:2106.09685), eq. 3, with `scale = alpha / rank` given by the caller.
/// `x [.., d_in]`, `weight [d_out, d_in]`, `a [rank, d_in]`, `b [d_out, rank]`. The backward pass
/// keeps `x` and `x · aᵀ`; no gradient and no copy of weight size exists. `weight` gets no
/// gradient: it is frozen by definition.
pub fn lora_linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
) -> Tensor<D> {
    on_rows(x, weight.dims()[0], |x| {
        Dispatch::lora_linear(
            x.into_dispatch(),
            weight.into_dispatch(),
            a.into_dispatch(),
            b.into_dispatch(),
            scale as f32,
        )
    })
}

fn on_rows<const D: usize>(
    x: Tensor<D>,
    d_out: usize,
    map: impl FnOnce(Tensor<2>) -> burn::backend::DispatchTensor,
) -> Tensor<D> {
    let mut shape = x.dims();
    let d_in = shape[D - 1];
    let n = shape.iter().product::<usize>() / d_in;
    let y = Tensor::<2>::from_dispatch(map(x.reshape([n, d_in])));
    shape[D - 1] = d_out;
    y.reshape(shape)
}

/// The result and the scaled low-rank activation `scale · x · aᵀ [n, rank]`.
pub(crate) fn lora_linear_forward<B: LlmOps>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    factor: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let u = scale::<B>(B::float_matmul(x.clone(), B::float_transpose(a)), factor);
    let y = B::matmul_sum(x, B::float_transpose(w), u.clone(), B::float_transpose(b));
    (y, u)
}
