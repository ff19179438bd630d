//! `layer_norm`.

use burn::tensor::Tensor;
use rekindle_kernels::layer_norm;

use crate::comparison::{check, values};

#[test]
fn layer_norm_centres_scales_and_shifts() {
    let eps = 1e-2;
    // The variance as the mean of squares less the square of the mean.
    let plain = |v: &[Tensor<1>]| {
        let x = v[0].clone().reshape([3, 5]);
        let mean = x.clone().mean_dim(1);
        let variance = x.clone().powi_scalar(2).mean_dim(1) - mean.clone().powi_scalar(2);
        let normed = (x - mean) * (variance + eps).sqrt().recip();
        (normed * v[1].clone().unsqueeze() + v[2].clone().unsqueeze()).flatten(0, 1)
    };
    check(
        |v| {
            let x = v[0].clone().reshape([1, 3, 5]);
            layer_norm(x, v[1].clone(), v[2].clone(), eps).flatten(0, 2)
        },
        plain,
        &[values(15, 1), values(5, 2), values(5, 3)],
        1e-2,
    );
}
