//! Values of metadata keys, in the types the file states.

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An 8-bit unsigned integer.
    U8(u8),
    /// An 8-bit signed integer.
    I8(i8),
    /// A 16-bit unsigned integer.
    U16(u16),
    /// A 16-bit signed integer.
    I16(i16),
    /// A 32-bit unsigned integer.
    U32(u32),
    /// A 32-bit signed integer.
    I32(i32),
    /// A 64-bit unsigned integer.
    U64(u64),
    /// A 64-bit signed integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// An array of one type, as dense as in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// 8-bit unsigned integers.
    U8(Vec<u8>),
    /// 8-bit signed integers.
    I8(Vec<i8>),
    /// 16-bit unsigned integers.
    U16(Vec<u16>),
    /// 16-bit signed integers.
    I16(Vec<i16>),
    /// 32-bit unsigned integers.
    U32(Vec<u32>),
    /// 32-bit signed integers.
    I32(Vec<i32>),
    /// 64-bit unsigned integers.
    U64(Vec<u64>),
    /// 64-bit signed integers.
    I64(Vec<i64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Arrays.
    Array(Vec<Array>),
}

impl Value {
    /// The value for a message: a number with its type, anything else by its type alone.
    pub fn describe(&self) -> String {
        match self {
            Self::U8(value) => format!("`{value}` (u8)"),
            Self::I8(value) => format!("`{value}` (i8)"),
            Self::U16(value) => format!("`{value}` (u16)"),
            Self::I16(value) => format!("`{value}` (i16)"),
            Self::U32(value) => format!("`{value}` (u32)"),
            Self::I32(value) => format!("`{value}` (i32)"),
            Self::U64(value) => format!("`{value}` (u64)"),
            Self::I64(value) => format!("`{value}` (i64)"),
            Self::F32(value) => format!("`{value}` (f32)"),
            Self::F64(value) => format!("`{value}` (f64)"),
            Self::Bool(value) => format!("`{value}` (bool)"),
            Self::String(_) => "a string".to_owned(),
            Self::Array(array) => format!("an array of {}", array.element()),
        }
    }

    /// An integer of any type.
    pub(super) fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => Some(value.into()),
            Self::I64(value) => Some(value.into()),
            _ => None,
        }
    }
}

impl Array {
    fn element(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "strings",
            Self::Array(_) => "arrays",
        }
    }

    /// Integers of any type that all fit 32 bits.
    pub(super) fn i32s(&self) -> Option<Vec<i32>> {
        fn narrow<T: Copy + TryInto<i32>>(items: &[T]) -> Option<Vec<i32>> {
            items.iter().map(|&item| item.try_into().ok()).collect()
        }
        match self {
            Self::U8(items) => narrow(items),
            Self::I8(items) => narrow(items),
            Self::U16(items) => narrow(items),
            Self::I16(items) => narrow(items),
            Self::U32(items) => narrow(items),
            Self::I32(items) => narrow(items),
            Self::U64(items) => narrow(items),
            Self::I64(items) => narrow(items),
            _ => None,
        }
    }
}
