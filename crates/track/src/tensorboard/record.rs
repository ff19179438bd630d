//! TFRecord framing: length, sum of the length, data, sum of the data, all little-endian.

use std::io::{self, Write};

use super::crc::masked;

/// Appends one record.
pub fn write(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    to.write_all(&length)?;
    to.write_all(&masked(&length).to_le_bytes())?;
    to.write_all(data)?;
    to.write_all(&masked(data).to_le_bytes())
}
