//! Tokenizer files that are broken or hostile, and texts on which a pattern gives up (M3, M4).

mod bytes;

use std::time::{Duration, Instant};

use rekindle_data::{
    Record, Renderer, RowError, Specials, Tokenizer, TokenizerError, TooLong, VocabModel,
};
use serde_json::{Value, json};

/// The `tokenizer.json` of the byte-level tokenizer, changed.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, TokenizerError> {
    let mut file: Value = serde_json::from_str(&bytes::tokenizer().to_json().unwrap()).unwrap();
    change(&mut file);
    Tokenizer::from_bytes(file.to_string().as_bytes())
}

fn with_pattern(pattern: &str) -> Result<Tokenizer, TokenizerError> {
    changed(|file| {
        file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": pattern},
                                       "behavior": "Isolated", "invert": false});
    })
}

#[track_caller]
fn refused(outcome: Result<Tokenizer, TokenizerError>, words: &[&str]) {
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    for part in words {
        assert!(error.to_string().contains(part), "wanted `{part}` in: {error}");
    }
}

#[test]
fn an_id_beyond_all_sense_is_refused() {
    let file = json!({"version": "1.0", "added_tokens": [], "model":
        {"type": "BPE", "vocab": {"a": 0, "b": 10_000_000}, "merges": []}});
    refused(Tokenizer::from_bytes(file.to_string().as_bytes()), &["10000001 ids"]);
}

#[test]
fn ids_may_have_gaps() {
    let file = json!({"version": "1.0", "added_tokens": [], "model":
        {"type": "BPE", "vocab": {"a": 0, "b": 70}, "merges": []}});
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.vocab_len(), 71);
    refused(tokenizer.check_rows(70).map(|()| tokenizer.clone()), &["71 ids"]);
}

#[test]
fn merges_of_absent_tokens_are_refused_by_name() {
    let merges = |merges: Value| changed(|file| file["model"]["merges"] = merges);
    refused(merges(json!([["h", "nowhere"]])), &["nowhere"]);
    // Both parts are there, but what they make is not.
    refused(merges(json!([["h", "z"]])), &["hz"]);
}

#[test]
fn a_file_that_is_cut_off_is_named() {
    let json = bytes::tokenizer().to_json().unwrap();
    for end in [0, 1, 900, json.len() - 1] {
        refused(Tokenizer::from_bytes(&json.as_bytes()[..end]), &["tokenizer.json"]);
    }
}

#[test]
fn patterns_that_repeat_a_choice_are_refused_at_load() {
    for pattern in ["(a+)+$", "(a|aa)+$", "(a|a)*$", "(a{1,9})+$"] {
        let error = with_pattern(pattern).unwrap_err();
        assert!(matches!(&error, TokenizerError::UnsafePattern { .. }), "{pattern}: {error}");
        refused(Err(error), &[pattern]);
    }
}

#[test]
fn a_pattern_that_gives_up_is_an_error_of_its_row() {
    // No repeated group, but some 10⁸ ways to cut 60 letters into seven runs.
    let tokenizer = with_pattern("a*a*a*a*a*a*a*$").unwrap();
    let text = "a".repeat(60) + "b";
    let start = Instant::now();
    let error = tokenizer.encode(&text, Specials::Plain).unwrap_err();
    assert!(error.to_string().contains("retry-limit"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let renderer =
        Renderer { tokenizer, template: None, max_tokens: 8, too_long: TooLong::TruncateRight };
    let error = renderer.render(&Record::Text(text)).unwrap_err();
    assert!(matches!(error, RowError::Tokenizer { .. }), "{error}");
    // The tokenizer is as good as before.
    renderer.render(&Record::Text("ab".into())).unwrap();
}

#[test]
fn ten_million_spaces_are_an_error_of_their_row() {
    let mut spec = bytes::spec(&["Ġ Ġ"]);
    let VocabModel::Bpe { merges, .. } = spec.model else { unreachable!() };
    spec.model = VocabModel::Bpe { merges, pre: "llama-bpe".into() };
    let tokenizer = Tokenizer::from_vocab(&spec).unwrap();
    let error = tokenizer.encode(&" ".repeat(10_000_000), Specials::Plain).unwrap_err();
    assert!(matches!(error, TokenizerError::Failed { .. }), "{error}");
    assert_eq!(tokenizer.encode(&" ".repeat(1000), Specials::Plain).unwrap().len(), 500);
}
