//! ggml's block formats and how they unpack, bit for bit as gguf-py does.
//!
//! A block of a legacy type is 32 numbers with an f16 scale (and an f16 offset where the name ends
//! in 1). A block of a K type is 256 numbers in sub-blocks whose scales are quantised themselves.

use half::f16;
use rayon::prelude::*;

use crate::floats;

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
    /// 2 bits with 4-bit scales and offsets.
    Q2_K,
    /// 3 bits with 6-bit scales.
    Q3_K,
    /// 4 bits with 6-bit scales and offsets.
    Q4_K,
    /// 5 bits with 6-bit scales and offsets.
    Q5_K,
    /// 6 bits with 8-bit scales.
    Q6_K,
    /// 4 bits that name one of sixteen uneven steps, and a scale.
    IQ4_NL,
    /// The same with 6-bit scales.
    IQ4_XS,
}

impl GgmlType {
    const ALL: [(u32, Self); 15] = [
        (0, Self::F32),
        (1, Self::F16),
        (2, Self::Q4_0),
        (3, Self::Q4_1),
        (6, Self::Q5_0),
        (7, Self::Q5_1),
        (8, Self::Q8_0),
        (10, Self::Q2_K),
        (11, Self::Q3_K),
        (12, Self::Q4_K),
        (13, Self::Q5_K),
        (14, Self::Q6_K),
        (20, Self::IQ4_NL),
        (23, Self::IQ4_XS),
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

    /// What ggml calls the type with a number that cannot be unpacked, for messages.
    pub(super) fn known_as(code: u32) -> &'static str {
        match code {
            9 => "Q8_1",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            24..=27 => "integers",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            40 => "NVFP4",
            4 | 5 | 31..=33 | 36..=38 => "removed from ggml",
            _ => "unknown",
        }
    }

    /// Numbers in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::IQ4_XS => 136,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }
}

/// The numbers in `bytes`, which holds whole blocks.
pub(super) fn dequantize(kind: GgmlType, bytes: &[u8]) -> Vec<f32> {
    match kind {
        GgmlType::F32 => floats::from_f32(bytes),
        GgmlType::F16 => floats::from_f16(bytes),
        GgmlType::BF16 => floats::from_bf16(bytes),
        GgmlType::Q4_0 => blocks(bytes, q4_0),
        GgmlType::Q4_1 => blocks(bytes, q4_1),
        GgmlType::Q5_0 => blocks(bytes, q5_0),
        GgmlType::Q5_1 => blocks(bytes, q5_1),
        GgmlType::Q8_0 => blocks(bytes, q8_0),
        GgmlType::Q2_K => blocks(bytes, q2_k),
        GgmlType::Q3_K => blocks(bytes, q3_k),
        GgmlType::IQ4_NL => blocks(bytes, iq4_nl),
        GgmlType::IQ4_XS => blocks(bytes, iq4_xs),
        GgmlType::Q4_K => blocks(bytes, q4_k),
        GgmlType::Q5_K => blocks(bytes, q5_k),
        GgmlType::Q6_K => blocks(bytes, q6_k),
    }
}

/// Unpacks blocks of `SIZE` bytes to `LEN` numbers each, on all threads.
fn blocks<const SIZE: usize, const LEN: usize>(
    bytes: &[u8],
    unpack: impl Fn(&[u8; SIZE], &mut [f32; LEN]) + Sync,
) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<SIZE>();
    let mut out = vec![0.0; blocks.len() * LEN];
    let pieces = out.par_chunks_mut(floats::CHUNK).zip(blocks.par_chunks(floats::CHUNK / LEN));
    pieces.for_each(|(out, blocks)| {
        let (out, _) = out.as_chunks_mut::<LEN>();
        for (out, block) in out.iter_mut().zip(blocks) {
            unpack(block, out);
        }
    });
    out
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * d;
    }
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], out, |q| d * (f32::from(q) - 8.0));
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], out, |q| d * f32::from(q) + m);
}

/// Low nibbles are the first half of the block, high nibbles the second.
fn nibbles(packed: &[u8], out: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(packed) {
        *low = value(byte & 0x0f);
        *high = value(byte >> 4);
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    with_fifth(&block[2..], out, |q| d * (q as f32 - 16.0));
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    with_fifth(&block[4..], out, |q| d * q as f32 + m);
}

/// As [`nibbles`], with a fifth bit for each number in the four bytes before them.
fn with_fifth(packed: &[u8], out: &mut [f32; 32], value: impl Fn(i32) -> f32) {
    let bits = u32::from_le_bytes([packed[0], packed[1], packed[2], packed[3]]);
    // Compared with a mask, not shifted: vectors without AVX2 cannot shift by lane.
    let fifth = |i: usize| if bits & (1 << i) == 0 { 0 } else { 16 };
    let (low, high) = out.split_at_mut(16);
    for (i, ((low, high), &byte)) in low.iter_mut().zip(high).zip(&packed[4..]).enumerate() {
        *low = value(i32::from(byte & 0x0f) | fifth(i));
        *high = value(i32::from(byte >> 4) | fifth(i + 16));
    }
}

/// The steps of the IQ4 types.
const STEPS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], out, |q| d * f32::from(STEPS[usize::from(q)]));
}

fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, high) = (half_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    let (low, quants) = (&block[4..8], &block[8..]);
    let (out, _) = out.as_chunks_mut::<32>();
    for (i, out) in out.iter_mut().enumerate() {
        let scale = (low[i / 2] >> (4 * (i % 2)) & 0x0f) | ((high >> (2 * i) & 3) as u8) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        nibbles(&quants[16 * i..], out, |q| scale * f32::from(STEPS[usize::from(q)]));
    }
}

/// Where the two bits of sub-block `i` of 16 lie: its first byte of 64, and the shift.
fn two_bits(i: usize) -> (usize, usize) {
    // 16 numbers share a scale, 32 a shift, 128 the bytes.
    (i / 8 * 32 + i % 2 * 16, i / 2 % 4 * 2)
}

fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, min) = (d * f32::from(scales[i] & 0x0f), d_min * f32::from(scales[i] >> 4));
        let (first, shift) = two_bits(i);
        for (out, &byte) in out.iter_mut().zip(&quants[first..]) {
            *out = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let low = scales[i % 8] >> (4 * (i / 8)) & 0x0f;
        let scale = low | (scales[8 + i % 4] >> (2 * (i / 4)) & 3) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        let (first, shift) = two_bits(i);
        let bytes = quants[first..].iter().zip(&high[i % 2 * 16..]);
        for (out, (&byte, &high)) in out.iter_mut().zip(bytes) {
            // A high bit that is not set takes four away.
            let four = if high >> (i / 2) & 1 == 0 { 4.0 } else { 0.0 };
            *out = scale * (f32::from(byte >> shift & 3) - four);
        }
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

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
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

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
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

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        // 16 numbers share a scale, 32 a shift, 128 the bytes.
        let (half, part, side) = (i / 8, i / 2 % 4, i % 2 * 16);
        let low = &low[half * 64 + part % 2 * 32 + side..];
        let high = &high[half * 32 + side..];
        let (low_shift, high_shift) = (4 * (part / 2), 2 * part);
        let scale = d * f32::from(scales[i] as i8);
        for (out, (&low, &high)) in out.iter_mut().zip(low.iter().zip(high)) {
            let q = (low >> low_shift & 0x0f) | ((high >> high_shift & 3) << 4);
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}
