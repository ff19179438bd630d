//! GGUF tensors to f32: a matrix of Llama 3.2 1B's `up_proj` in each format; one element is one
//! weight.

use std::fs;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput};
use rekindle_quant::GgufFile;

/// Rows and columns of the matrix.
const SHAPE: [usize; 2] = [8192, 2048];

/// A block format: ggml's code, numbers and bytes of a block, and where its f16 scales lie.
struct Format {
    name: &'static str,
    code: u32,
    block_len: usize,
    block_bytes: usize,
    scales: &'static [usize],
}

const FORMATS: [Format; 3] = [
    Format { name: "Q4_1", code: 3, block_len: 32, block_bytes: 20, scales: &[0, 2] },
    Format { name: "Q4_K", code: 12, block_len: 256, block_bytes: 144, scales: &[0, 2] },
    Format { name: "Q6_K", code: 14, block_len: 256, block_bytes: 210, scales: &[208] },
];

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    dequantization(&mut criterion);
    criterion.final_summary();
}

fn dequantization(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("the system has room for a temporary folder");
    let mut group = criterion.benchmark_group("gguf");
    group.throughput(Throughput::Elements(SHAPE.iter().product::<usize>() as u64));
    for format in FORMATS {
        let path = folder.path().join(format.name).with_extension("gguf");
        write(&path, &format);
        group.bench_function(BenchmarkId::new("dequantize", format.name), |bencher| {
            let file = GgufFile::open(&path).expect("the file was written whole");
            let tensor = file.tensor("weight").expect("it has that one tensor");
            bencher.iter(|| file.dequantize(tensor).expect("the file is not changed meanwhile"));
        });
    }
    group.finish();
}

/// Writes a file of one tensor of pseudo-random blocks.
fn write(path: &Path, format: &Format) {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([1_u64, 0].map(u64::to_le_bytes).as_flattened()); // one tensor, no metadata
    bytes.extend(6_u64.to_le_bytes());
    bytes.extend(b"weight");
    bytes.extend(2_u32.to_le_bytes());
    // ggml names the fastest dimension first.
    bytes.extend([SHAPE[1] as u64, SHAPE[0] as u64].map(u64::to_le_bytes).as_flattened());
    bytes.extend(format.code.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);

    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..SHAPE[0] * SHAPE[1] / format.block_len {
        let mut block: Vec<u8> = (0..format.block_bytes).map(|_| next_byte(&mut state)).collect();
        for &at in format.scales {
            // 1/16 in f16, so that no number is infinite or no number at all.
            block[at..at + 2].copy_from_slice(&0x2c00_u16.to_le_bytes());
        }
        bytes.extend(block);
    }
    fs::write(path, bytes).expect("the temporary folder has room for the file");
}

/// One byte of xorshift64 (Marsaglia 2003), which is random enough for quants.
fn next_byte(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u8
}
