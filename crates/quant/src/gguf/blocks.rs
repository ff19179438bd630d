//! ggml's block formats and how they unpack, bit for bit as gguf-py does.
//!
//! A block of a legacy type is 32 numbers with an f16 scale (and an f16 offset where the name ends
//! in 1). A block of a K type is 256 numbers in sub-blocks whose scales are quantised themselves.

use half::{bf16, f16};
use rayon::prelude::*;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "ggml's own names")]
pub enum GgmlType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    BF16,
    /// 4 bits and a scale.
    Q4_0,
    /// 4 bits, a scale and an offset.
    Q4_1,
    /// 5 bits and a scale.
    Q5_0,
    /// 5 bits, a scale and an offset.
    Q5_1,
    /// 8 bits and a scale.
    Q8_0,
    /// 4 bits with 6-bit scales and offsets.
    Q4_K,
    /// 5 bits with 6-bit scales and offsets.
    Q5_K,
    /// 6 bits with 8-bit scales.
    Q6_K,
}

impl GgmlType {
    const ALL: [(u32, Self); 11] = [
        (0, Self::F32),
        (1, Self::F16),
        (2, Self::Q4_0),
        (3, Self::Q4_1),
        (6, Self::Q5_0),
        (7, Self::Q5_1),
        (8, Self::Q8_0),
        (12, Self::Q4_K),
        (13, Self::Q5_K),
        (14, Self::Q6_K),
        (30, Self::BF16),
    ];

    /// The type with ggml's number `code`, if it can be unpacked.
    pub(super) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind)
    }

    /// The names of all types that can be unpacked.
    pub(super) fn names() -> String {
        let names: Vec<String> = Self::ALL.iter().map(|(_, kind)| format!("{kind:?}")).collect();
        names.join(", ")
    }

    /// Numbers in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }
}

/// Blocks handed to a thread at a time.
const CHUNK: usize = 1024;

/// The numbers in `bytes`, which holds whole blocks.
pub(super) fn dequantize(kind: GgmlType, bytes: &[u8]) -> Vec<f32> {
    let (len, size) = (kind.block_len(), kind.block_bytes());
    let mut out = vec![0.0; bytes.len() / size * len];
    let chunks = out.par_chunks_mut(CHUNK * len).zip(bytes.par_chunks(CHUNK * size));
    chunks.for_each(|(out, bytes)| {
        for (out, block) in out.chunks_exact_mut(len).zip(bytes.chunks_exact(size)) {
            unpack(kind, block, out);
        }
    });
    out
}

fn unpack(kind: GgmlType, block: &[u8], out: &mut [f32]) {
    match kind {
        GgmlType::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        GgmlType::F16 => out[0] = half_at(block, 0),
        GgmlType::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        GgmlType::Q4_0 => q4(block, out, |d, q, _| d * (q as f32 - 8.0), 2),
        GgmlType::Q4_1 => q4(block, out, |d, q, m| d * q as f32 + m, 4),
        GgmlType::Q5_0 => q5(block, out, |d, q, _| d * (q as f32 - 16.0), 2),
        GgmlType::Q5_1 => q5(block, out, |d, q, m| d * q as f32 + m, 4),
        GgmlType::Q8_0 => {
            let d = half_at(block, 0);
            for (out, &q) in out.iter_mut().zip(&block[2..]) {
                *out = f32::from(q as i8) * d;
            }
        }
        GgmlType::Q4_K => q4_k(block, out),
        GgmlType::Q5_K => q5_k(block, out),
        GgmlType::Q6_K => q6_k(block, out),
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Low nibbles are the first half of the block, high nibbles the second.
fn q4(block: &[u8], out: &mut [f32], value: impl Fn(f32, u8, f32) -> f32, start: usize) {
    // Without an offset, the bytes at 2 are quants and the third argument is not read.
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(&block[start..]) {
        *low = value(d, byte & 0x0f, m);
        *high = value(d, byte >> 4, m);
    }
}

/// As [`q4`], with a fifth bit for each number in the four bytes before the nibbles.
fn q5(block: &[u8], out: &mut [f32], value: impl Fn(f32, u8, f32) -> f32, start: usize) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let bits = [block[start], block[start + 1], block[start + 2], block[start + 3]];
    let bits = u32::from_le_bytes(bits);
    let fifth = |i: usize| ((bits >> i & 1) as u8) << 4;
    for (i, &byte) in block[start + 4..].iter().enumerate() {
        out[i] = value(d, (byte & 0x0f) | fifth(i), m);
        out[i + 16] = value(d, (byte >> 4) | fifth(i + 16), m);
    }
}

/// The 6-bit scale and offset of sub-block `i` of 8.
fn scale_min(packed: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (packed[i] & 0x3f, packed[i + 4] & 0x3f)
    } else {
        let both = packed[i + 4];
        ((both & 0x0f) | ((packed[i - 4] >> 2) & 0x30), (both >> 4) | ((packed[i] >> 2) & 0x30))
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..144]);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, i);
        let (scale, min) = (d * scale, d_min * min);
        let shift = 4 * (i % 2);
        for (out, &byte) in out.iter_mut().zip(&quants[i / 2 * 32..]) {
            *out = scale * f32::from(byte >> shift & 0x0f) - min;
        }
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, i);
        let (scale, min) = (d * scale, d_min * min);
        let shift = 4 * (i % 2);
        let bytes = quants[i / 2 * 32..].iter().zip(high);
        for (out, (&byte, &high)) in out.iter_mut().zip(bytes) {
            let q = (byte >> shift & 0x0f) | ((high >> i & 1) << 4);
            *out = scale * f32::from(q) - min;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (half, part) = (i / 4, i % 4);
        let low = &low[half * 64 + part % 2 * 32..];
        let high = &high[half * 32..];
        let shift = 4 * (part / 2);
        for (j, out) in out.iter_mut().enumerate() {
            let scale = d * f32::from(scales[2 * i + j / 16] as i8);
            let q = (low[j] >> shift & 0x0f) | ((high[j] >> (2 * part) & 3) << 4);
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}
