use proptest::prelude::*;

use super::*;

/// Opens a file and unpacks all of it; either may fail, neither may panic.
fn read_all(bytes: &[u8]) {
    if let Ok(file) = open(bytes) {
        for tensor in file.tensors() {
            let numbers = file.dequantize(tensor).unwrap();
            assert_eq!(numbers.len(), tensor.shape.iter().product::<usize>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        // Flips behind the header would change numbers only.
        let file = GgufFile::open(&fixture()).unwrap();
        let header = file.tensors().iter().map(|tensor| tensor.range.start).min().unwrap();
        let mut bytes = std::fs::read(fixture()).unwrap();
        for (at, value) in flips {
            bytes[at.index(header)] = value;
        }
        read_all(&bytes);
    }

    #[test]
    fn cut_files_are_refused(cut in any::<prop::sample::Index>()) {
        let mut bytes = std::fs::read(fixture()).unwrap();
        // Behind the last tensor there is padding, which nobody misses.
        let file = GgufFile::open(&fixture()).unwrap();
        let end = file.tensors().iter().map(|tensor| tensor.range.end).max().unwrap();
        bytes.truncate(cut.index(end));
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn noise_behind_the_magic_never_panics(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        version in 2u32..4,
    ) {
        read_all(&[b"GGUF", &version.to_le_bytes()[..], &noise].concat());
    }
}
