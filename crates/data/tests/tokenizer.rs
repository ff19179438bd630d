//! Tokenizers: vocabularies of GGUF files, special tokens, streaming, hostile files.

mod bytes;

use proptest::prelude::*;
use rekindle_data::{SpecialTokens, Specials, Tokenizer, TokenizerError, VocabModel, VocabSpec};
use serde_json::{Value, json};

const SPM: &str = include_str!("../../../fixtures/data/spm.json");

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(item).collect()
}

fn id(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn spm_spec(golden: &Value) -> VocabSpec {
    let scores = list(&golden["scores"], |score| score.as_f64().unwrap() as f32);
    VocabSpec {
        model: VocabModel::Spm { scores },
        tokens: list(&golden["tokens"], |token| token.as_str().unwrap().into()),
        token_types: list(&golden["token_types"], |kind| kind.as_i64().unwrap() as i32),
        bos: Some(id(&golden["bos"])),
        eos: Some(id(&golden["eos"])),
        pad: None,
        unk: Some(id(&golden["unk"])),
        add_bos: true,
        add_eos: false,
        add_space_prefix: true,
    }
}

#[test]
fn spm_vocabularies_encode_as_sentencepiece() {
    let golden: Value = serde_json::from_str(SPM).unwrap();
    let tokenizer = Tokenizer::from_vocab(&spm_spec(&golden)).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, Specials::Parse).unwrap();
        assert_eq!(ids, list(&case["ids"], id), "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["decoded"].as_str().unwrap());
    }
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
}

#[test]
fn saving_keeps_ids_and_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let golden: Value = serde_json::from_str(SPM).unwrap();
    for spec in [spm_spec(&golden), bytes::spec(&["h e"])] {
        let tokenizer = Tokenizer::from_vocab(&spec).unwrap();
        tokenizer.save(&path).unwrap();
        let again = Tokenizer::from_file(&path).unwrap();
        let text = "the cat </s> 12\n é";
        for specials in [Specials::Parse, Specials::Plain] {
            let ids = tokenizer.encode(text, specials).unwrap();
            assert_eq!(ids, again.encode(text, specials).unwrap());
            assert_eq!(ids.contains(&spec.eos.unwrap()), specials == Specials::Parse);
        }
        assert_eq!((again.bos(), again.adds_bos()), (spec.bos, true));
        assert_eq!(again.vocab_len(), spec.tokens.len());
        assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
    }
}

#[test]
fn digits_are_cut_as_the_pre_tokenizer_says() {
    let count = |pre: &str| {
        let mut spec = bytes::spec(&["1 2", "12 3", "Ġ 1", "123 4"]);
        let VocabModel::Bpe { merges, .. } = spec.model else { unreachable!() };
        spec.model = VocabModel::Bpe { merges, pre: pre.into() };
        let tokenizer = Tokenizer::from_vocab(&spec).unwrap();
        tokenizer.encode("1234", Specials::Plain).unwrap().len()
    };
    assert_eq!(["gpt-2", "llama-bpe", "qwen2", "smollm"].map(count), [1, 2, 4, 4]);
}

#[test]
fn contradictory_vocabularies_are_refused() {
    let good = bytes::spec(&["h e"]);
    let break_it = |change: fn(&mut VocabSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        let error = Tokenizer::from_vocab(&spec).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        error.to_string()
    };
    let bpe =
        |merge: &str, pre: &str| VocabModel::Bpe { merges: vec![merge.into()], pre: pre.into() };
    assert!(break_it(|s| s.tokens.clear()).contains("0 tokens"));
    assert!(break_it(|s| s.token_types.truncate(3)).contains("3 token types"));
    assert!(break_it(|s| s.eos = Some(9999)).contains("9999"));
    assert!(break_it(|s| s.tokens[9] = s.tokens[8].clone()).contains("8 and 9"));
    assert!(break_it(|s| s.token_types[9] = 6).contains("<0xHH>"));
    let spm = |s: &mut VocabSpec| s.model = VocabModel::Spm { scores: vec![0.0] };
    assert!(break_it(spm).contains("1 scores"));
    for (model, words) in [
        (bpe("h e", "gpt-9"), "`gpt-9`"),
        (bpe("he", "gpt-2"), "merge 0"),
        (bpe("absent token", "gpt-2"), "absent"),
    ] {
        let error = Tokenizer::from_vocab(&VocabSpec { model, ..good.clone() }).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn broken_files_and_hostile_patterns_are_refused() {
    let json = bytes::tokenizer().to_json().unwrap();
    assert_eq!(Tokenizer::from_bytes(&json.as_bytes()[..900]).unwrap_err().exit_code(), 4);
    assert_eq!(Tokenizer::from_bytes(b"{}").unwrap_err().exit_code(), 4);
    let absent = Tokenizer::from_file(std::path::Path::new("absent.json")).unwrap_err();
    assert_eq!(absent.exit_code(), 6);
    let mut hostile: Value = serde_json::from_str(&json).unwrap();
    hostile["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"},
                                      "behavior": "Isolated", "invert": false});
    let error = Tokenizer::from_bytes(hostile.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, TokenizerError::UnsafePattern { .. }), "{error}");
}

#[test]
fn truncation_and_padding_of_the_file_are_not_obeyed() {
    let mut file: Value = serde_json::from_str(&bytes::tokenizer().to_json().unwrap()).unwrap();
    file["truncation"] = json!({"max_length": 2, "strategy": "LongestFirst", "stride": 0,
                                "direction": "Right"});
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("xyzxyz", Specials::Plain).unwrap().len(), 6);
}

#[test]
fn special_names_become_ids_or_an_error() {
    let names = SpecialTokens::from_tokenizer_config(
        &json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": false}),
    );
    let tokenizer = bytes::tokenizer().with_special_tokens(&names).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(0), Some(1), false));
    let names = SpecialTokens { eos_token: Some("<|end|>".into()), ..names };
    let error = bytes::tokenizer().with_special_tokens(&names).unwrap_err();
    assert!(error.to_string().contains("eos token `<|end|>`"), "{error}");
}

#[test]
fn more_ids_than_embedding_rows_are_refused() {
    let tokenizer = bytes::tokenizer();
    let ids = tokenizer.vocab_len();
    tokenizer.check_rows(ids).unwrap();
    let error = tokenizer.check_rows(ids - 1).unwrap_err();
    assert!(error.to_string().contains(&format!("{ids} ids")), "{error}");
    assert_eq!(tokenizer.token_id("hell"), Some(ids as u32 - 1));
    assert_eq!(tokenizer.token_text(ids as u32 - 1).as_deref(), Some("hell"));
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream(true);
    let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
    pieces.extend(stream.finish().unwrap());
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_stream_gives_whole_characters_that_add_up(text in "[a-z é😀▁日 \n]{0,20}") {
        let golden: Value = serde_json::from_str(SPM).unwrap();
        let spm = Tokenizer::from_vocab(&spm_spec(&golden)).unwrap();
        for tokenizer in [bytes::tokenizer(), spm] {
            let ids = tokenizer.encode(&text, Specials::Plain).unwrap();
            let pieces = streamed(&tokenizer, &ids);
            prop_assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{:?}", pieces);
            prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids, true).unwrap());
        }
    }
}

#[test]
fn bytes_of_no_character_come_out_at_the_end() {
    let tokenizer = bytes::tokenizer();
    // The first two bytes of an emoji, then nothing.
    let ids = tokenizer.encode("😀", Specials::Plain).unwrap();
    assert_eq!(streamed(&tokenizer, &ids[..2]), ["\u{FFFD}"]);
    assert_eq!(streamed(&tokenizer, &ids), ["😀"]);
}
