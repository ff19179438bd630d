//! AdamW with both moments in one byte a number.

use burn::tensor::Tensor;

use super::block_quantization::{BLOCK, Codebook};
use super::update::{ParamUpdate, UpdateRule};
use super::{AdamW, Slot, StateTensor};

/// AdamW with block-wise quantised moments.
///
/// The formula is [`AdamW`]'s; before it, m and v are unpacked to f32, and after it they are
/// packed again: blocks of 256 numbers, each a code of one byte times the block's largest
/// magnitude. m has the signed and v the unsigned dynamic code.
/// Dettmers et al. 2022 (arXiv:2110.02861), §2.1, §2.2 and eq. 5.
///
/// As `bitsandbytes.optim.AdamW8bit` on processors: parameters of fewer than `min_8bit_size`
/// elements keep f32 moments; the code next to a number is looked up in a table of 65,536 bins
/// over [−1, 1], where the paper (and bitsandbytes on GPUs) finds the nearest code. The two differ
/// for numbers below about 1e-4 of their block's largest, whose codes lie closer than the bins;
/// zeros in a block that is not all zero become 1.5e-5 of its largest.
/// Departures: none in the numbers; codes at the edge of a bin may differ, since torch fuses
/// multiplication and addition.
///
/// State: `m` and `v`, u8, in the parameter's shape; `m_absmax` and `v_absmax`, f32, one number a
/// block.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW8bit {
    /// The formula's settings.
    pub adamw: AdamW,
    /// Parameters of fewer elements keep f32 moments.
    pub min_8bit_size: usize,
}

impl Default for AdamW8bit {
    /// The defaults of bitsandbytes: AdamW's, and 4096 elements.
    fn default() -> Self {
        Self { adamw: AdamW::default(), min_8bit_size: 4096 }
    }
}

impl UpdateRule for AdamW8bit {
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        let blocks = shape.iter().product::<usize>().div_ceil(BLOCK);
        vec![
            Slot::codes("m", shape),
            Slot::numbers("m_absmax", &[blocks]),
            Slot::codes("v", shape),
            Slot::numbers("v_absmax", &[blocks]),
        ]
    }

    fn weight_decay(&self) -> f64 {
        self.adamw.weight_decay
    }

    fn update(
        &self,
        param: ParamUpdate<'_>,
        state: Vec<StateTensor>,
    ) -> (Tensor<1>, Vec<StateTensor>) {
        let AdamW { beta1, beta2, epsilon, .. } = self.adamw;
        let bias1 = param.bias_correction(beta1);
        let root_bias2 = param.bias_correction(beta2).sqrt();
        let decay_factor = param.decay_factor();
        let ParamUpdate { lr, value, grad, codebooks, .. } = param;
        let [signed, unsigned] = codebooks.on(&value.device());
        let [m, v] = unpack(state, signed, unsigned);
        // The order of the factors is torch's: another one rounds differently, and codes flip.
        let squared = grad.clone().mul_scalar(1.0 - beta2) * grad.clone();
        let m = m.mul_scalar(beta1) + grad.mul_scalar(1.0 - beta1);
        let v = v.mul_scalar(beta2) + squared;
        let denominator = v.clone().sqrt().div_scalar(root_bias2).add_scalar(epsilon);
        let delta = (m.clone() / denominator).mul_scalar(lr / bias1);
        let mut packed = Vec::with_capacity(4);
        for (book, numbers) in [(signed, m), (unsigned, v)] {
            let (codes, absmax) = book.pack(numbers);
            packed.extend([StateTensor::Codes(codes), StateTensor::Numbers(absmax)]);
        }
        (value.mul_scalar(decay_factor) - delta, packed)
    }
}

fn unpack(state: Vec<StateTensor>, signed: &Codebook, unsigned: &Codebook) -> [Tensor<1>; 2] {
    let Ok([m, m_absmax, v, v_absmax]) = <[StateTensor; 4]>::try_from(state) else {
        unreachable!("a state has one tensor for each slot of its rule")
    };
    [signed.unpack(m.codes(), m_absmax.numbers()), unsigned.unpack(v.codes(), v_absmax.numbers())]
}
