use rekindle_testkit::Golden;

use super::*;
use crate::gguf::{Array, GgmlType, Value};

#[test]
fn every_type_unpacks_bit_for_bit_as_gguf_py() {
    let file = GgufFile::open(&fixture()).unwrap();
    let expected = Golden::open("quant/gguf/blocks.safetensors");
    assert_eq!(file.tensors().len(), 15);
    for tensor in file.tensors() {
        assert_eq!(format!("{:?}", tensor.kind), tensor.name);
        assert_eq!(tensor.shape, expected.shape(&tensor.name), "{}", tensor.name);
        let ours = file.dequantize(tensor).unwrap();
        let theirs = expected.floats(&tensor.name);
        assert_eq!(ours.len(), theirs.len());
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let same = ours.to_bits() == theirs.to_bits();
            assert!(same, "{}[{at}]: ours {ours:e}, gguf-py's {theirs:e}", tensor.name);
        }
    }
}

#[test]
fn metadata_keeps_gguf_pys_types_and_values() {
    let file = GgufFile::open(&fixture()).unwrap();
    let value = |key: &str| file.metadata(&format!("some.{key}")).unwrap().clone();
    assert_eq!(value("u8"), Value::U8(200));
    assert_eq!(value("i8"), Value::I8(-100));
    assert_eq!(value("u16"), Value::U16(60_000));
    assert_eq!(value("i16"), Value::I16(-30_000));
    assert_eq!(value("u32"), Value::U32(4_000_000_000));
    assert_eq!(value("i32"), Value::I32(-2_000_000_000));
    assert_eq!(value("u64"), Value::U64(u64::MAX));
    assert_eq!(value("i64"), Value::I64(i64::MIN));
    assert_eq!(value("f32"), Value::F32(0.5));
    assert_eq!(value("f64"), Value::F64(0.1));
    assert_eq!(value("bool"), Value::Bool(true));
    assert_eq!(value("i32s"), Value::Array(Array::I32(vec![1, -2, 3])));
    assert_eq!(value("bools"), Value::Array(Array::Bool(vec![true, false])));
}

#[test]
fn getters_give_the_type_asked_for() {
    let file = GgufFile::open(&fixture()).unwrap();
    assert_eq!(file.string("general.architecture").unwrap(), Some("test"));
    assert_eq!(file.string("some.string").unwrap(), Some("zwölf Boxkämpfer"));
    assert_eq!(file.u32("some.u8").unwrap(), Some(200));
    assert_eq!(file.f32("some.f32").unwrap(), Some(0.5));
    assert_eq!(file.bool("some.bool").unwrap(), Some(true));
    let texts: Option<Vec<&str>> =
        file.strings("some.strings").unwrap().map(|it| it.iter().map(String::as_str).collect());
    assert_eq!(texts, Some(vec!["a", "", "ßẞ"]));
    assert_eq!(file.i32s("some.i32s").unwrap(), Some(vec![1, -2, 3]));
    assert_eq!(file.f32s("some.f32s").unwrap(), Some([0.25, -1.5].as_slice()));
    assert_eq!(file.u32("absent").unwrap(), None);
}

#[test]
fn getters_name_the_key_what_is_there_and_what_was_wanted() {
    let file = GgufFile::open(&fixture()).unwrap();
    let message = |error: GgufError| error.to_string();
    let said = message(file.u32("some.i32").unwrap_err());
    assert!(said.contains("`some.i32` is `-2000000000` (i32), but must be an unsigned"), "{said}");
    let said = message(file.strings("some.i32s").unwrap_err());
    assert!(said.contains("`some.i32s` is an array of i32, but must be an array of str"), "{said}");
    assert!(file.u32("some.u64").is_err());
    assert!(file.f32("some.u32").is_err());
    assert!(file.f32s("some.i32s").is_err());
}

#[test]
fn many_chunks_unpack_as_one_does() {
    // More blocks than one thread takes at a time, with a ragged end.
    let block: Vec<u8> = (0..34).map(|byte| byte as u8 * 5).collect();
    let n_blocks = 3 * crate::floats::CHUNK / 32 + 7;
    let one = crate::gguf::blocks::dequantize(GgmlType::Q8_0, &block);
    let many = crate::gguf::blocks::dequantize(GgmlType::Q8_0, &block.repeat(n_blocks));
    assert_eq!(many, one.repeat(n_blocks));
}

#[test]
fn a_tensor_of_another_file_is_refused() {
    let file = GgufFile::open(&fixture()).unwrap();
    let mut foreign = file.tensors()[0].clone();
    foreign.range = foreign.range.start..usize::MAX;
    assert!(matches!(file.dequantize(&foreign), Err(GgufError::Damaged { .. })));
}

#[test]
fn a_file_cut_short_after_opening_is_an_error_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    std::fs::copy(fixture(), &path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = file.dequantize(&file.tensors()[3]).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    assert!(error.to_string().contains("cut short"), "{error}");
}
