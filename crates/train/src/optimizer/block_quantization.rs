//! Numbers in one byte each: a code of 256 numbers, times the largest magnitude of a block.

use burn::tensor::{DType, Device, Int, IntDType, Tensor, TensorData};

/// Numbers that share one scale.
pub(super) const BLOCK: usize = 256;

/// Bins of the table that finds a code.
const BINS: usize = 1 << 16;

/// The signed and the unsigned code on the device they were last asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Codebooks(Option<(Device, [Codebook; 2])>);

impl Codebooks {
    /// The signed and the unsigned code on `device`.
    pub fn on(&mut self, device: &Device) -> [&Codebook; 2] {
        if self.0.as_ref().is_none_or(|(at, _)| at != device) {
            let books = [true, false].map(|signed| Codebook::new(&dynamic_map(signed), device));
            self.0 = Some((device.clone(), books));
        }
        let (_, [signed, unsigned]) = self.0.as_ref().expect("they were put there above");
        [signed, unsigned]
    }
}

/// A code of 256 numbers in [−1, 1].
#[derive(Debug, Clone)]
pub(crate) struct Codebook {
    /// The number of each code, f32, shape `[256]`.
    numbers: Tensor<1>,
    /// The code of each bin, u8, shape `[65536]`.
    bins: Tensor<1, Int>,
}

impl Codebook {
    fn new(map: &[f32], device: &Device) -> Self {
        let bins = TensorData::new(codes_of_bins(map), [BINS]);
        Self {
            numbers: Tensor::from_data(TensorData::new(map.to_vec(), [256]), (device, DType::F32)),
            bins: Tensor::from_data(bins, (device, DType::U8)),
        }
    }

    /// The number of each code.
    #[cfg(test)]
    pub fn numbers(&self) -> Vec<f32> {
        self.numbers.to_data().try_to_vec().expect("the numbers are f32")
    }

    /// The codes of `numbers`, shape `[n]`, and the largest magnitude of each block of 256.
    pub fn pack(&self, numbers: Tensor<1>) -> (Tensor<1, Int>, Tensor<1>) {
        let [elements] = numbers.dims();
        let blocks = in_blocks(numbers); // [blocks, 256]
        let [n_blocks, _] = blocks.dims();
        let absmax = blocks.clone().abs().max_dim(1); // [blocks, 1]
        // A block of zeros has the first code throughout, whose bin is that of −1.
        let empty = absmax.clone().equal_scalar(0.0).float();
        let scaled = blocks / (absmax.clone() + empty.clone()) - empty;
        let half = (BINS - 1) as f64 / 2.0;
        let bin = scaled.add_scalar(1.0).mul_scalar(half).add_scalar(0.5);
        let bin = bin.cast(IntDType::I32).clamp(0, BINS as i32 - 1);
        let codes = self.bins.clone().select(0, bin.reshape([n_blocks * BLOCK]));
        (codes.narrow(0, 0, elements), absmax.reshape([n_blocks]))
    }

    /// The numbers that `codes`, shape `[n]`, stand for.
    pub fn unpack(&self, codes: Tensor<1, Int>, absmax: Tensor<1>) -> Tensor<1> {
        let [elements] = codes.dims();
        let [n_blocks] = absmax.dims();
        let numbers = self.numbers.clone().select(0, codes.cast(IntDType::I32));
        let scaled = in_blocks(numbers) * absmax.reshape([n_blocks, 1]);
        scaled.reshape([n_blocks * BLOCK]).narrow(0, 0, elements)
    }
}

/// `numbers` as rows of 256, the last one filled up with zeros.
fn in_blocks(numbers: Tensor<1>) -> Tensor<2> {
    let [elements] = numbers.dims();
    let n_blocks = elements.div_ceil(BLOCK);
    let missing = n_blocks * BLOCK - elements;
    let numbers = match missing {
        0 => numbers,
        _ => {
            let zeros = Tensor::zeros([missing], (&numbers.device(), DType::F32));
            Tensor::cat(vec![numbers, zeros], 0)
        }
    };
    numbers.reshape([n_blocks, BLOCK])
}

/// The dynamic code, sorted: 0, 1, and for each power of ten from 1e-6 to 1 the middles of equal
/// parts of its upper nine tenths, as many parts as the exponent leaves bits for.
///
/// Dettmers 2016 (arXiv:1511.04561), §3.3, and Dettmers et al. 2022 (arXiv:2110.02861), §2.2. The
/// unsigned code has twice the parts and no negative numbers. Each number is rounded where
/// `bitsandbytes.functional.create_dynamic_map` rounds it.
fn dynamic_map(signed: bool) -> Vec<f32> {
    const EXPONENTS: i32 = 7;
    let mut numbers = vec![0.0, 1.0];
    for exponent in 0..EXPONENTS {
        let parts = 1usize << if signed { exponent } else { exponent + 1 };
        let edges = linspace(0.1, 1.0, parts + 1);
        let scale = 10f64.powi(exponent - (EXPONENTS - 1)) as f32;
        for edge in edges.windows(2) {
            let number = scale * ((edge[0] + edge[1]) / 2.0);
            numbers.push(number);
            if signed {
                numbers.push(-number);
            }
        }
    }
    numbers.sort_by(f32::total_cmp);
    numbers
}

/// `n` numbers from `first` to `last`, as torch steps: from both ends to the middle, in f32.
fn linspace(first: f32, last: f32, n: usize) -> Vec<f32> {
    let step = (last - first) / (n - 1) as f32;
    let at = |i: usize| match i < n / 2 {
        true => step.mul_add(i as f32, first),
        false => (-step).mul_add((n - 1 - i) as f32, last),
    };
    (0..n).map(at).collect()
}

/// The code nearest to the middle of each bin; a bin is 2/65535 wide, the first one's is −1.
fn codes_of_bins(map: &[f32]) -> Vec<u8> {
    let mut code = 0;
    let bin = |index: usize| {
        let middle = index as f32 / ((BINS - 1) as f32 / 2.0) - 1.0;
        while code + 1 < map.len() && (map[code] + map[code + 1]) * 0.5 < middle {
            code += 1;
        }
        code as u8
    };
    (0..BINS).map(bin).collect()
}
