//! GGUF vocabularies as tokenizers.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::known_patterns::{self, Cut};
use super::{MAX_VOCAB, TokenizerError};
use crate::error::NameList;

/// A vocabulary as a GGUF file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct VocabSpec {
    /// How tokens are merged.
    pub model: VocabModel,
    /// Token texts by id.
    pub tokens: Vec<String>,
    /// Token kinds by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    /// Empty means that all are normal.
    pub token_types: Vec<i32>,
    /// Begin-of-text id.
    pub bos: Option<u32>,
    /// End-of-text id.
    pub eos: Option<u32>,
    /// Padding id.
    pub pad: Option<u32>,
    /// Unknown-text id.
    pub unk: Option<u32>,
    /// Whether documents start with `bos`.
    pub add_bos: bool,
    /// Whether documents end with `eos`.
    pub add_eos: bool,
    /// Whether a space is put before a text (SPM alone).
    pub add_space_prefix: bool,
}

/// How the tokens of a vocabulary are merged.
#[derive(Debug, Clone, PartialEq)]
pub enum VocabModel {
    /// Byte-level BPE (GGUF `gpt2`).
    Bpe {
        /// Pairs of tokens separated by a space, best first.
        merges: Vec<String>,
        /// Name of the way text is cut into words (GGUF `tokenizer.ggml.pre`): `gpt-2` (also
        /// `default` and the empty name), `smollm`, `refact`, `llama-bpe`, `dbrx`, `smaug-bpe`,
        /// `qwen2`, `deepseek-r1-qwen`, `tekken` or `gpt-4o`.
        pre: String,
    },
    /// SentencePiece BPE with byte fallback (GGUF `llama`).
    Spm {
        /// Score of each token; a higher score is merged first.
        scores: Vec<f32>,
    },
}

/// The `tokenizer.json` that encodes as the vocabulary's own library does.
pub(super) fn to_json(spec: &VocabSpec) -> Result<Value, TokenizerError> {
    let ids = check(spec)?;
    let mut file = match &spec.model {
        VocabModel::Bpe { merges, pre } => bpe(merges, pre)?,
        VocabModel::Spm { scores } => spm(spec, scores, &ids)?,
    };
    let vocab: Map<String, Value> =
        spec.tokens.iter().zip(0_u32..).map(|(token, id)| (token.clone(), id.into())).collect();
    file["model"]["vocab"] = Value::Object(vocab);
    file["version"] = "1.0".into();
    file["added_tokens"] = spec
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, token)| matches!(kind(spec, *id), 2..=4) && !token.is_empty())
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": kind(spec, id) != 4})
        })
        .collect();
    if let Some(template) = post_processor(spec) {
        file["post_processor"] = template;
    }
    Ok(file)
}

fn kind(spec: &VocabSpec, id: usize) -> i32 {
    spec.token_types.get(id).copied().unwrap_or(1)
}

fn broken(detail: String) -> TokenizerError {
    TokenizerError::Broken { detail }
}

/// Refuses a vocabulary that contradicts itself; gives the ids by token.
fn check(spec: &VocabSpec) -> Result<HashMap<&str, usize>, TokenizerError> {
    let n = spec.tokens.len();
    if n == 0 || n > MAX_VOCAB {
        return Err(broken(format!("its vocabulary has {n} tokens, wanted 1 to {MAX_VOCAB}")));
    }
    let types = spec.token_types.len();
    if types != 0 && types != n {
        return Err(broken(format!("it has {n} tokens but {types} token types")));
    }
    for (name, id) in [("bos", spec.bos), ("eos", spec.eos), ("pad", spec.pad), ("unk", spec.unk)] {
        if let Some(id) = id.filter(|&id| id as usize >= n) {
            return Err(broken(format!("its {name} id {id} is not below the token count {n}")));
        }
    }
    let mut ids = HashMap::with_capacity(n);
    for (id, token) in spec.tokens.iter().enumerate() {
        if kind(spec, id) == 6 && !is_byte_token(token) {
            return Err(broken(format!("token {id} is a byte but reads `{token}`, not `<0xHH>`")));
        }
        if let Some(first) = ids.insert(token.as_str(), id) {
            return Err(broken(format!("tokens {first} and {id} are both `{token}`")));
        }
    }
    Ok(ids)
}

fn is_byte_token(token: &str) -> bool {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn bpe(merges: &[String], pre: &str) -> Result<Value, TokenizerError> {
    let byte_level = |use_regex: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
               "use_regex": use_regex})
    };
    let sequence =
        |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
    let split = |pattern: &str| {
        let pattern = json!({"Regex": pattern});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    let Some(known) = known_patterns::of_gguf(pre) else {
        let known = NameList(known_patterns::gguf_names());
        return Err(TokenizerError::UnknownPre { found: pre.into(), known });
    };
    let pre_tokenizer = match known.cut {
        Cut::Gpt2 => byte_level(true),
        Cut::Digits => {
            sequence(json!({"type": "Digits", "individual_digits": true}), byte_level(true))
        }
        Cut::Pattern(pattern) => sequence(split(pattern), byte_level(false)),
    };
    let pairs: Result<Vec<Value>, TokenizerError> = merges
        .iter()
        .enumerate()
        .map(|(i, merge)| match merge.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(broken(format!("merge {i} is `{merge}`, not two tokens and a space"))),
        })
        .collect();
    let normalizer = if known.nfc { json!({"type": "NFC"}) } else { Value::Null };
    Ok(json!({
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": byte_level(true),
        "model": {"type": "BPE", "unk_token": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": known.ignore_merges, "merges": pairs?},
    }))
}

fn spm(
    spec: &VocabSpec,
    scores: &[f32],
    ids: &HashMap<&str, usize>,
) -> Result<Value, TokenizerError> {
    if scores.len() != spec.tokens.len() {
        let (tokens, scores) = (spec.tokens.len(), scores.len());
        return Err(broken(format!("it has {tokens} tokens but {scores} scores")));
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(broken(format!("the score of token {id} is not a number")));
    }
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if spec.add_space_prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unk = spec.unk.map(|id| spec.tokens[id as usize].clone());
    let merges = merges_of(spec, scores, ids);
    Ok(json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "unk_token": unk, "fuse_unk": true, "byte_fallback": true,
                  "ignore_merges": false, "merges": merges},
    }))
}

/// Every way to put a token together from two others, best score first; between two ways to the
/// same score the one with the longer left part comes first. Only normal tokens take part.
fn merges_of(spec: &VocabSpec, scores: &[f32], ids: &HashMap<&str, usize>) -> Vec<[String; 2]> {
    let normal = |part: &str| ids.get(part).is_some_and(|&id| kind(spec, id) == 1);
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (id, token) in spec.tokens.iter().enumerate().filter(|(id, _)| kind(spec, *id) == 1) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if normal(left) && normal(right) {
                let (n_left, n_right) = (left.chars().count(), right.chars().count());
                merges.push((scores[id] + 0.0, n_left, n_right, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    merges.into_iter().map(|(.., left, right)| [left.into(), right.into()]).collect()
}

/// What `add_bos` and `add_eos` mean, in the tokenizer's own terms.
fn post_processor(spec: &VocabSpec) -> Option<Value> {
    let name = |id: u32| spec.tokens[id as usize].clone();
    let before = spec.bos.filter(|_| spec.add_bos);
    let after = spec.eos.filter(|_| spec.add_eos);
    if before.is_none() && after.is_none() {
        return None;
    }
    let special = |id: u32, kind: u32| json!({"SpecialToken": {"id": name(id), "type_id": kind}});
    let part = |sequence: &str, kind: u32| {
        let text = json!({"Sequence": {"id": sequence, "type_id": kind}});
        let before = before.map(|id| special(id, kind));
        let after = after.map(|id| special(id, kind));
        before.into_iter().chain([text]).chain(after).collect::<Vec<_>>()
    };
    let named: Map<String, Value> = before
        .into_iter()
        .chain(after)
        .map(|id| (name(id), json!({"id": name(id), "ids": [id], "tokens": [name(id)]})))
        .collect();
    let pair = [part("A", 0), part("B", 1)].concat();
    Some(json!({"type": "TemplateProcessing", "single": part("A", 0), "pair": pair,
                "special_tokens": named}))
}
