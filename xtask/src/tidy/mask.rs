//! Blanking out what is no code: comments, literals, and test modules.
//!
//! A masked text has the length and the line breaks of its source, so offsets and lines agree.

/// The source with comments, strings and character literals turned into spaces.
pub fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut masked = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + skip_length(&bytes[at..], masked.last().copied());
        if end == at {
            masked.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
            at += 1;
        } else {
            masked.extend(bytes[at..end].iter().map(|&byte| blank(byte)));
            at = end;
        }
    }
    String::from_utf8(masked).expect("every byte that is not ASCII was replaced")
}

fn blank(byte: u8) -> u8 {
    if byte == b'\n' { byte } else { b' ' }
}

/// Length of the comment or literal that starts here; 0 if none does.
fn skip_length(rest: &[u8], before: Option<u8>) -> usize {
    match rest[0] {
        b'/' if rest.starts_with(b"//") => find(rest, 0, b"\n").unwrap_or(rest.len()),
        b'/' if rest.starts_with(b"/*") => block_comment(rest),
        b'"' => string(rest, 0),
        b'\'' => character(rest),
        b'r' | b'b' | b'c' if !before.is_some_and(is_word) => prefixed(rest),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// A string whose opening quote stands at `start`, with escapes.
fn string(rest: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'x'`, `'\n'`, `'\u{e9}'`; 0 for a lifetime or a loop label.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return find(rest, 3, b"'").map_or(rest.len(), |end| end + 1);
    }
    // One character is at most four bytes, so its closing quote is near or absent.
    let first = rest.get(1).copied().unwrap_or(b'\n');
    let width = match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'x'`; 0 for a name or a raw identifier.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest.iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = rest[letters..].iter().take_while(|&&byte| byte == b'#').count();
    let quote = letters + hashes;
    if letters > 2 || rest.get(quote) != Some(&b'"') {
        let byte_character = letters == 1 && rest[0] == b'b' && rest.get(1) == Some(&b'\'');
        return if byte_character { 1 + character(&rest[1..]) } else { 0 };
    }
    if !rest[..letters].contains(&b'r') {
        return string(rest, quote);
    }
    let mut closing = vec![b'"'];
    closing.extend(std::iter::repeat_n(b'#', hashes));
    find(rest, quote + 1, &closing).map_or(rest.len(), |end| end + closing.len())
}

fn find(text: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

/// True for a byte that may stand in an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Masked code with every item under `#[cfg(test)]` blanked as well.
pub fn without_tests(code: &str) -> String {
    const GATE: &str = "#[cfg(test)]";
    let mut text = code.to_owned();
    while let Some(start) = text.find(GATE) {
        let end = start + GATE.len() + item_length(&text[start + GATE.len()..]);
        let blanks: String = text[start..end].bytes().map(|byte| char::from(blank(byte))).collect();
        text.replace_range(start..end, &blanks);
    }
    text
}

/// Length up to the end of the next item: its closing brace, or `;` if that comes first.
fn item_length(code: &str) -> usize {
    match body_start(code) {
        Some(open) if code.as_bytes()[open] == b'{' => open + braces(&code[open..]),
        Some(semicolon) => semicolon + 1,
        None => code.len(),
    }
}

/// Offset of the `{` or `;` that follows a signature, outside of its parentheses and brackets.
pub fn body_start(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' | b';' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Length of the braced block that starts here, its braces included.
pub fn braces(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Line from 1 of a byte offset.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_vanish_and_lines_stay() {
        let source = "a /* x /* y */ z */ b\n// c\nd(\"e\\\"}\", 'f', '\\'', '\\u{7d}')";
        let masked = code(source);
        assert_eq!(masked.len(), source.len());
        let words: Vec<&str> = masked.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "d(", ",", ",", ",", ")"]);
        assert_eq!(masked.lines().count(), 3);
    }

    #[test]
    fn raw_and_byte_strings_end_where_they_should() {
        let masked = code("x(r#\"a\"}\"#, br\"{\", b\"\\\"\", b'{', r#type, bar, c\"{\")");
        assert_eq!(masked.replace(' ', ""), "x(,,,,r#type,bar,)");
    }

    #[test]
    fn lifetimes_are_code_and_wide_characters_are_literals() {
        let masked = code("fn f<'a>(x: &'a str) { 'outer: loop { g('é', '→', '{') } }");
        assert!(masked.contains("<'a>"));
        assert!(masked.contains("'outer: loop"));
        assert_eq!(masked.matches('{').count(), 2);
    }

    #[test]
    fn test_modules_vanish_and_what_follows_stays() {
        let text = "fn a() {}\n#[cfg(test)]\nmod t { fn b() { } }\n#[cfg(test)]\nmod u;\nfn c() {}";
        let left = without_tests(text);
        assert_eq!(
            left.split_whitespace().collect::<Vec<_>>(),
            ["fn", "a()", "{}", "fn", "c()", "{}"]
        );
        assert_eq!(line_at(&left, left.find("fn c").unwrap()), 6);
    }
}
