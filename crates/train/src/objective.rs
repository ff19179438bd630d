//! What a method minimises.

use burn::module::Module;
use burn::tensor::Tensor;

/// What a method minimises, as sums over units.
///
/// Nothing here divides: [`fit`](crate::fit) divides by the units of the whole step, so any split
/// of a step into micro-batches gives the same gradient.
pub trait Objective<M: Module> {
    /// What one forward pass consumes.
    type Batch;

    /// How many units `batch` holds (target tokens, pairs, episodes), known on the host.
    fn units(&self, batch: &Self::Batch) -> usize;

    /// The loss of `batch`, summed over its units, on the policy's autodiff graph.
    fn loss(&self, policy: &M, batch: &Self::Batch) -> LossSum;
}

/// A loss and its metrics, each summed over the units of one micro-batch.
pub struct LossSum {
    /// The loss, shape `[1]`, tracked by autodiff.
    pub total: Tensor<1>,
    /// Named sums over units, shape `[1]` each; reported per unit.
    pub metrics: Vec<(&'static str, Tensor<1>)>,
}
