//! Byte-level vocabularies of GGUF files are cut into words as Hugging Face's tokenizers cut.

use rekindle_data::{Specials, Tokenizer, TokenizerError, VocabModel, VocabSpec};
use serde_json::Value;

const GOLDEN: &str = include_str!("../../../fixtures/data/pre_tokenizers.json");

/// Names that stand for one and the same way; the first of a row has a golden case.
const SAME: [&[&str]; 7] = [
    &["gpt-2", "gpt2", "default", ""],
    &["smollm", "refact"],
    &["llama-bpe", "llama3", "llama-v3"],
    &["dbrx", "smaug-bpe"],
    &["qwen2", "deepseek-r1-qwen"],
    &["tekken"],
    &["gpt-4o"],
];

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().into()).collect()
}

fn ids(list: &Value) -> Vec<u32> {
    let id = |id: &Value| u32::try_from(id.as_u64().unwrap()).unwrap();
    list.as_array().unwrap().iter().map(id).collect()
}

/// A family's vocabulary as a GGUF file holds it, cut in the way that `pre` names.
fn from_gguf(family: &Value, pre: &str) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_vocab(&VocabSpec {
        model: VocabModel::Bpe { merges: texts(&family["merges"]), pre: pre.into() },
        tokens: texts(&family["tokens"]),
        token_types: Vec::new(),
        bos: None,
        eos: None,
        pad: None,
        unk: None,
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
    })
}

/// The texts whose ids differ from the family's own when they are cut in the way that `pre` names.
fn differing(golden: &Value, family: &str, pre: &str) -> Vec<String> {
    let family = &golden["families"][family];
    let tokenizer = from_gguf(family, pre).unwrap();
    let cases = texts(&golden["texts"]).into_iter().zip(family["ids"].as_array().unwrap());
    cases
        .filter(|(text, wanted)| tokenizer.encode(text, Specials::Plain).unwrap() != ids(wanted))
        .map(|(text, _)| text)
        .collect()
}

#[test]
fn every_pre_tokenizer_gives_hugging_faces_ids() {
    let golden = golden();
    for family in golden["families"].as_object().unwrap().keys() {
        assert_eq!(differing(&golden, family, family), [""; 0], "{family}");
    }
}

#[test]
fn other_names_of_a_pre_tokenizer_mean_the_same() {
    let golden = golden();
    for names in SAME {
        for name in names {
            assert_eq!(differing(&golden, names[0], name), [""; 0], "{name}");
        }
    }
}

#[test]
fn no_pre_tokenizer_passes_for_another() {
    let golden = golden();
    for (i, own) in SAME.iter().enumerate() {
        for (_, other) in SAME.iter().enumerate().filter(|(j, _)| *j != i) {
            assert!(!differing(&golden, own[0], other[0]).is_empty(), "{} as {}", own[0], other[0]);
        }
    }
}

#[test]
fn the_names_that_a_refusal_lists_are_those_that_are_tested() {
    let error = from_gguf(&golden()["families"]["gpt-2"], "gpt-9").unwrap_err();
    let TokenizerError::UnknownPre { found, known } = error else { panic!("{error}") };
    let tested: Vec<_> = SAME.concat().into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!((found.as_str(), known.0), ("gpt-9", tested.iter().map(|&it| it.into()).collect()));
}
