//! A cursor over the header's bytes that never reads past the end.

use super::value::{Array, Value};
use crate::ReadFile;

/// Longest string, in bytes.
const MAX_STRING: u64 = 1 << 30;
/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;
/// Bytes that the shortest array inside an array takes: its type and its count.
const SHORTEST_ARRAY: u64 = 12;
/// Bytes that the shortest string takes: its length.
const SHORTEST_STRING: u64 = 8;

/// Bytes read at a time, so that a header's many small parts cost few calls.
const AT_A_TIME: usize = 1 << 20;

/// What went wrong; the caller adds the file.
pub(super) enum Fault {
    /// The file could not be read.
    Io(std::io::Error),
    /// What is wrong with it, in words.
    Damaged(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) struct Reader<'a> {
    file: &'a ReadFile,
    len: usize,
    at: usize,
    /// A part of the file, and where in it the part begins.
    part: Vec<u8>,
    start: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at byte `at` of `file`, which lies inside.
    pub(super) fn new(file: &'a ReadFile, at: usize) -> Self {
        Self { file, len: file.len() as usize, at, part: Vec::new(), start: at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> u64 {
        (self.len - self.at) as u64
    }

    /// The next `len` bytes, which the caller has compared with [`Self::remaining`].
    fn slice(&mut self, len: usize) -> Result<&[u8], Fault> {
        if self.at + len > self.start + self.part.len() {
            let end = (self.at + len.max(AT_A_TIME)).min(self.len);
            self.part = self.file.bytes(self.at as u64..end as u64)?;
            self.start = self.at;
        }
        let first = self.at - self.start;
        self.at += len;
        Ok(&self.part[first..first + len])
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        if self.remaining() < N as u64 {
            let len = self.len;
            return Err(format!("the file ends at byte {len}, in the middle of the header").into());
        }
        let mut taken = [0; N];
        taken.copy_from_slice(self.slice(N)?);
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A count of things of at least `size` bytes each, which the rest of the file can hold.
    pub(super) fn count(&mut self, what: &str, size: u64) -> Result<usize, Fault> {
        let count = self.u64()?;
        self.holds(what, count, size)
    }

    fn holds(&self, what: &str, count: u64, size: u64) -> Result<usize, Fault> {
        let most = self.remaining() / size;
        if count > most {
            return Err(format!(
                "{what} is {count}, but the rest of the file holds at most {most}"
            )
            .into());
        }
        Ok(count as usize)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, Fault> {
        let len = self.u64()?;
        if len > MAX_STRING {
            return Err(
                format!("{what} has {len} bytes, but at most {MAX_STRING} are allowed").into()
            );
        }
        if len > self.remaining() {
            let left = self.remaining();
            return Err(format!("{what} has {len} bytes, but the file has {left} left").into());
        }
        let bytes = self.slice(len as usize)?.to_vec();
        String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8").into())
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, Fault> {
        Ok(match self.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.take()?)),
            1 => Value::I8(i8::from_le_bytes(self.take()?)),
            2 => Value::U16(u16::from_le_bytes(self.take()?)),
            3 => Value::I16(i16::from_le_bytes(self.take()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.take()?)),
            6 => Value::F32(f32::from_le_bytes(self.take()?)),
            7 => Value::Bool(self.take::<1>()? != [0]),
            8 => Value::String(self.string(&format!("the value of `{key}`"))?),
            9 => Value::Array(self.array(key, 1)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.take()?)),
            12 => Value::F64(f64::from_le_bytes(self.take()?)),
            code => return Err(format!("metadata key `{key}` has the unknown type {code}").into()),
        })
    }

    /// An array at nesting `depth`, counted from 1.
    fn array(&mut self, key: &str, depth: usize) -> Result<Array, Fault> {
        if depth > MAX_DEPTH {
            return Err(format!("metadata key `{key}` nests arrays deeper than {MAX_DEPTH}").into());
        }
        let code = self.u32()?;
        let count = self.u64()?;
        let what = format!("the length of array `{key}`");
        Ok(match code {
            0 => Array::U8(self.numbers(&what, count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(&what, count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(&what, count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(&what, count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(&what, count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(&what, count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(&what, count, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(&what, count, |byte: [u8; 1]| byte != [0])?),
            8 => {
                let count = self.holds(&what, count, SHORTEST_STRING)?;
                let item = format!("an item of array `{key}`");
                Array::String((0..count).map(|_| self.string(&item)).collect::<Result<_, _>>()?)
            }
            9 => {
                let count = self.holds(&what, count, SHORTEST_ARRAY)?;
                let arrays = (0..count).map(|_| self.array(key, depth + 1));
                Array::Array(arrays.collect::<Result<_, _>>()?)
            }
            10 => Array::U64(self.numbers(&what, count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(&what, count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(&what, count, f64::from_le_bytes)?),
            _ => return Err(format!("array `{key}` has the unknown element type {code}").into()),
        })
    }

    fn numbers<const SIZE: usize, T>(
        &mut self,
        what: &str,
        count: u64,
        read: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, Fault> {
        let count = self.holds(what, count, SIZE as u64)?;
        let (stored, _) = self.slice(count * SIZE)?.as_chunks::<SIZE>();
        Ok(stored.iter().map(|&number| read(number)).collect())
    }
}
