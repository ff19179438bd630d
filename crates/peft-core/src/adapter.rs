//! What is stored for each adapter method, and the door through which all of them compute.

pub mod lora;

use burn::module::Module;
use burn::tensor::Tensor;
use rekindle_quant::BaseWeight;

use self::lora::Lora;

/// The end of a tensor's name in a PEFT file, after the module's name: `lora_A.weight`.
pub type PeftName = &'static str;

/// An adapter on one linear map.
///
/// Closed: a method is one file, one variant here and one arm in [`Adapter::math`].
#[derive(Module, Debug)]
pub enum Adapter {
    /// Low-rank adaptation.
    Lora(Lora),
}

/// What an adapter computes.
pub trait AdapterMath {
    /// The adapted map, without bias: `x [batch, seq, d_in]` to `[batch, seq, d_out]`.
    fn forward(&self, x: Tensor<3>, base: &BaseWeight) -> Tensor<3>;

    /// `[1]` with the gradients of `Σ grad ⊙ forward(x)`, to be called `backward` on.
    fn pull(&self, x: Tensor<3>, base: &BaseWeight, grad: Tensor<3>) -> Tensor<1>;

    /// The weight `[d_out, d_in]` that does alone what `weight` and the adapter do together.
    fn merge(&self, weight: Tensor<2>) -> Tensor<2>;

    /// The adapter's tensors under their PEFT names, in PEFT's layout.
    fn tensors(&self) -> Vec<(PeftName, Tensor<2>)>;
}

impl Adapter {
    /// The adapter's mathematics.
    pub fn math(&self) -> &dyn AdapterMath {
        match self {
            Self::Lora(lora) => lora,
        }
    }
}
