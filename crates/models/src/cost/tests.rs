use super::*;
use crate::arch::{Family, Layer, RopeScaling, RopeSpec, Scales};

fn arch() -> Arch {
    Arch {
        family: Family::Llama,
        hidden: 64,
        layers: vec![Layer::FULL; 2],
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        intermediate: 128,
        vocab: 512,
        norm_eps: 1e-5,
        rope: Some(RopeSpec { theta: 1e4, dims: 16, scaling: RopeScaling::None }),
        local_rope: None,
        tied_head: true,
        max_positions: 64,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        experts: None,
        scales: Scales::default(),
        initializer_range: 0.02,
        bos: None,
        eos: vec![1],
        pad: None,
    }
}

fn adapters(arch: &Arch) -> Trained {
    let maps = arch.entries().into_iter().filter(|it| matches!(it.shape, Shape::Map(_)));
    let names = maps.map(|it| arch.family.name(it.slot)).collect();
    Trained::Adapters { r: 16, names }
}

const FULL: Trained = Trained::Weights { frozen_embeddings: false, first_block: 0 };

#[test]
fn operations_follow_from_the_shape() {
    let arch = arch();
    let lora = adapters(&arch);
    let flops = Flops::of(&arch, &lora, 8, Recompute::ALL);
    // A layer: q and o 64·64, k and v 64·32, three of 64·128; the head 64·512.
    assert_eq!(flops.n_matmul, 2.0 * 36_864.0 + 32_768.0);
    assert_eq!(flops.n_recomputed, 2.0 * (36_864.0 - 8_192.0));
    assert_eq!(flops.n_adapters, 2.0 * 16.0 * (2.0 * 128.0 + 2.0 * 96.0 + 3.0 * 192.0));
    assert_eq!(flops.attention, 2.0 * 8.0 * 64.0 * 2.0);
    assert_eq!(flops.per_token(&FULL), 6.0 * flops.n_matmul + 3.0 * flops.attention);
    let done = flops.done_per_token(&FULL);
    assert_eq!(done, flops.per_token(&FULL) + 2.0 * flops.n_recomputed + flops.attention);
}

#[test]
fn bytes_follow_from_the_shape_and_from_what_is_trained() {
    let arch = arch();
    let size = StepSize { rows: 2, seq: 8, targets: 16 };
    let of = |trained: &Trained, recompute| Footprint::of(&arch, trained, size, recompute, 4);
    let full = of(&FULL, Recompute::NONE);
    let numbers = arch.n_parameters() as u64;
    assert_eq!((full.weights, full.trained, full.adapters), (4 * numbers, numbers, 0));
    let lora = of(&adapters(&arch), Recompute::NONE);
    let pairs = 2 * 16 * (2 * 128 + 2 * 96 + 3 * 192);
    assert_eq!((lora.weights, lora.trained), (4 * numbers, pairs));
    // Four streams, q, k, v and the attention's result, gate, up and their product, seven
    // low-rank activations; and a log-sum-exp a head.
    let a_token = 4 * 64 + 64 + 2 * 32 + 64 + 3 * 128 + 7 * 16;
    assert_eq!(lora.kept, 2 * 16 * 4 * (a_token + 4));
    let again = of(&adapters(&arch), Recompute::ALL);
    assert_eq!((again.kept, again.block_inputs), (0, 2 * 16 * 64 * 4));
    assert_eq!(again.working, lora.kept / 2 + lora.working);
    assert!(again.peak(0, false) < lora.peak(0, false));
    let frozen = Trained::Weights { frozen_embeddings: true, first_block: 1 };
    let part = of(&frozen, Recompute::NONE);
    let block = 36_864 + 2 * 64;
    assert_eq!(part.trained, block + 64);
    assert!(part.kept < full.kept && part.loss < full.loss);
}
