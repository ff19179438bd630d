//! A cache whose slots come in multiples gives what one of the exact length gives.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use rekindle_models::cache::Cache;
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Stop};
use rekindle_testkit::{assert_close, device};

fn model() -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families/qwen3");
    let files = open(&folder).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &device()).unwrap()
}

fn last_row(hidden: Tensor<3>) -> Vec<f32> {
    let [batch, seq, width] = hidden.dims();
    let last = hidden.slice([0..batch, seq - 1..seq, 0..width]);
    last.into_data().try_to_vec().unwrap()
}

#[test]
fn rounded_slots_change_no_hidden_state() {
    let model = model();
    let tokens: Vec<u32> = (0..23).map(|i| (i * 7 + 3) % 32).collect();
    for (prompt, multiple) in [(5, 1), (5, 8), (8, 8), (1, 4), (7, 64)] {
        let mut cache = Cache::new(2, 1, multiple);
        let mut given = vec![last_row(model.hidden_cached(&[&tokens[..prompt]], &mut cache))];
        // Past the first multiple, and the second, so that slots are added twice.
        for token in &tokens[prompt..] {
            given.push(last_row(model.hidden_cached(&[&[*token]], &mut cache)));
        }
        assert_eq!(cache.seen(), [tokens.len()]);
        for (after, row) in given.iter().enumerate() {
            let len = prompt + after;
            let ids: Vec<i32> = tokens[..len].iter().map(|&token| token as i32).collect();
            let ids = Tensor::from_data(TensorData::new(ids, [1, len]), &device());
            let whole = model.hidden(ids, Tensor::ones([1, len], &device()));
            assert_close(row, &last_row(whole), 0.0, 1e-5);
        }
    }
}

#[test]
fn a_batch_of_unequal_prompts_gives_what_each_gives_alone() {
    let model = model();
    let prompts: Vec<Vec<u32>> = (0..16)
        .map(|row| (0..1 + row % 11).map(|i| (row * 5 + i * 3 + 1) % 32).collect())
        .collect();
    let eos = (0..6).map(|token| token * 11).collect();
    let stop = Stop { eos, max_new_tokens: 24 };
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let batch = model.generate_greedy_batch(&rows, &stop);
    let alone: Vec<Vec<u32>> =
        rows.iter().map(|row| model.generate_greedy(row, &stop, |_| true)).collect();
    assert_eq!(batch, alone);
    let mut lengths: Vec<usize> = alone.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 1, "all rows ended together");
}

#[test]
fn empty_prompts_and_prompts_without_room_give_nothing() {
    let model = model();
    let stop = Stop { eos: vec![], max_new_tokens: 3 };
    let full = vec![1; model.arch().max_positions];
    let answers = model.generate_greedy_batch(&[&[], &[5, 6], &full], &stop);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 3, 0]);
    assert!(model.generate_greedy_batch(&[], &stop).is_empty());
}
