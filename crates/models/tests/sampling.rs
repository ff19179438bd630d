//! The distribution of the next token against transformers' logits processors.

use rekindle_models::Sampling;
use rekindle_testkit::Golden;
use serde_json::Value;

fn cases() -> Vec<Sampling> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/sampling/cases.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let plain = Sampling::plain(0);
    let of = |case: &Value| Sampling {
        temperature: case["temperature"].as_f64().unwrap_or(plain.temperature),
        top_k: case["top_k"].as_u64().map_or(plain.top_k, |k| k as usize),
        top_p: case["top_p"].as_f64().unwrap_or(plain.top_p),
        min_p: case["min_p"].as_f64().unwrap_or(plain.min_p),
        repetition_penalty: case["repetition_penalty"].as_f64().unwrap_or(plain.repetition_penalty),
        seed: 0,
    };
    cases.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn distributions_equal_transformers() {
    let golden = Golden::open("models/sampling/sampling.safetensors");
    let scores = golden.floats("scores");
    let texts: Vec<u32> = golden.ints("texts").iter().map(|&id| id as u32).collect();
    let cases = cases();
    assert_eq!(cases.len(), 11);
    for (number, sampling) in cases.iter().enumerate() {
        let wanted = golden.floats(&format!("probabilities.{number}"));
        let rows = scores.chunks_exact(40).zip(texts.chunks_exact(12));
        for ((scores, text), wanted) in rows.zip(wanted.chunks_exact(40)) {
            let mut found = [0.0; 40];
            for (token, p) in sampling.distribution(scores, text) {
                found[token as usize] = p;
            }
            for (token, (found, &wanted)) in found.iter().zip(wanted).enumerate() {
                assert_eq!(*found == 0.0, wanted == 0.0, "case {number}, token {token}");
                let off = (found - f64::from(wanted)).abs();
                assert!(off < 1e-6, "case {number}, token {token}: {found} against {wanted}");
            }
        }
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let plain = Sampling::plain(0);
    let cases = [
        (Sampling { temperature: -1.0, ..plain }, "temperature"),
        (Sampling { temperature: f64::NAN, ..plain }, "temperature"),
        (Sampling { top_p: 0.0, ..plain }, "top_p"),
        (Sampling { top_p: 1.1, ..plain }, "top_p"),
        (Sampling { min_p: -0.1, ..plain }, "min_p"),
        (Sampling { repetition_penalty: 0.0, ..plain }, "repetition_penalty"),
    ];
    for (sampling, name) in cases {
        assert_eq!(sampling.out_of_range().map(|(name, ..)| name), Some(name));
    }
    assert_eq!(plain.out_of_range(), None);
    assert_eq!(Sampling::greedy().out_of_range(), None);
}
