//! Text that stands where a file should be.

use std::path::Path;

use crate::error::ModelError;

/// Refuses a file whose start shows that it is a Git LFS pointer or a web page.
pub(super) fn refuse(path: &Path, start: &[u8]) -> Result<(), ModelError> {
    if start.starts_with(b"version https://git-lfs") {
        return Err(ModelError::LfsPointer { path: path.to_owned() });
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let is_html = [b"<!doctype html".as_slice(), b"<html"]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag)));
    if is_html {
        return Err(ModelError::HtmlPage { path: path.to_owned() });
    }
    Ok(())
}
