//! Finite differences against autodiff.

use burn::tensor::{Device, Tensor};

use crate::device;

/// Checks the autodiff gradient of a scalar function against central finite differences.
///
/// (f(x + eps · e_i) − f(x − eps · e_i)) / (2 · eps) for every element i of every input, in f32.
/// `f` takes the inputs flattened, reshapes them itself, and returns one element. An element
/// passes where the two differ by at most `tol` · max(1, |finite difference|).
///
/// # Panics
///
/// If an element is out of tolerance; the message names the worst one.
#[track_caller]
pub fn gradcheck(f: impl Fn(&[Tensor<1>]) -> Tensor<1>, inputs: &[Vec<f32>], eps: f32, tol: f64) {
    let plain = device();
    let tracked = plain.clone().autodiff();
    let leaves: Vec<_> = upload(inputs, &tracked).into_iter().map(Tensor::require_grad).collect();
    let grads = f(&leaves).backward();

    let mut worst = (0.0, String::new());
    for (input, leaf) in leaves.iter().enumerate() {
        let analytic: Vec<f32> = match leaf.grad(&grads) {
            Some(grad) => grad.into_data().convert::<f32>().try_to_vec().expect("just converted"),
            None => vec![0.0; inputs[input].len()],
        };
        for (index, &analytic) in analytic.iter().enumerate() {
            let numeric = central_difference(&f, inputs, (input, index), eps, &plain);
            let error = (f64::from(analytic) - numeric).abs() / numeric.abs().max(1.0);
            if error > worst.0 || error.is_nan() {
                let place = format!("input {input}, element {index}");
                worst = (error, format!("{place}: autodiff {analytic}, differences {numeric}"));
            }
        }
    }
    assert!(
        worst.0 <= tol,
        "the gradient is off by {:.2e} (tolerance {tol:e}) at {}",
        worst.0,
        worst.1
    );
}

fn central_difference(
    f: &impl Fn(&[Tensor<1>]) -> Tensor<1>,
    inputs: &[Vec<f32>],
    (input, index): (usize, usize),
    eps: f32,
    device: &Device,
) -> f64 {
    let at = |value: f32| {
        let mut moved = inputs.to_vec();
        moved[input][index] = value;
        f64::from(f(&upload(&moved, device)).into_scalar::<f32>())
    };
    let (above, below) = (inputs[input][index] + eps, inputs[input][index] - eps);
    // The step that f32 really took, not the one asked for.
    (at(above) - at(below)) / (f64::from(above) - f64::from(below))
}

fn upload(inputs: &[Vec<f32>], device: &Device) -> Vec<Tensor<1>> {
    inputs.iter().map(|input| Tensor::from_floats(input.as_slice(), device)).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn a_right_gradient_passes() {
        let f = |x: &[Tensor<1>]| (x[0].clone().tanh() * x[1].clone()).sum();
        gradcheck(f, &[vec![0.3, -0.7], vec![1.5, 0.2]], 1e-2, 1e-3);
    }

    #[test]
    #[should_panic(expected = "input 1, element 0")]
    fn a_wrong_gradient_is_named() {
        // The second factor is cut out of the graph, so autodiff finds no gradient for it.
        let f = |x: &[Tensor<1>]| (x[0].clone() * x[1].clone().detach()).sum();
        gradcheck(f, &[vec![0.3], vec![1.5]], 1e-2, 1e-3);
    }
}
