//! Little-endian floats in a file, as f32.
//!
//! Each function takes whole numbers; bytes of a last, unfinished one are left out.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Numbers handed to a thread at a time.
pub(crate) const CHUNK: usize = 1 << 15;

/// 32-bit floats.
pub fn from_f32(bytes: &[u8]) -> Vec<f32> {
    widen(bytes, |stored, out| {
        for (out, &number) in out.iter_mut().zip(stored) {
            *out = f32::from_le_bytes(number);
        }
    })
}

/// bfloat16: the upper half of a 32-bit float.
pub fn from_bf16(bytes: &[u8]) -> Vec<f32> {
    widen(bytes, |stored, out| {
        for (out, &number) in out.iter_mut().zip(stored) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(number)) << 16);
        }
    })
}

/// 16-bit floats of IEEE 754.
pub fn from_f16(bytes: &[u8]) -> Vec<f32> {
    // Converted by the slice: one by one, every number would ask again what the processor can do.
    const AT_ONCE: usize = 64;
    widen(bytes, |stored: &[[u8; 2]], out| {
        let mut narrow = [f16::ZERO; AT_ONCE];
        for (out, stored) in out.chunks_mut(AT_ONCE).zip(stored.chunks(AT_ONCE)) {
            for (narrow, &number) in narrow.iter_mut().zip(stored) {
                *narrow = f16::from_le_bytes(number);
            }
            narrow[..out.len()].convert_to_f32_slice(out);
        }
    })
}

fn widen<const SIZE: usize>(
    bytes: &[u8],
    convert: impl Fn(&[[u8; SIZE]], &mut [f32]) + Sync,
) -> Vec<f32> {
    let (stored, _) = bytes.as_chunks::<SIZE>();
    let mut out = vec![0.0; stored.len()];
    let pieces = out.par_chunks_mut(CHUNK).zip(stored.par_chunks(CHUNK));
    pieces.for_each(|(out, stored)| convert(stored, out));
    out
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn every_16_bit_float_widens_to_its_value() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let (f16s, bf16s) = (from_f16(&bytes), from_bf16(&bytes));
        assert_eq!(f16s.len(), 1 << 16);
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16s[usize::from(bits)], f16::from_bits(bits).to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "f16 {bits:#06x}");
            let (ours, theirs) = (bf16s[usize::from(bits)], bf16::from_bits(bits).to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "bf16 {bits:#06x}");
        }
    }

    #[test]
    fn an_unfinished_last_number_is_left_out() {
        assert_eq!(from_f32(&[0, 0, 128, 63, 9, 9, 9]), [1.0]);
        assert_eq!(from_f16(&[0]), [0.0; 0]);
    }
}
