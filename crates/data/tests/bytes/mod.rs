//! A byte-level tokenizer with a handful of special tokens, made in memory.

use rekindle_data::{Tokenizer, VocabModel, VocabSpec};

pub const SPECIALS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"];

/// GPT-2's printable character for a byte.
fn printable(byte: u8) -> char {
    let own = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if own(byte) {
        return char::from(byte);
    }
    let nth = (0..byte).filter(|&b| !own(b)).count() as u32;
    char::from_u32(256 + nth).unwrap()
}

/// Special tokens first, then one token a byte, then the merged ones.
pub fn spec(merges: &[&str]) -> VocabSpec {
    let mut tokens: Vec<String> = SPECIALS.map(String::from).to_vec();
    tokens.extend((0..=255).map(|byte| printable(byte).to_string()));
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut token_types = vec![1; tokens.len()];
    token_types[..SPECIALS.len()].fill(3);
    let merges = merges.iter().map(|&merge| merge.into()).collect();
    VocabSpec {
        model: VocabModel::Bpe { merges, pre: "gpt-2".into() },
        tokens,
        token_types,
        bos: Some(2),
        eos: Some(3),
        pad: None,
        unk: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: false,
    }
}

pub fn tokenizer() -> Tokenizer {
    Tokenizer::from_vocab(&spec(&["Ġ a", "h e", "l l", "he ll"])).unwrap()
}
