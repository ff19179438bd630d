//! Refuses patterns that a backtracking engine can hang on.

use serde::Serialize;
use serde_json::Value;

use super::TokenizerError;

/// Checks every pattern of a tokenizer's normaliser, pre-tokenizer and decoder.
pub(super) fn check(inner: &tokenizers::Tokenizer) -> Result<(), TokenizerError> {
    let parts = [
        as_value(inner.get_normalizer()),
        as_value(inner.get_pre_tokenizer()),
        as_value(inner.get_decoder()),
    ];
    parts.iter().try_for_each(check_value)
}

fn as_value<T: Serialize>(part: Option<&T>) -> Value {
    part.and_then(|part| serde_json::to_value(part).ok()).unwrap_or(Value::Null)
}

fn check_value(value: &Value) -> Result<(), TokenizerError> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value {
            Value::String(pattern) if key == "Regex" && repeats_a_repetition(pattern) => {
                Err(TokenizerError::UnsafePattern { pattern: pattern.clone() })
            }
            _ => check_value(value),
        }),
        Value::Array(list) => list.iter().try_for_each(check_value),
        _ => Ok(()),
    }
}

/// Whether a group that holds an unbounded repetition is itself repeated without bound, as in
/// `(a+)+`: the shape on which backtracking takes time exponential in the text.
fn repeats_a_repetition(pattern: &str) -> bool {
    let chars: Vec<char> = pattern.chars().collect();
    // For each open group, whether an unbounded repetition was seen in it.
    let mut open = vec![false];
    let mut i = 0;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 1,
            '[' => i = class_end(&chars, i),
            '(' => open.push(false),
            ')' if open.len() > 1 => {
                let inner = open.pop().unwrap_or(false);
                let repeated = unbounded(&chars, i + 1);
                if inner && repeated {
                    return true;
                }
                if let Some(outer) = open.last_mut() {
                    *outer |= inner;
                }
            }
            _ => {}
        }
        i += 1;
        if unbounded(&chars, i)
            && let Some(group) = open.last_mut()
        {
            *group = true;
        }
    }
    false
}

/// Whether an unbounded repetition (`+`, `*`, `{n,}`) stands at `i`; possessive ones are safe.
fn unbounded(chars: &[char], i: usize) -> bool {
    match chars.get(i) {
        Some('+' | '*') => chars.get(i + 1) != Some(&'+'),
        Some('{') => {
            let inside: String = chars[i + 1..].iter().take_while(|&&c| c != '}').collect();
            inside.ends_with(',')
        }
        _ => false,
    }
}

fn class_end(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != ']' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_repetition_is_seen_and_published_patterns_pass() {
        for hostile in ["(a+)+", "(?:\\s*x)*y", "((ab*)c)+", "(a|b+){2,}"] {
            assert!(repeats_a_repetition(hostile), "{hostile}");
        }
        for fine in [
            super::super::vocab::LLAMA3_PATTERN,
            super::super::vocab::QWEN2_PATTERN,
            r"'s|'t| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"\p{N}{1,3}",
            r"[(a+)+]+",
            r"\(a+\)+",
        ] {
            assert!(!repeats_a_repetition(fine), "{fine}");
        }
    }
}
