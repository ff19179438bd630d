//! Reads event files back, for tests.

use super::crc::masked;

/// The records of a file. A torn last one ends the list; a wrong sum before that is `None`.
pub fn records(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(8) {
        let Some((sum, rest)) = rest.split_at_checked(4) else { break };
        if masked(length).to_le_bytes() != sum {
            return None;
        }
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let Some((data, rest)) = rest.split_at_checked(length) else { break };
        let Some((sum, rest)) = rest.split_at_checked(4) else { break };
        if masked(data).to_le_bytes() != sum {
            return None;
        }
        records.push(data);
        bytes = rest;
    }
    Some(records)
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<'a> {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

/// The fields of a message in order.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Integer(varint(&mut bytes)),
            1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(n);
    *bytes = rest;
    head
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    unreachable!()
}
