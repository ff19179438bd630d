//! Generation: batches, samples, seeds, probabilities, ends.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use rekindle_models::cache::Cache;
use rekindle_models::load::open;
use rekindle_models::{CausalLm, Decoder, Finish, Generation, Sampling, Tokens};
use rekindle_peft_core::adapter::lora::Lora;
use rekindle_peft_core::{LoraConfig, PeftError, Projection, init};
use rekindle_quant::BaseWeight;
use rekindle_testkit::{assert_close, device};

fn family(name: &str) -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/families");
    let files = open(&folder.join(name)).unwrap();
    Decoder::load(files.source(), &files.arch().unwrap(), &device()).unwrap()
}

fn last_row(hidden: Tensor<3>) -> Vec<f32> {
    let [batch, seq, width] = hidden.dims();
    let last = hidden.slice([0..batch, seq - 1..seq, 0..width]);
    last.into_data().try_to_vec().unwrap()
}

fn rows_of(prompts: &[Vec<u32>]) -> Vec<&[u32]> {
    prompts.iter().map(Vec::as_slice).collect()
}

fn sampled(seed: u64) -> Generation {
    let sampling = Sampling { temperature: 1.3, top_k: 20, top_p: 0.95, ..Sampling::plain(seed) };
    Generation { sampling, ..Generation::greedy(Vec::new(), 20) }
}

#[test]
fn rounded_slots_and_growth_change_no_hidden_state() {
    let model = family("qwen3");
    let tokens: Vec<u32> = (0..23).map(|i| (i * 7 + 3) % 32).collect();
    for (prompt, capacity, multiple) in
        [(5, 23, 1), (5, 30, 8), (8, 1, 8), (1, 6, 4), (7, 64, 64), (3, 0, 1)]
    {
        let mut cache = Cache::new(2, 1, capacity, multiple);
        let mut given = vec![last_row(model.hidden_cached(&[&tokens[..prompt]], &mut cache))];
        for token in &tokens[prompt..] {
            given.push(last_row(model.hidden_cached(&[&[*token]], &mut cache)));
        }
        assert_eq!(cache.seen(), [tokens.len()]);
        for (after, row) in given.iter().enumerate() {
            let len = prompt + after;
            let ids: Vec<i32> = tokens[..len].iter().map(|&token| token as i32).collect();
            let ids = Tensor::from_data(TensorData::new(ids, [1, len]), &device());
            let whole = model.hidden(Tokens::new(ids, Tensor::ones([1, len], &device())));
            assert_close(row, &last_row(whole), 0.0, 1e-5);
        }
    }
}

/// Sixteen prompts of one to eleven tokens.
fn prompts() -> Vec<Vec<u32>> {
    let row = |row: u32| (0..1 + row % 11).map(|i| (row * 5 + i * 3 + 1) % 64).collect();
    (0..16).map(row).collect()
}

#[test]
fn a_batch_of_unequal_prompts_gives_what_each_gives_alone() {
    // A window, rotations that depend on the length, learned positions, experts.
    for name in ["qwen3", "gemma2", "llama_dynamic", "phi3_longrope", "gpt2", "qwen3_moe"] {
        let model = family(name);
        let prompts = prompts();
        let rows = rows_of(&prompts);
        let eos = (0..6).map(|token| token * 11).collect();
        let how = Generation::greedy(eos, 24);
        let batch = model.generate(&rows, &how, |_| true);
        for (row, together) in rows.iter().zip(&batch) {
            assert_eq!(&model.generate(&[row], &how, |_| true)[0], together, "{name}");
        }
        let mut lengths: Vec<usize> = batch.iter().map(|text| text.tokens.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 1, "{name}: all rows ended together");
    }
}

#[test]
fn samples_of_one_prompt_are_those_of_the_prompt_repeated() {
    let model = family("qwen3");
    let prompts = prompts();
    let how = sampled(7);
    let samples = Generation { samples: 3, ..how.clone() };
    let shared = model.generate(&rows_of(&prompts[..4]), &samples, |_| true);
    let repeated: Vec<&[u32]> = (0..12).map(|row| prompts[row / 3].as_slice()).collect();
    assert_eq!(shared, model.generate(&repeated, &how, |_| true));
    assert_ne!(shared[0].tokens, shared[1].tokens);
    assert_ne!(shared, model.generate(&repeated, &sampled(8), |_| true));
}

#[test]
fn log_probabilities_are_those_of_the_text_scored_anew() {
    for name in ["qwen3", "gemma2", "granite"] {
        let model = family(name);
        let prompt = [5, 9, 2];
        let how = Generation { logps: true, ..sampled(3) };
        let mut seen = Vec::new();
        let given = model.generate(&[&prompt], &how, |step| {
            seen.push((step.token, step.logp.unwrap()));
            true
        });
        let given = &given[0];
        let pairs: Vec<(u32, f32)> =
            given.tokens.iter().copied().zip(given.logps.iter().copied()).collect();
        assert_eq!(pairs, seen);
        let text: Vec<i32> =
            prompt.iter().chain(&given.tokens).map(|&token| token as i32).collect();
        let shape = [1, text.len()];
        let ids = Tensor::from_data(TensorData::new(text, shape), &device());
        let logps = model.token_logps(Tokens::new(ids, Tensor::ones(shape, &device())));
        let logps: Vec<f32> = logps.into_data().try_to_vec().unwrap();
        assert_close(&given.logps, &logps[prompt.len() - 1..], 0.0, 1e-4);
    }
}

#[test]
fn the_first_token_is_drawn_from_the_distribution() {
    let model = family("qwen3");
    let sampling = Sampling { top_k: 6, ..Sampling::plain(11) };
    let n = 4000;
    let how = Generation { sampling, samples: n, ..Generation::greedy(Vec::new(), 1) };
    let given = model.generate(&[&[3, 4]], &how, |_| true);
    let ids = Tensor::from_data(TensorData::new(vec![3, 4], [1, 2]), &device());
    let logits = model.logits(Tokens::new(ids, Tensor::ones([1, 2], &device())));
    let wanted = sampling.distribution(&last_row(logits), &[3, 4]);
    assert_eq!(wanted.len(), 6);
    // Pearson's chi-square with five degrees of freedom is above 20.5 once in a thousand.
    let chi_square: f64 = wanted
        .iter()
        .map(|&(token, p)| {
            let found = given.iter().filter(|text| text.tokens == [token]).count() as f64;
            (found - p * n as f64).powi(2) / (p * n as f64)
        })
        .sum();
    assert!(chi_square < 20.5, "chi-square {chi_square}");
    assert!(given.iter().all(|text| wanted.iter().any(|(token, _)| text.tokens == [*token])));
}

#[test]
fn texts_end_by_token_by_length_by_context_or_by_the_caller() {
    let model = family("qwen3");
    let greedy = |eos, most| Generation::greedy(eos, most);
    let whole = model.generate(&[&[5, 6]], &greedy(vec![], 8), |_| true).remove(0);
    assert_eq!((whole.tokens.len(), whole.finish), (8, Finish::Length));
    let stop = whole.tokens[4];
    let first = whole.tokens.iter().position(|&token| token == stop).unwrap();
    let ended = model.generate(&[&[5, 6]], &greedy(vec![stop], 8), |_| true).remove(0);
    assert_eq!((ended.tokens.as_slice(), ended.finish), (&whole.tokens[..=first], Finish::Eos));
    let mut count = 0;
    let cut = model.generate(&[&[5, 6]], &greedy(vec![], 8), |_| {
        count += 1;
        count < 3
    });
    assert_eq!((cut[0].tokens.as_slice(), cut[0].finish), (&whole.tokens[..3], Finish::Caller));
    let full = vec![1; model.arch().max_positions - 2];
    let last = model.generate(&[&full], &greedy(vec![], 8), |_| true).remove(0);
    assert_eq!((last.tokens.len(), last.finish), (2, Finish::Length));
}

#[test]
fn empty_prompts_and_prompts_without_room_give_nothing() {
    let model = family("qwen3");
    let how = Generation::greedy(vec![], 3);
    let full = vec![1; model.arch().max_positions];
    let answers = model.generate(&[&[], &[5, 6], &full], &how, |_| true);
    assert_eq!(answers.iter().map(|it| it.tokens.len()).collect::<Vec<_>>(), [0, 3, 0]);
    assert!(model.generate(&[], &how, |_| true).is_empty());
}

#[test]
fn a_repetition_penalty_changes_a_greedy_text() {
    let model = family("qwen3");
    let plain = Generation::greedy(vec![], 40);
    let sampling = Sampling { repetition_penalty: 5.0, ..Sampling::greedy() };
    let penalised = Generation { sampling, ..plain.clone() };
    let distinct = |how| {
        let mut tokens = model.generate(&[&[5, 6]], &how, |_| true).remove(0).tokens;
        tokens.sort_unstable();
        tokens.dedup();
        tokens.len()
    };
    assert!(distinct(penalised) > distinct(plain));
}

/// `family` with a random adapter on every linear map.
fn adapted(family: Decoder) -> Decoder {
    let config = LoraConfig { r: 4, lora_alpha: 16.0, ..LoraConfig::default() };
    let make = |name: &str, [d_out, d_in]: [usize; 2]| {
        let random = |part: &str, shape: [usize; 2]| {
            let mut rng = init::generator(5, part, name);
            let values = init::uniform(&mut rng, shape[0] * shape[1], 0.4);
            Tensor::from_data(TensorData::new(values, shape), &device())
        };
        let (a, b) = (random("a", [config.r, d_in]), random("b", [d_out, config.r]));
        Ok(Lora::new(a, b, config.scale(), 0.0))
    };
    family.with_adapters(&config, make).unwrap()
}

/// `model` with its adapters added into its weights.
fn merged(model: &Decoder) -> Decoder {
    let merge = |_: &str, it: Projection| {
        let bias = it.bias().map(Param::from_tensor);
        Ok::<_, PeftError>(Projection::new(BaseWeight::frozen(it.merged()), bias))
    };
    model.clone().try_map_projections(merge).unwrap()
}

#[test]
fn texts_with_an_adapter_are_the_merged_models_and_without_it_the_bases() {
    for name in ["qwen3", "gemma2", "gpt2", "phi3_longrope"] {
        let base = family(name);
        let prompts = prompts();
        let rows = rows_of(&prompts);
        for how in [Generation::greedy(Vec::new(), 24), sampled(9)] {
            let of = |model: &Decoder| model.generate(&rows, &how, |_| true);
            let model = adapted(base.clone());
            let (with, before) = (of(&model), of(&base));
            assert_eq!(with, of(&merged(&model)), "{name}");
            assert_ne!(with, before, "{name}: the adapter does nothing");
            assert_eq!(of(&model.without_adapters()), before, "{name}");
            assert_eq!(of(&model), with, "{name}: again with it");
        }
    }
}

#[test]
fn padding_past_the_table_of_positions_changes_no_token() {
    let model = family("gpt2");
    let places = model.arch().max_positions;
    let ids: Vec<i32> = (0..places as i32).map(|at| at * 7 % 60).collect();
    let hidden = |padding: usize| {
        let (len, real) = (places + padding, ids.iter().copied());
        let padded: Vec<i32> = real.chain(std::iter::repeat_n(0, padding)).collect();
        let segments: Vec<i32> = (0..len).map(|at| i32::from(at < places)).collect();
        let tensor = |values| Tensor::from_data(TensorData::new(values, [1, len]), &device());
        let width = model.arch().hidden;
        let all: Tensor<3> = model.hidden(Tokens::new(tensor(padded), tensor(segments)));
        all.slice([0..1, 0..places, 0..width]).into_data().try_to_vec::<f32>().unwrap()
    };
    assert_close(&hidden(9), &hidden(0), 0.0, 1e-6);
}
