use super::writer::{Writer, array, text};
use super::*;

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q8_0: u32 = 8;

/// Asserts that the file is refused with exit code 4 and words that contain `wanted`.
#[track_caller]
fn refused(writer: Writer, wanted: &str) {
    let error = open(&writer.finish()).expect_err("the file is not whole");
    assert_eq!(error.exit_code(), 4, "{error}");
    let said = error.to_string();
    assert!(said.contains("model.gguf"), "no file in: {said}");
    assert!(said.contains(wanted), "`{wanted}` is not in: {said}");
}

fn one_tensor(dims: &[u64], kind: u32, offset: u64) -> Writer {
    Writer::new().tensor("w", dims, kind, offset)
}

#[test]
fn the_writers_files_are_whole() {
    let mut writer = one_tensor(&[4, 2], F32, 0).key("a", U32, &[1, 0, 0, 0]);
    writer.version = 2;
    let file = open(&writer.finish()).unwrap();
    assert_eq!(file.tensor("w").unwrap().shape, [2, 4]);
    assert_eq!(file.u32("a").unwrap(), Some(1));
    assert!(file.tensor("v").is_none());
}

#[test]
fn g1_magic_version_and_byte_order_are_checked() {
    let with = |magic: &[u8; 4], version| {
        let mut writer = Writer::new();
        (writer.magic, writer.version) = (*magic, version);
        writer
    };
    refused(with(b"GGML", 3), "begins with `GGML`");
    refused(with(b"\x00\xff\n!", 3), r"begins with `\x00\xff\n!`");
    for version in [0, 1, 4] {
        refused(with(b"GGUF", version), &format!("GGUF version {version}"));
    }
    refused(with(b"GGUF", 3u32.swap_bytes()), "big-endian");
    assert!(matches!(open(b""), Err(GgufError::Magic { .. })));
    assert!(matches!(open(b"GGU"), Err(GgufError::Magic { .. })));
    assert!(matches!(open(b"GGUF\x03"), Err(GgufError::Damaged { .. })));
}

#[test]
fn g2_counts_beyond_the_file_are_refused() {
    for count in [u64::MAX, 1 << 63, 1000] {
        let mut writer = Writer::new();
        writer.n_keys = Some(count);
        refused(writer, &format!("the number of metadata keys is {count}"));
        let mut writer = Writer::new();
        writer.n_tensors = Some(count);
        refused(writer, &format!("the number of tensors is {count}"));
    }
}

#[test]
fn g3_keys_and_strings_beyond_limit_or_file_are_refused() {
    let long = |len: u64| len.to_le_bytes();
    refused(Writer::new().raw_key(&[0xff; 20]), "a metadata key has 18446744073709551615 bytes");
    refused(Writer::new().key("", U32, &[0; 4]), "a metadata key has 0 bytes");
    refused(Writer::new().key(&"k".repeat(65536), U32, &[0; 4]), "a metadata key has 65536 bytes");
    let huge = Writer::new().key("s", STRING, &long((1 << 30) + 1));
    refused(huge, "at most 1073741824 are allowed");
    refused(Writer::new().key("s", STRING, &long(1 << 30)), "the value of `s` has 1073741824");
    refused(Writer::new().key("s", STRING, &[2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28]), "not UTF-8");
}

#[test]
fn g4_unknown_value_types_are_refused() {
    refused(Writer::new().key("k", 13, &[0; 8]), "`k` has the unknown type 13");
    let unknown = Writer::new().key("k", ARRAY, &array(99, 1, &[0; 8]));
    refused(unknown, "`k` has the unknown element type 99");
}

#[test]
fn g4_deep_arrays_end_in_an_error_not_in_the_stack() {
    let mut nested = array(U32, 0, &[]);
    for _ in 0..10_000 {
        nested = array(ARRAY, 1, &nested);
    }
    refused(Writer::new().key("deep", ARRAY, &nested), "nests arrays deeper than 4");
    let shallow = array(ARRAY, 1, &array(ARRAY, 1, &array(ARRAY, 1, &array(U32, 0, &[]))));
    assert!(open(&Writer::new().key("flat", ARRAY, &shallow).finish()).is_ok());
}

#[test]
fn g4_array_lengths_beyond_the_file_are_refused() {
    for kind in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
        for count in [u64::MAX, u64::MAX / 4 + 1, 1000] {
            let writer = Writer::new().key("a", ARRAY, &array(kind, count, &[]));
            refused(writer, &format!("the length of array `a` is {count}"));
        }
    }
}

#[test]
fn g5_names_that_repeat_or_are_too_long_are_refused() {
    let twice = Writer::new().key("k", U32, &[0; 4]).key("k", STRING, &text("x"));
    refused(twice, "metadata key `k` appears twice");
    refused(one_tensor(&[4], F32, 0).tensor("w", &[4], F32, 32), "tensor `w` appears twice");
    let long = Writer::new().tensor(&"n".repeat(65), &[4], F32, 0);
    refused(long, "a tensor's name has 65 bytes");
    refused(Writer::new().tensor("", &[4], F32, 0), "a tensor's name has 0 bytes");
}

#[test]
fn g6_alignments_that_cannot_be_are_refused() {
    let aligned = |kind, value: &[u8]| Writer::new().key("general.alignment", kind, value);
    for value in [0u32, 13, 4, 1 << 31, u32::MAX] {
        refused(aligned(U32, &value.to_le_bytes()), &format!("is `{value}` (u32), but must be"));
    }
    refused(aligned(5, &32i32.to_le_bytes()), "is `32` (i32), but must be");
    refused(aligned(10, &32u64.to_le_bytes()), "is `32` (u64), but must be");
    refused(aligned(STRING, &text("32")), "is a string, but must be");
}

#[test]
fn g6_a_stated_alignment_moves_the_data() {
    let writer = |padding| {
        let writer = Writer::new().key("general.alignment", U32, &256u32.to_le_bytes());
        writer.tensor("w", &[16], F32, 0).padded_to(padding)
    };
    let file = open(&writer(256).finish()).unwrap();
    assert_eq!(file.tensor("w").unwrap().range, 256..320);
    refused(writer(32), "past the end of the file");
    let unaligned = Writer::new().key("general.alignment", U32, &64u32.to_le_bytes());
    refused(unaligned.tensor("w", &[8], F32, 32), "not aligned to 64");
}

#[test]
fn g7_shapes_that_cannot_be_are_refused() {
    refused(one_tensor(&[1, 1, 1, 1, 4], F32, 0), "tensor `w` has 5 dimensions");
    refused(one_tensor(&[], F32, 0), "tensor `w` has 0 dimensions");
    refused(one_tensor(&[4, 0], F32, 0), "a dimension of 0");
    refused(one_tensor(&[u64::MAX], F32, 0), "a dimension of 18446744073709551615");
    refused(one_tensor(&[1 << 32, 1 << 32], F32, 0), "a dimension of 4294967296");
    refused(one_tensor(&[48], Q8_0, 0), "rows of 48, but Q8_0 needs a multiple of 32");
    // Whole blocks in all, but not in a row.
    refused(one_tensor(&[16, 2], Q8_0, 0), "rows of 16");
}

#[test]
fn g8_data_beyond_the_file_unaligned_or_shared_is_refused() {
    refused(one_tensor(&[17], F32, 0), "past the end of the file");
    refused(one_tensor(&[4], F32, 64), "past the end of the file");
    refused(one_tensor(&[4], F32, 1 << 40), "past the end of the file");
    refused(one_tensor(&[4], F32, 8), "not aligned to 32");
    let shared = Writer::new().tensor("a", &[16], F32, 0).tensor("b", &[8], F32, 32);
    refused(shared, "tensors `a` and `b` overlap");
    let same = Writer::new().tensor("b", &[4], F32, 0).tensor("a", &[4], F32, 0);
    refused(same, "overlap");
    refused(one_tensor(&[4], F32, 0).data(15), "past the end of the file");
}

#[test]
fn g9_sizes_whose_sums_overflow_are_refused() {
    let offset = 0x7fff_ffff_ffff_ffc0;
    let two = Writer::new().tensor("a", &[4], F32, offset).tensor("b", &[4], F32, offset);
    refused(two, "past the end of the file");
    refused(one_tensor(&[4], F32, u64::MAX - 31), "past the end of the file");
    refused(one_tensor(&[1 << 59], F32, 0), "past the end of the file");
}

#[test]
fn g11_types_that_cannot_be_unpacked_list_those_that_can() {
    let wanted = "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, \
                  IQ4_XS, BF16";
    for (code, known) in
        [(16, "IQ2_XXS"), (4, "removed from ggml"), (31, "removed"), (999, "unknown")]
    {
        refused(one_tensor(&[256], code, 0), wanted);
        refused(one_tensor(&[256], code, 0), &format!("tensor `w` has type {code} ({known}"));
    }
}

#[test]
fn what_is_no_file_is_an_error_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("absent.gguf")] {
        let error = GgufFile::open(&path).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
    }
}
