//! The shapes of models that benchmarks are run on.

use clap::ValueEnum;
use rekindle_models::Arch;
use rekindle_models::arch::{Family, Layer, RopeScaling, RopeSpec, Scales};

/// A model's shape, without its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Two layers of width 64: to see that a benchmark works.
    #[value(name = "tiny")]
    Tiny,
    /// Four layers of width 192: a step in well under a second on a processor.
    #[value(name = "small")]
    Small,
    /// SmolLM2 135M: 30 layers of width 576, tied head of 49152.
    #[value(name = "smollm2-135m")]
    SmolLm2_135m,
    /// Llama 3.2 1B: 16 layers of width 2048, tied head of 128256.
    #[value(name = "llama-3.2-1b")]
    Llama32_1b,
}

impl Shape {
    /// The shape's name on command lines and in results.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The architecture of that shape.
    pub fn arch(self) -> Arch {
        match self {
            Self::Tiny => llama([64, 128, 2], [4, 2, 16], 512, 1e4),
            Self::Small => llama([192, 512, 4], [6, 2, 32], 2048, 1e4),
            Self::SmolLm2_135m => {
                Arch { max_positions: 8192, ..llama([576, 1536, 30], [9, 3, 64], 49152, 1e5) }
            }
            Self::Llama32_1b => {
                let mut arch = llama([2048, 8192, 16], [32, 8, 64], 128_256, 5e5);
                arch.max_positions = 131_072;
                let scaling = RopeScaling::Llama3 {
                    factor: 32.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_positions: 8192,
                };
                arch.rope = Some(RopeSpec { theta: 5e5, dims: 64, scaling });
                arch
            }
        }
    }
}

/// A Llama with a tied head: `[hidden, intermediate, layers]` and `[heads, kv_heads, head_dim]`.
fn llama(widths: [usize; 3], heads: [usize; 3], vocab: usize, theta: f64) -> Arch {
    let [hidden, intermediate, n_layers] = widths;
    let [heads, kv_heads, head_dim] = heads;
    Arch {
        family: Family::Llama,
        hidden,
        layers: vec![Layer::FULL; n_layers],
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocab,
        norm_eps: 1e-5,
        rope: Some(RopeSpec { theta, dims: head_dim, scaling: RopeScaling::None }),
        local_rope: None,
        tied_head: true,
        max_positions: 2048,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        experts: None,
        scales: Scales::default(),
        initializer_range: 0.02,
        bos: None,
        eos: Vec::new(),
        pad: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_valid_architecture() {
        for shape in Shape::value_variants() {
            shape.arch().check().unwrap();
        }
    }

    #[test]
    fn parameter_counts_are_those_published() {
        assert_eq!(Shape::SmolLm2_135m.arch().n_parameters(), 134_515_008);
        assert_eq!(Shape::Llama32_1b.arch().n_parameters(), 1_235_814_400);
    }
}
