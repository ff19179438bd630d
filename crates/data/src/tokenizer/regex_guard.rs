//! Refuses patterns that a backtracking engine can hang on.

use serde::Serialize;
use serde_json::Value;

use super::TokenizerError;
use super::known_patterns::KNOWN_PATTERNS;

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
            Value::String(pattern) if key == "Regex" && !is_fit(pattern) => {
                Err(TokenizerError::UnsafePattern { pattern: pattern.clone() })
            }
            _ => check_value(value),
        }),
        Value::Array(list) => list.iter().try_for_each(check_value),
        _ => Ok(()),
    }
}

fn is_fit(pattern: &str) -> bool {
    KNOWN_PATTERNS.contains(&pattern) || !repeats_a_choice(pattern)
}

/// Whether a group that can match in more than one way, by a repetition or by alternatives, is
/// itself repeated, as in `(a+)+`, `(a|aa)+` or `(a{1,9}){9,}`: the shapes on which backtracking
/// takes time exponential in the text. Many harmless patterns have that shape as well; none of
/// the published ones that are known does.
fn repeats_a_choice(pattern: &str) -> bool {
    let chars: Vec<char> = pattern.chars().collect();
    // For each open group, whether it can match in more than one way.
    let mut open = vec![false];
    let mut i = 0;
    while i < chars.len() {
        let mut choice = false;
        match chars[i] {
            '\\' => i += 1,
            '[' => i = class_end(&chars, i),
            '(' => {
                open.push(false);
                // The `?` of `(?:`, `(?!` or `(?i:` repeats nothing.
                i += usize::from(chars.get(i + 1) == Some(&'?'));
            }
            ')' if open.len() > 1 => {
                choice = open.pop().unwrap_or(false);
                if choice && repetition(&chars, i + 1) == Repetition::Many {
                    return true;
                }
            }
            '|' => choice = true,
            _ => {}
        }
        i += 1;
        choice |= repetition(&chars, i) != Repetition::Fixed;
        if let Some(group) = open.last_mut() {
            *group |= choice;
        }
    }
    false
}

/// How often what stands before a place is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repetition {
    /// Once, or a fixed small number of times.
    Fixed,
    /// A number of times that varies, below [`MANY`].
    Few,
    /// [`MANY`] times or without bound.
    Many,
}

/// From how many times on a repetition counts as one without bound.
const MANY: usize = 10;

/// The repetition that stands at `i`; a possessive one gives nothing back and is safe.
fn repetition(chars: &[char], i: usize) -> Repetition {
    match chars.get(i) {
        Some('+' | '*') if chars.get(i + 1) == Some(&'+') => Repetition::Fixed,
        Some('+' | '*') => Repetition::Many,
        Some('?') => Repetition::Few,
        Some('{') => {
            let inside: String = chars[i + 1..].iter().take_while(|&&c| c != '}').collect();
            let (least, most) = inside.split_once(',').unwrap_or((&inside, &inside));
            match most.parse::<usize>() {
                Ok(most) if most >= MANY => Repetition::Many,
                Ok(_) if least == most => Repetition::Fixed,
                Ok(_) => Repetition::Few,
                Err(_) if most.is_empty() && !least.is_empty() => Repetition::Many,
                // A brace that is only a character.
                Err(_) => Repetition::Fixed,
            }
        }
        _ => Repetition::Fixed,
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
    fn repeated_choices_are_seen() {
        for hostile in [
            "(a+)+",
            "(?:\\s*x)*y",
            "((ab*)c)+",
            "(a|b+){2,}",
            "(a|aa)+$",
            "(a|a)*$",
            "(a{1,9})+$",
            "(a|aa){40}",
            "(a?){50}",
            "((?:a|aa)b?)+",
            "(a{1,9}){,30}",
        ] {
            assert!(repeats_a_choice(hostile), "{hostile}");
        }
    }

    #[test]
    fn published_patterns_pass_even_without_the_list_of_known_ones() {
        let others =
            [r"[(a+)+]+", r"\(a+\)+", "(?:ab){3}c+", "(a|b)?", "(?:ab)+", "(a+){2}", "{a|b}"];
        for fine in KNOWN_PATTERNS.into_iter().chain(others) {
            assert!(!repeats_a_choice(fine), "{fine}");
        }
    }
}
