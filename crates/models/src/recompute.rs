//! What of a decoder is run again in the backward pass, and what is random while it trains.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor};
use rekindle_kernels::{Keep, Stretch};

use crate::block::{Block, Placement};

/// Which blocks are run again in the backward pass, so that only their inputs are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recompute {
    /// Every how many blocks one is run again: 1 for all of them, 0 for none.
    pub every: usize,
    /// Whether the inputs wait in the host's memory.
    pub offload: bool,
}

impl Recompute {
    /// No block: everything that the backward pass reads is kept.
    pub const NONE: Self = Self { every: 0, offload: false };
    /// All blocks.
    pub const ALL: Self = Self { every: 1, offload: false };

    /// Whether block `index` is run again.
    pub fn covers(self, index: usize) -> bool {
        self.every > 0 && index.is_multiple_of(self.every)
    }

    /// Where the inputs of the blocks that are run again wait.
    pub fn keep(self) -> Keep {
        if self.offload { Keep::Host } else { Keep::Device }
    }
}

/// One block with everything that a forward pass through it needs.
#[derive(Clone, Debug)]
pub(crate) struct BlockPass {
    block: Block,
    place: Placement,
    /// Where the block's random numbers start.
    seed: Option<u64>,
}

impl BlockPass {
    pub(crate) fn new(block: &Block, place: &Placement, noise: Option<u64>, index: usize) -> Self {
        let seed = noise.map(|seed| mixed(seed, index as u64 + 1));
        Self { block: block.clone(), place: place.clone(), seed }
    }

    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.start(&x.device());
        self.block.forward(x, &self.place, None)
    }

    fn start(&self, device: &Device) {
        if let Some(seed) = self.seed {
            device.seed(seed);
        }
    }
}

impl Stretch for BlockPass {
    type Module = Block;

    fn module(&self) -> &Block {
        &self.block
    }

    /// A frozen block and a constant on the autodiff device keep nothing, and dropout, which is
    /// for training alone, is as in the second run.
    fn plain(&self, x: Tensor<3>) -> Tensor<3> {
        self.start(&x.device());
        let frozen = self.block.clone().set_require_grad(false);
        frozen.forward(Tensor::from_inner(x), &self.place, None).inner()
    }

    fn pull(&self, x: Tensor<3>, grad: Tensor<3>) -> Tensor<1> {
        self.start(&x.device());
        self.block.pull(x, &self.place, grad)
    }
}

/// `x [batch, seq, hidden]` with uniform noise in `±alpha / √(L · hidden)`, where `L` is the length
/// of the row without padding. Jain et al. 2023 (arXiv:2310.05914), algorithm 1.
///
/// Where several texts share a row, `L` is that of all of them.
pub(crate) fn neftune(x: Tensor<3>, segments: &Tensor<2, Int>, alpha: f64, seed: u64) -> Tensor<3> {
    let [batch, _, hidden] = x.dims();
    let device = x.device().inner();
    device.seed(mixed(seed, 0));
    let dtype = x.dtype();
    let noise = Tensor::<3>::random(x.dims(), Distribution::Uniform(-1.0, 1.0), &device);
    let lengths = segments.clone().inner().not_equal_elem(0).float().sum_dim(1);
    let bounds = (lengths * hidden as f64).sqrt().recip() * alpha; // [batch, 1]
    let noise = noise * bounds.reshape([batch, 1, 1]);
    x + Tensor::from_inner(noise.cast(burn::tensor::FloatDType::from(dtype)))
}

/// One seed from two numbers: the finalizer of SplitMix64 over their sum in steps of its constant.
fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use rekindle_testkit::device;

    use super::*;

    #[test]
    fn noise_fills_the_interval_that_the_length_of_the_row_gives() {
        const HIDDEN: usize = 64;
        let (rows, seq, alpha) = (2, 40, 5.0);
        let lengths = [40, 10];
        let segments = (0..rows * seq).map(|at| i32::from(at % seq < lengths[at / seq])).collect();
        let segments = TensorData::new::<i32, _>(segments, [rows, seq]);
        let segments = Tensor::<2, Int>::from_data(segments, &device());
        let x = Tensor::<3>::zeros([rows, seq, HIDDEN], &device().autodiff());
        let noise: Vec<f32> = neftune(x, &segments, alpha, 7).into_data().try_to_vec().unwrap();
        for (noise, len) in noise.chunks(seq * HIDDEN).zip(lengths) {
            let bound = (alpha / ((len * HIDDEN) as f64).sqrt()) as f32;
            let largest = noise.iter().fold(0.0f32, |most, it| most.max(it.abs()));
            assert!(largest <= bound && largest > 0.99 * bound, "{largest} of {bound}");
            let mean = noise.iter().sum::<f32>() / noise.len() as f32;
            assert!(mean.abs() < 0.05 * bound, "{mean} of {bound}");
            // A uniform number's square is a third of its bound's on average.
            let square = noise.iter().map(|it| it * it).sum::<f32>() / noise.len() as f32;
            assert!((square / (bound * bound) - 1.0 / 3.0).abs() < 0.02, "{square}");
        }
    }
}
