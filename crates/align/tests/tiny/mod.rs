//! The architecture that the tests of this folder train.

use rekindle_models::Arch;
use rekindle_models::arch::{Family, Layer, RopeScaling, RopeSpec, Scales};

/// Two blocks of width 16, whose weights start with this deviation.
pub fn arch(initializer_range: f64) -> Arch {
    Arch {
        family: Family::Llama,
        hidden: 16,
        layers: vec![Layer::FULL; 2],
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        intermediate: 24,
        vocab: 32,
        norm_eps: 1e-5,
        rope: Some(RopeSpec { theta: 10_000.0, dims: 4, scaling: RopeScaling::None }),
        local_rope: None,
        tied_head: true,
        max_positions: 64,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        experts: None,
        scales: Scales::default(),
        initializer_range,
        bos: None,
        eos: vec![1],
        pad: Some(0),
    }
}
