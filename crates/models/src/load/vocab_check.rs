//! Whether a GGUF file's vocabulary agrees with itself.

use super::GgufVocab;
use crate::error::ModelError;

/// ggml's number for tokens that stand for one byte.
const BYTE: i32 = 6;

/// Checks lengths, types, byte tokens, special tokens and merges.
pub(super) fn check(vocab: &GgufVocab) -> Result<(), ModelError> {
    let problem = lengths(vocab)
        .or_else(|| token_types(vocab))
        .or_else(|| special_tokens(vocab))
        .or_else(|| merges(vocab));
    match problem {
        Some(reason) => Err(ModelError::BadVocab { reason }),
        None => Ok(()),
    }
}

/// The lists that go by token are as long as the tokens; scores may be absent.
fn lengths(vocab: &GgufVocab) -> Option<String> {
    let n_tokens = vocab.tokens.len();
    let lists = [
        ("token_type", vocab.token_types.len(), false),
        ("scores", vocab.scores.len(), vocab.model != "llama"),
    ];
    let (name, len, _) =
        lists.into_iter().find(|&(_, len, optional)| len != n_tokens && !(optional && len == 0))?;
    Some(format!("`tokenizer.ggml.{name}` has {len} entries for {n_tokens} tokens"))
}

fn token_types(vocab: &GgufVocab) -> Option<String> {
    for (id, (token, &kind)) in vocab.tokens.iter().zip(&vocab.token_types).enumerate() {
        if !(0..=6).contains(&kind) {
            return Some(format!("token {id} has the type {kind}; wanted 0 to 6"));
        }
        if kind == BYTE && !is_byte(token) {
            return Some(format!(
                "token {id} is a byte token, but its text is `{}`; wanted `<0x00>` to `<0xFF>`",
                token.escape_debug()
            ));
        }
    }
    None
}

fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|it| it.len() == 2 && it.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn special_tokens(vocab: &GgufVocab) -> Option<String> {
    let special =
        [("bos", vocab.bos), ("eos", vocab.eos), ("padding", vocab.pad), ("unknown", vocab.unk)];
    let n_tokens = vocab.tokens.len();
    let (name, id) = special
        .into_iter()
        .filter_map(|(name, id)| Some((name, id?)))
        .find(|&(_, id)| id as usize >= n_tokens)?;
    Some(format!("`tokenizer.ggml.{name}_token_id` is {id}; there are {n_tokens} tokens"))
}

fn merges(vocab: &GgufVocab) -> Option<String> {
    let is_pair = |merge: &&String| {
        merge.split_once(' ').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty())
    };
    let (index, merge) = vocab.merges.iter().enumerate().find(|(_, merge)| !is_pair(merge))?;
    let merge = merge.escape_debug();
    Some(format!("merge {index} is `{merge}`; wanted two tokens with a space between them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab() -> GgufVocab {
        GgufVocab {
            model: "llama".to_owned(),
            pre: "default".to_owned(),
            tokens: ["<unk>", "<s>", "</s>", "<0x0A>", "a"].map(str::to_owned).to_vec(),
            token_types: vec![2, 3, 3, 6, 1],
            scores: vec![0.0; 5],
            merges: Vec::new(),
            bos: Some(1),
            eos: Some(2),
            pad: None,
            unk: Some(0),
            add_bos: true,
            add_eos: false,
            add_space_prefix: true,
        }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut GgufVocab), wanted: &str) {
        let mut vocab = vocab();
        change(&mut vocab);
        let error = check(&vocab).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains(wanted), "`{wanted}` is not in: {error}");
    }

    #[test]
    fn a_sound_vocabulary_passes() {
        check(&vocab()).unwrap();
    }

    #[test]
    fn g10_byte_tokens_that_are_no_byte_are_refused() {
        for text in
            ["<0x-1>", "<0xGG>", "<0x+1>", "<0x100>", "<0x1>", "<0x>", "0x0A", "<0x0\u{e9}>"]
        {
            let said = "token 3 is a byte token";
            refused(|vocab| vocab.tokens[3] = text.to_owned(), said);
        }
    }

    #[test]
    fn lists_of_another_length_are_refused() {
        refused(|it| it.scores.truncate(3), "`tokenizer.ggml.scores` has 3 entries for 5 tokens");
        refused(|it| it.scores.clear(), "`tokenizer.ggml.scores` has 0 entries");
        refused(|it| it.token_types.push(1), "`tokenizer.ggml.token_type` has 6 entries");
    }

    #[test]
    fn special_tokens_beyond_the_list_are_refused() {
        refused(|it| it.eos = Some(5), "`tokenizer.ggml.eos_token_id` is 5; there are 5 tokens");
        refused(|it| it.pad = Some(u32::MAX), "`tokenizer.ggml.padding_token_id`");
    }

    #[test]
    fn unknown_token_types_and_lone_merges_are_refused() {
        refused(|it| it.token_types[4] = 7, "token 4 has the type 7");
        refused(|it| it.token_types[4] = -1, "token 4 has the type -1");
        refused(|it| it.merges = vec!["a b".into(), "ab".into()], "merge 1 is `ab`");
        refused(|it| it.merges = vec![" b".into()], "merge 0 is ` b`");
    }
}
