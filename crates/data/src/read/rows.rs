//! Cuts a stream of bytes into rows without ever holding more than one of them.

use std::io::{self, BufRead};

use crate::error::RowError;

/// What a file may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// JSON lines, or a JSON array.
    Json,
    /// JSON if the first byte says so, else paragraphs.
    JsonElseText,
    /// Paragraphs.
    PlainText,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Lines,
    Array,
    Paragraphs,
    Done,
}

/// The bytes of one row and the place of its first byte.
pub(super) struct RawRow {
    pub(super) line: usize,
    pub(super) byte: u64,
    pub(super) bytes: Result<Vec<u8>, RowError>,
}

/// The rows of a stream.
pub(super) struct Rows<R> {
    source: R,
    max_bytes: usize,
    cut: Cut,
    plain_text: bool,
    line: usize,
    byte: u64,
}

impl<R: BufRead> Rows<R> {
    /// Skips a byte-order mark and leading blanks, and sees from the first byte what comes.
    pub(super) fn new(source: R, max_bytes: usize, layout: Layout) -> io::Result<Self> {
        let cut = Cut::Lines;
        let mut rows = Self { source, max_bytes, cut, plain_text: false, line: 1, byte: 0 };
        for mark in [0xEF, 0xBB, 0xBF] {
            if rows.peek()? != Some(mark) {
                break;
            }
            rows.step()?;
        }
        while rows.peek()?.is_some_and(|b| b.is_ascii_whitespace()) {
            rows.step()?;
        }
        let first = rows.peek()?;
        rows.plain_text = match layout {
            Layout::PlainText => true,
            Layout::Json => false,
            Layout::JsonElseText => !matches!(first, Some(b'{' | b'[')),
        };
        if rows.plain_text {
            rows.cut = Cut::Paragraphs;
        } else if first == Some(b'[') {
            rows.step()?;
            rows.cut = Cut::Array;
        }
        Ok(rows)
    }

    /// Whether rows are paragraphs and not JSON.
    pub(super) fn is_plain_text(&self) -> bool {
        self.plain_text
    }

    /// The next row, or `None` at the end.
    pub(super) fn next_row(&mut self) -> io::Result<Option<RawRow>> {
        match self.cut {
            Cut::Lines => self.next_line(),
            Cut::Array => self.next_element(),
            Cut::Paragraphs => self.next_paragraph(),
            Cut::Done => Ok(None),
        }
    }

    fn next_line(&mut self) -> io::Result<Option<RawRow>> {
        loop {
            let (line, byte) = (self.line, self.byte);
            let mut row = Held::new(self.max_bytes);
            if !self.read_line(&mut row)? {
                return Ok(None);
            }
            if !row.is_blank() {
                return Ok(Some(RawRow { line, byte, bytes: row.finish() }));
            }
        }
    }

    fn next_paragraph(&mut self) -> io::Result<Option<RawRow>> {
        let mut paragraph = Held::new(self.max_bytes);
        let (mut line, mut byte) = (self.line, self.byte);
        loop {
            let (at_line, at_byte) = (self.line, self.byte);
            let mut one = Held::new(self.max_bytes);
            let more = self.read_line(&mut one)?;
            if more && !one.is_blank() {
                if paragraph.is_blank() {
                    (line, byte) = (at_line, at_byte);
                } else {
                    paragraph.push(b"\n");
                }
                paragraph.append(one);
                continue;
            }
            if !paragraph.is_blank() {
                return Ok(Some(RawRow { line, byte, bytes: paragraph.finish() }));
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// One line without its end, `false` at the end of the stream.
    fn read_line(&mut self, row: &mut Held) -> io::Result<bool> {
        let mut any = false;
        loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|&b| b == b'\n');
            row.push(&buffer[..end.unwrap_or(buffer.len())]);
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.source.consume(used);
            self.byte += used as u64;
            if end.is_some() {
                self.line += 1;
                break;
            }
        }
        row.strip_carriage_return();
        Ok(any)
    }

    /// One element of an array: everything up to the comma or bracket on the array's own level.
    fn next_element(&mut self) -> io::Result<Option<RawRow>> {
        while self.peek()?.is_some_and(|b| b.is_ascii_whitespace()) {
            self.step()?;
        }
        let (line, byte) = (self.line, self.byte);
        let mut row = Held::new(self.max_bytes);
        let mut depth = 0_usize;
        let (mut in_string, mut escaped) = (false, false);
        loop {
            let Some(b) = self.peek()? else {
                return Ok(Some(self.unclosed(line, byte)));
            };
            self.step()?;
            if in_string {
                in_string = escaped || b != b'"';
                escaped = !escaped && b == b'\\';
            } else {
                match b {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b']' if depth == 0 => {
                        // What follows the bracket is looked at as lines, on the next call.
                        self.cut = Cut::Lines;
                        if row.is_blank() {
                            return self.next_line();
                        }
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    b',' if depth == 0 => break,
                    _ => {}
                }
            }
            row.push(&[b]);
        }
        Ok(Some(RawRow { line, byte, bytes: row.finish() }))
    }

    fn unclosed(&mut self, line: usize, byte: u64) -> RawRow {
        self.cut = Cut::Done;
        let detail = "the file ends before the closing `]` of its array".into();
        RawRow { line, byte, bytes: Err(RowError::NotJson { detail }) }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.source.fill_buf()?.first().copied())
    }

    fn step(&mut self) -> io::Result<()> {
        if self.peek()? == Some(b'\n') {
            self.line += 1;
        }
        self.source.consume(1);
        self.byte += 1;
        Ok(())
    }
}

/// The bytes of a row, up to the limit.
struct Held {
    bytes: Vec<u8>,
    limit: usize,
    too_long: bool,
}

impl Held {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, too_long: false }
    }

    fn push(&mut self, more: &[u8]) {
        if self.bytes.len() + more.len() > self.limit {
            self.too_long = true;
            self.bytes = Vec::new();
        }
        if !self.too_long {
            self.bytes.extend_from_slice(more);
        }
    }

    fn append(&mut self, other: Self) {
        self.too_long |= other.too_long;
        self.push(&other.bytes);
    }

    fn strip_carriage_return(&mut self) {
        if self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
    }

    fn is_blank(&self) -> bool {
        !self.too_long && self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    fn finish(self) -> Result<Vec<u8>, RowError> {
        if self.too_long {
            Err(RowError::TooManyBytes { limit: self.limit })
        } else {
            Ok(self.bytes)
        }
    }
}
