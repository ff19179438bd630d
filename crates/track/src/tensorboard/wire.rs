//! Protocol-buffer messages, field by field; as much of the encoding as events need.

/// A message being written.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// Wire types of the encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    /// An integer, a bool or an enum.
    pub fn integer(mut self, field: u64, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    pub fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, FIXED64);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string, bytes or packed numbers.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of the encoding's own description.
    #[test]
    fn the_documented_examples_are_encoded_so() {
        assert_eq!(Message::new().integer(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::new().bytes(2, b"testing").into_bytes();
        assert_eq!(text, [0x12, 7, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6E, 0x67]);
        let inner = Message::new().message(3, Message::new().integer(1, 150)).into_bytes();
        assert_eq!(inner, [0x1A, 3, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn an_integer_of_64_bits_takes_ten_bytes() {
        assert_eq!(Message::new().integer(1, u64::MAX).into_bytes().len(), 11);
    }
}
