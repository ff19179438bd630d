//! One tiny model as transformers saved it and as GGUF.

use std::path::{Path, PathBuf};

use super::*;

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny").join(name)
}

fn pair() -> (HfFolder, GgufModel) {
    (HfFolder::open(&tiny("")).unwrap(), GgufModel::open(&tiny("tiny.gguf")).unwrap())
}

/// The GGUF file with the first place of `from` overwritten by `to`.
fn changed(from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = std::fs::read(tiny("tiny.gguf")).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn gguf_and_safetensors_give_the_same_weights() {
    let (folder, gguf) = pair();
    assert_eq!(gguf.names(), folder.names());
    assert_eq!(folder.names().len(), 2 * 9 + 3);
    for name in folder.names() {
        assert_eq!(gguf.shape(&name), folder.shape(&name), "{name}");
        assert!(gguf.read_f32(&name).unwrap() == folder.read_f32(&name).unwrap(), "{name}");
    }
}

#[test]
fn gguf_and_config_give_the_same_architecture() {
    let (folder, gguf) = pair();
    let from_config = Arch::from_hf(folder.config()).unwrap();
    // GGUF does not state how fresh weights are drawn.
    let initializer_range = from_config.initializer_range;
    assert_eq!(Arch { initializer_range, ..gguf.arch().clone() }, from_config);
    for source in [&folder as &dyn WeightSource, &gguf] {
        strict_check(&from_config.tensor_shapes(), source, from_config.tied_head).unwrap();
    }
}

#[test]
fn a_tensor_that_is_not_there_is_named() {
    let (folder, gguf) = pair();
    for source in [&folder as &dyn WeightSource, &gguf] {
        assert_eq!(source.shape("score.weight"), None);
        let error = source.read_f32("score.weight").unwrap_err();
        assert!(error.to_string().contains("`score.weight`"), "{error}");
    }
}

#[test]
fn a_path_is_opened_by_what_lies_there() {
    let files = open(&tiny("")).unwrap();
    assert!(matches!(files, ModelFiles::Hf(_)));
    assert!(files.source().describe().contains("safetensors in 1 file of"));
    assert!(files.notes().is_empty());
    let files = open(&tiny("tiny.gguf")).unwrap();
    assert!(matches!(files, ModelFiles::Gguf(_)));
    assert!(files.source().describe().contains("GGUF file"));
    assert!(matches!(open(&tiny("config.json")), Err(ModelError::NotAModel { .. })));
}

#[test]
fn the_vocabulary_has_the_files_tokens_and_llamas_defaults() {
    let (_, gguf) = pair();
    let vocab = gguf.vocab().unwrap();
    assert_eq!(vocab.model, "llama");
    assert_eq!(vocab.tokens.len(), 64);
    assert_eq!(vocab.tokens[..4], ["<unk>", "<s>", "</s>", "<0x20>"]);
    assert_eq!(vocab.token_types[..4], [2, 3, 3, 6]);
    assert_eq!(vocab.scores[20], -1.0);
    assert_eq!((vocab.bos, vocab.eos, vocab.pad, vocab.unk), (Some(1), Some(2), None, Some(0)));
    assert!(vocab.add_bos && !vocab.add_eos && vocab.add_space_prefix);
    assert_eq!(gguf.chat_template(), Some("{{ messages }}"));
}

#[test]
fn g10_a_byte_token_that_is_no_byte_is_refused_when_the_vocabulary_is_read() {
    let (_folder, path) = changed(b"<0x20>", b"<0xGG>");
    let error = GgufModel::open(&path).unwrap().vocab().unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("its text is `<0xGG>`"), "{error}");
}

#[test]
fn g10_embeddings_with_other_rows_than_tokens_are_refused() {
    // The embeddings' entry: name, two dimensions, width, rows.
    let entry = [b"token_embd.weight".as_slice(), &2u32.to_le_bytes(), &32u64.to_le_bytes()];
    let entry = entry.concat();
    let (_folder, path) = changed(&entry, &[entry.as_slice(), &63u64.to_le_bytes()].concat());
    let error = GgufModel::open(&path).unwrap_err();
    assert!(matches!(error, ModelError::VocabRows { tokens: 64, rows: 63 }), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn m2_numbers_of_a_gguf_file_out_of_range_are_refused_by_key() {
    const U32: u32 = 4;
    const F32: u32 = 6;
    let cases = [
        ("block_count", U32, 1_000_000_000u32.to_le_bytes(), "`num_hidden_layers`"),
        ("block_count", U32, [0; 4], "`num_hidden_layers`"),
        ("attention.head_count", U32, [0; 4], "head_count"),
        ("attention.head_count", U32, 7u32.to_le_bytes(), "head_count"),
        ("embedding_length", U32, (1u32 << 31).to_le_bytes(), "`hidden_size`"),
        ("context_length", U32, [0; 4], "`max_position_embeddings`"),
        ("rope.freq_base", F32, f32::NAN.to_le_bytes(), "`rope_theta`"),
        ("rope.freq_base", F32, (-1.0f32).to_le_bytes(), "`rope_theta`"),
    ];
    for (key, kind, value, wanted) in cases {
        let entry = [format!("llama.{key}").as_bytes(), &kind.to_le_bytes()].concat();
        let (_folder, path) = changed(&entry, &[entry.as_slice(), &value].concat());
        let error = GgufModel::open(&path).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{key}: {error}");
        assert!(error.to_string().contains(wanted), "{key}: `{wanted}` is not in: {error}");
    }
}

#[test]
fn a_gguf_model_of_another_kind_is_refused_by_name() {
    let (_folder, path) = changed(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba");
    let said = GgufModel::open(&path).unwrap_err().to_string();
    assert!(said.contains("`mamba`") && said.contains("no remote code is ever run"), "{said}");
}

#[test]
fn two_names_for_one_weight_are_refused() {
    let (_folder, path) = changed(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight");
    // Same name twice: the file itself is at fault.
    assert!(matches!(GgufModel::open(&path), Err(ModelError::Gguf(_))));
    let (_folder, path) = changed(b"token_embd.weight", b"model.norm.weight");
    let error = GgufModel::open(&path).unwrap_err();
    let wanted = "`model.norm.weight` and `output_norm.weight` both stand for `model.norm.weight`";
    let reversed = "`output_norm.weight` and `model.norm.weight` both stand for";
    let said = error.to_string();
    assert!(said.contains(wanted) || said.contains(reversed), "{said}");
}

#[test]
fn a_gguf_model_without_a_needed_number_names_the_key() {
    let (_folder, path) = changed(b"llama.block_count", b"llama.block_couNT");
    let said = GgufModel::open(&path).unwrap_err().to_string();
    assert!(said.contains("no `llama.block_count`"), "{said}");
}

#[test]
fn a_gguf_model_may_rotate_part_of_a_head_and_no_more() {
    let key = b"llama.rope.dimension_count\x04\0\0\0";
    let with = |dims: u32| changed(key, &[key.as_slice(), &dims.to_le_bytes()].concat());
    let (_folder, path) = with(4);
    assert_eq!(GgufModel::open(&path).unwrap().arch().rope.as_ref().unwrap().dims, 4);
    let (_folder, path) = with(10);
    let said = GgufModel::open(&path).unwrap_err().to_string();
    assert!(said.contains("`10`; wanted an even number of rotated dimensions up to 8"), "{said}");
}

#[test]
fn m1_a_config_that_names_code_is_noted_and_nothing_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{ "auto_map": { "AutoModel": "evil.Model" }, "trust_remote_code": true }"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let notes = HfFolder::open_without_weights(folder.path()).unwrap().notes();
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("`auto_map`") && notes[1].contains("`trust_remote_code`"));
}

#[test]
fn w12_a_safetensors_file_cut_short_after_opening_is_an_error_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(tiny(name), folder.path().join(name)).unwrap();
    }
    let model = HfFolder::open(folder.path()).unwrap();
    let weights = std::fs::File::options();
    let weights = weights.clone().write(true).open(folder.path().join("model.safetensors"));
    weights.unwrap().set_len(100).unwrap();
    let error = model.read_f32("model.norm.weight").unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error}");
}

#[test]
fn a_broken_gguf_file_and_an_absent_one_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03").unwrap();
    assert_eq!(GgufModel::open(&broken).unwrap_err().exit_code(), 4);
    let absent = folder.path().join("absent.gguf");
    assert_eq!(GgufModel::open(&absent).unwrap_err().exit_code(), 6);
}
