//! Texts that share a row are to each other as if they stood alone.

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use proptest::prelude::*;
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Tokens};
use rekindle_testkit::device;

/// Rotations of several kinds, learned positions, windows shorter than a text, caps, experts.
const FAMILIES: [&str; 8] = [
    "gemma2",
    "gemma3_text",
    "gpt2",
    "llama3",
    "llama_yarn",
    "mixtral",
    "phi3_window",
    "qwen3_window",
];

fn decoder(family: &str) -> Decoder {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families");
    let files = open(&families.join(family)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &device()).unwrap()
}

fn tensor(values: Vec<i32>, shape: [usize; 2]) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// Token ids of text number `index`.
fn text(index: usize, len: usize) -> Vec<i32> {
    (0..len).map(|at| 3 + ((index * 11 + at * 7) % 20) as i32).collect()
}

/// `−log p` of every token but the first of a text that has a row to itself.
fn alone(model: &Decoder, ids: &[i32]) -> Vec<f32> {
    let shape = [1, ids.len()];
    let tokens = Tokens::new(tensor(ids.to_vec(), shape), Tensor::ones(shape, &device()));
    model.token_logps(tokens).into_data().try_to_vec().unwrap()
}

fn check(model: &Decoder, lengths: &[usize], padding: usize) {
    let texts: Vec<Vec<i32>> =
        lengths.iter().enumerate().map(|(index, &len)| text(index, len)).collect();
    let seq = lengths.iter().sum::<usize>() + padding;
    let mut ids = texts.concat();
    ids.resize(seq, 2);
    let mut segments: Vec<i32> = lengths
        .iter()
        .zip(1..)
        .flat_map(|(&len, segment)| std::iter::repeat_n(segment, len))
        .collect();
    segments.resize(seq, 0);
    let mut positions: Vec<u32> = lengths.iter().flat_map(|&len| 0..len as u32).collect();
    positions.resize(seq, 0);
    let tokens = Tokens::new(tensor(ids, [1, seq]), tensor(segments, [1, seq])).at(vec![positions]);
    let packed: Vec<f32> = model.token_logps(tokens).into_data().try_to_vec().unwrap();
    let mut start = 0;
    for text in &texts {
        let wanted = alone(model, text);
        let found = &packed[start..start + text.len() - 1];
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-5, "{found} and {wanted}");
        }
        let sum = |of: &[f32]| of.iter().map(|&it| f64::from(it)).sum::<f64>() / of.len() as f64;
        let (found, wanted) = (sum(found), sum(&wanted));
        assert!((found - wanted).abs() <= 1e-6, "mean of a text: {found} and {wanted}");
        start += text.len();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_packed_text_has_the_loss_it_has_alone(
        lengths in prop::collection::vec(2usize..20, 1..5), padding in 0usize..5,
    ) {
        for family in FAMILIES {
            check(&decoder(family), &lengths, padding);
        }
    }
}

#[test]
fn texts_longer_than_a_block_of_queries_are_packed_too() {
    for family in ["llama3", "gemma2"] {
        check(&decoder(family), &[50, 70, 9, 130], 3);
    }
}
