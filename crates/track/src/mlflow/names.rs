//! Names and values within what MLflow allows.

/// Longest name of a metric, a parameter or a tag, in bytes.
const NAME: usize = 250;

/// Longest value of a parameter, in bytes.
const PARAM: usize = 6000;

/// Longest value of a tag, in bytes: the documented limit; newer servers allow 8000.
const TAG: usize = 5000;

/// A parameter within the limits.
pub fn param(key: &str, value: &str) -> (String, String) {
    (name(key), cut(value, PARAM))
}

/// A tag within the limits.
pub fn tag(key: &str, value: &str) -> (String, String) {
    (name(key), cut(value, TAG))
}

/// A name within the limits: other characters become `_`, and since the server takes a name for a
/// path, empty parts and `.` and `..` go.
pub fn name(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "_-. /".contains(c);
    let plain: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let parts = plain.split('/').filter(|part| !["", ".", ".."].contains(part));
    let path = parts.collect::<Vec<_>>().join("/");
    let mut end = NAME.min(path.len());
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    // Cutting may have left a slash at the end.
    let kept = path[..end].trim_end_matches('/');
    if kept.is_empty() { "_".to_owned() } else { kept.to_owned() }
}

/// At most `limit` bytes; what was cut ends in `…`.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mark = '…';
    let mut end = limit - mark.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_names_stay_and_others_are_mended() {
        assert_eq!(name("eval/loss 1-a.b_c"), "eval/loss 1-a.b_c");
        assert_eq!(name("a:b[0]"), "a_b_0_");
        assert_eq!(name("/a//./../b/"), "a/b");
        assert_eq!(name("//"), "_");
        assert_eq!(name(&"é".repeat(200)).len(), NAME);
        assert_eq!(name(&format!("{}/x", "a".repeat(249))), "a".repeat(249));
    }

    #[test]
    fn values_are_cut_between_characters() {
        assert_eq!(param("k", &"a".repeat(PARAM)).1, "a".repeat(PARAM));
        let long = param("k", &"é".repeat(PARAM)).1;
        assert!(long.len() <= PARAM && long.len() > PARAM - 4 && long.ends_with('…'));
        assert_eq!(tag("k", &"a".repeat(TAG + 1)).1.len(), TAG);
    }
}
