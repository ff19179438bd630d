//! A cursor over the header's bytes that never reads past the end.

use super::Value;

/// Longest string, in bytes.
const MAX_STRING: u64 = 1 << 30;
/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;

/// What went wrong, in words; the caller adds the file.
pub(super) type Fault = String;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let chunk = self.bytes[self.at..].first_chunk::<N>();
        let chunk = *chunk.ok_or_else(|| format!("the header ends at byte {}", self.at))?;
        self.at += N;
        Ok(chunk)
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
        let most = self.remaining() / size.max(1);
        if count > most {
            return Err(format!("{what} is {count}, but the rest of the file holds at most {most}"));
        }
        Ok(count as usize)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, Fault> {
        let len = self.u64()?;
        if len > MAX_STRING || len > self.remaining() {
            let rest = self.remaining();
            return Err(format!("{what} is {len} bytes long, but {rest} bytes are left"));
        }
        let bytes = &self.bytes[self.at..self.at + len as usize];
        self.at += bytes.len();
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("{what} is not UTF-8"))
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, Fault> {
        let code = self.u32()?;
        self.value_of(code, key, 0)
    }

    fn value_of(&mut self, code: u32, key: &str, depth: usize) -> Result<Value, Fault> {
        Ok(match code {
            0 => Value::Unsigned(self.take::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.take()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.take()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.take()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.take()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.take()?).into()),
            7 => Value::Bool(self.take::<1>()?[0] != 0),
            8 => Value::String(self.string(&format!("the value of `{key}`"))?),
            9 => self.array(key, depth)?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.take()?)),
            12 => Value::Float(f64::from_le_bytes(self.take()?)),
            _ => return Err(format!("metadata key `{key}` has the unknown value type {code}")),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Value, Fault> {
        if depth >= MAX_DEPTH {
            return Err(format!("metadata key `{key}` nests arrays deeper than {MAX_DEPTH}"));
        }
        let code = self.u32()?;
        let size = match code {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => return Err(format!("array `{key}` has the unknown element type {code}")),
        };
        let count = self.count(&format!("the length of array `{key}`"), size)?;
        let items = (0..count).map(|_| self.value_of(code, key, depth + 1));
        Ok(match code {
            8 => Value::Strings(collect(items, |it| match it {
                Value::String(text) => Some(text),
                _ => None,
            })?),
            7 => Value::Bools(collect(items, |it| match it {
                Value::Bool(flag) => Some(flag),
                _ => None,
            })?),
            6 | 12 => Value::Floats(collect(items, |it| match it {
                Value::Float(number) => Some(number as f32),
                _ => None,
            })?),
            9 => Value::Arrays(items.collect::<Result<_, Fault>>()?),
            _ => Value::Ints(collect(items, |it| match it {
                Value::Unsigned(number) => i64::try_from(number).ok(),
                Value::Signed(number) => Some(number),
                _ => None,
            })?),
        })
    }
}

/// Collects values of one type; an integer beyond 63 bits is the one that cannot be held.
fn collect<T>(
    items: impl Iterator<Item = Result<Value, Fault>>,
    map: impl Fn(Value) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    items.map(|item| map(item?).ok_or_else(|| "an array holds a number beyond 63 bits".into())).collect()
}
