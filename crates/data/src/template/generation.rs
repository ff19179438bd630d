//! The `{% generation %}` block, which marks what the assistant writes.
//!
//! It is no Jinja: it is rewritten into blocks that are, and that write one private-use character
//! before and one after what they enclose. These are cut out of the rendered text again.

use std::ops::Range;

use serde_json::Value;

use super::Rendered;

const START: char = '\u{E000}';
const END: char = '\u{E001}';
/// Stands inside a special token's text that a person wrote, so that it stays text.
pub(crate) const BREAK: char = '\u{E002}';

/// The first character of a text that the renderer needs for itself.
pub(crate) fn reserved_character(text: &str) -> Option<u32> {
    text.chars().find(|&c| is_reserved(c)).map(u32::from)
}

/// Whether the renderer needs a character for itself.
pub(super) fn is_reserved(c: char) -> bool {
    (START..=BREAK).contains(&c)
}

/// The first mark of a generation block that stands anywhere in a value.
pub(super) fn reserved_in_value(value: &Value) -> Option<u32> {
    let mark = |text: &str| text.chars().find(|c| (START..=END).contains(c)).map(u32::from);
    match value {
        Value::String(text) => mark(text),
        Value::Array(list) => list.iter().find_map(reserved_in_value),
        Value::Object(map) => {
            map.iter().find_map(|(key, value)| mark(key).or_else(|| reserved_in_value(value)))
        }
        _ => None,
    }
}

/// The source with every generation block written as Jinja, its trim marks kept.
pub(super) fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inside = &tag[2..tag.len() - 2];
        let (open, inside) = split_sign(inside, str::strip_prefix);
        let (close, inside) = split_sign(inside, str::strip_suffix);
        match inside.trim() {
            "generation" => {
                out.push_str(&format!(
                    "{{%{open} if true %}}{{{{ \"{START}\" }}}}{{% if true {close}%}}"
                ));
            }
            "endgeneration" => {
                out.push_str(&format!(
                    "{{%{open} endif %}}{{{{ \"{END}\" }}}}{{% endif {close}%}}"
                ));
            }
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn split_sign<'s>(
    inside: &'s str,
    strip: impl Fn(&'s str, char) -> Option<&'s str>,
) -> (&'static str, &'s str) {
    for (sign, name) in [('-', "-"), ('+', "+")] {
        if let Some(rest) = strip(inside, sign) {
            return (name, rest);
        }
    }
    ("", inside)
}

/// The text without marks, and the byte ranges that they enclosed.
pub(super) fn cut_marks(text: &str) -> Rendered {
    if !text.contains([START, END]) {
        return Rendered { text: text.into(), marks: Vec::new() };
    }
    let mut out = String::with_capacity(text.len());
    let mut marks: Vec<Range<usize>> = Vec::new();
    let mut open = None;
    for c in text.chars() {
        match c {
            START => open = Some(out.len()),
            END => marks.extend(open.take().map(|start| start..out.len())),
            _ => out.push(c),
        }
    }
    Rendered { text: out, marks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_keep_their_trim_signs_and_other_tags_stay() {
        let source = "{% if x %}{%- generation -%} a {%- endgeneration %}{% endif %}{% raw";
        let rewritten = rewrite(source);
        assert_eq!(
            rewritten,
            "{% if x %}{%- if true %}{{ \"\u{E000}\" }}{% if true -%} a \
             {%- endif %}{{ \"\u{E001}\" }}{% endif %}{% endif %}{% raw"
        );
    }

    #[test]
    fn cut_marks_become_byte_ranges() {
        let rendered = cut_marks("é\u{E000}ab\u{E001}c");
        assert_eq!(rendered.text, "éabc");
        assert_eq!(rendered.marks, vec![2..4]);
    }
}
