//! How many floating point operations a training step asks for.

use rekindle_models::Arch;

use crate::Method;

/// The counts that FLOPs per token are made of.
///
/// A multiply-add is two FLOPs. Embedding look-ups, norms and elementwise work count nothing, and
/// neither does recomputation: these are the operations of the mathematics, not of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Weights of all linear maps, the head included.
    pub n_matmul: f64,
    /// Weights of a LoRA of rank `r` on every linear map but the head.
    pub n_lora: f64,
    /// FLOPs per token of causal attention, forward: `2 · seq · heads · head_dim · layers`.
    pub attention: f64,
}

impl Flops {
    /// The counts of `arch` at `seq` tokens with adapters of rank `r`.
    pub fn of(arch: &Arch, seq: usize, r: usize) -> Self {
        let (q, kv) = (arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim);
        let (hidden, wide) = (arch.hidden, arch.intermediate);
        let linears = [
            [hidden, q],
            [hidden, kv],
            [hidden, kv],
            [q, hidden],
            [hidden, wide],
            [hidden, wide],
            [wide, hidden],
        ];
        let weights: usize = linears.iter().map(|[d_in, d_out]| d_in * d_out).sum();
        let low_rank: usize = linears.iter().map(|[d_in, d_out]| r * (d_in + d_out)).sum();
        Self {
            n_matmul: (weights * arch.n_layers() + hidden * arch.vocab) as f64,
            n_lora: (low_rank * arch.n_layers()) as f64,
            attention: 2.0 * (seq * q * arch.n_layers()) as f64,
        }
    }

    /// FLOPs per token of one step, forward and backward.
    ///
    /// Full: `6 N_matmul + 3 A`. LoRA: `4 N_matmul + 6 N_lora + 3 A`, as a frozen weight has no
    /// weight gradient.
    pub fn per_token(&self, method: Method) -> f64 {
        match method {
            Method::Full => 6.0 * self.n_matmul + 3.0 * self.attention,
            Method::Lora => 4.0 * self.n_matmul + 6.0 * self.n_lora + 3.0 * self.attention,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn counts_follow_from_the_shape() {
        let flops = Flops::of(&Shape::Tiny.arch(), 8, 16);
        // A layer: q and o 64·64, k and v 64·32, three of 64·128; the head 64·512.
        assert_eq!(flops.n_matmul, 2.0 * 36_864.0 + 32_768.0);
        assert_eq!(flops.n_lora, 2.0 * 16.0 * (2.0 * 128.0 + 2.0 * 96.0 + 3.0 * 192.0));
        assert_eq!(flops.attention, 2.0 * 8.0 * 64.0 * 2.0);
        let full = flops.per_token(Method::Full);
        assert_eq!(full, 6.0 * flops.n_matmul + 3.0 * flops.attention);
    }
}
