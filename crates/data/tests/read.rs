//! Readers on good and on hostile files (faults D1 to D6).

use std::io::Write;

use proptest::prelude::*;
use rekindle_data::{DataError, Format, ReadOptions, ReadReport, Record, Role, RowError, read};

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    (folder, path)
}

fn try_read(name: &str, bytes: &[u8], format: Format) -> Result<ReadReport, DataError> {
    let (_folder, path) = file(name, bytes);
    read(&path, &ReadOptions { format, max_row_bytes: 4096 })
}

fn read_jsonl(text: &str) -> ReadReport {
    try_read("rows.jsonl", text.as_bytes(), Format::Auto).unwrap()
}

fn turns(record: &Record) -> Vec<(&'static str, &str)> {
    let Record::Chat { messages, .. } = record else { panic!("{record:?}") };
    messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect()
}

#[test]
fn each_format_is_found_by_its_keys() {
    let chat = vec![("user", "q"), ("assistant", "a")];
    for (row, format) in [
        (
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
            Format::Messages,
        ),
        (
            r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#,
            Format::ShareGpt,
        ),
        (r#"{"instruction":"q","input":"","output":"a","text":"unused"}"#, Format::Alpaca),
    ] {
        let report = read_jsonl(row);
        assert_eq!(report.format, format);
        assert_eq!(turns(&report.records[0].record), chat, "{format}");
    }
    let report = read_jsonl(r#"{"prompt":"p","completion":"c"}"#);
    let wanted = Record::Completion { prompt: "p".into(), completion: "c".into() };
    assert_eq!((report.format, &report.records[0].record), (Format::PromptCompletion, &wanted));
    let report = read_jsonl(r#"{"text":"t"}"#);
    assert_eq!(
        (report.format, &report.records[0].record),
        (Format::Text, &Record::Text("t".into()))
    );
}

#[test]
fn alpaca_joins_instruction_and_input_and_trains_on_history() {
    let report = read_jsonl(
        r#"{"instruction":"i","input":"n","output":"o","system":"s","history":[["q","a"]]}"#,
    );
    assert_eq!(
        turns(&report.records[0].record),
        [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "i\nn"), ("assistant", "o")]
    );
}

#[test]
fn tool_calls_become_objects_in_both_formats() {
    let openai = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,
        "tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}]},
        {"role":"tool","content":"r"}],"tools":"[{\"name\": \"f\"}]"}"#
        .replace('\n', " ");
    let sharegpt = r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call",
        "value":"{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},{"from":"observation","value":"r"}],
        "tools":[{"name":"f"}]}"#
        .replace('\n', " ");
    for row in [openai, sharegpt] {
        let report = read_jsonl(&row);
        let Record::Chat { messages, tools } = &report.records[0].record else { panic!() };
        assert_eq!(messages[1].extra["tool_calls"][0]["function"]["arguments"]["x"], 1);
        assert_eq!(messages[2].role, Role::Tool);
        assert_eq!(tools.as_ref().unwrap()[0]["name"], "f");
    }
}

#[test]
fn weight_and_parts_and_extra_keys_are_kept() {
    let report = read_jsonl(
        r#"{"messages":[{"role":"user","name":"Ann","content":[{"type":"text","text":"q"}]},
           {"role":"assistant","content":"a","weight":0}]}"#
            .replace('\n', " ")
            .as_str(),
    );
    let Record::Chat { messages, .. } = &report.records[0].record else { panic!() };
    assert_eq!((messages[0].content.as_str(), &messages[0].extra["name"]), ("q", &"Ann".into()));
    assert!(messages[0].weight && !messages[1].weight);
}

#[test]
fn broken_rows_are_reported_with_line_and_byte_and_the_rest_is_read() {
    let mut bytes = b"\xEF\xBB\xBF{\"text\":\"one\"}\r\n\r\n".to_vec();
    let bad: [(&[u8], usize, &str); 6] = [
        (b"{\"text\": oops}", 9, "not JSON"),
        (b"{\"text\":\"\xFF\"}", 9, "not UTF-8"),
        (b"{\"text\":\"\0\"}", 9, "NUL byte"),
        (b"{\"text\":\"\\ud800\"}", 8, "not JSON"),
        (b"[1]", 0, "wrong type"),
        (b"{\"txt\":\"x\"}", 0, "wrong keys"),
    ];
    let mut wanted = Vec::new();
    for (i, (row, offset, kind)) in bad.iter().enumerate() {
        wanted.push((i + 2, i + 3, (bytes.len() + offset) as u64, *kind));
        bytes.extend_from_slice(row);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"{\"text\":\"last\"}");
    let report = try_read("rows.jsonl", &bytes, Format::Auto).unwrap();
    let texts: Vec<_> = report.records.iter().map(|r| (r.row, r.line)).collect();
    assert_eq!(texts, [(1, 1), (8, 9)]);
    for (reject, (row, line, byte, kind)) in report.rejects.iter().zip(&wanted) {
        assert_eq!((reject.row, reject.line, reject.reason.kind()), (*row, *line, *kind));
        // The parser may point just behind a broken escape.
        assert!(reject.byte.abs_diff(*byte) <= 8 && reject.byte >= *byte, "{reject} {byte}");
    }
    assert_eq!(report.rejects.len(), wanted.len());
    assert_eq!(report.bytes_blake3, blake3::hash(&bytes).to_hex().to_string());
}

#[test]
fn a_row_beyond_the_limit_is_refused_and_the_next_one_read() {
    let long = format!("{{\"text\":\"{}\"}}\n{{\"text\":\"ok\"}}\n", "x".repeat(100_000));
    let report = read_jsonl(&long);
    assert_eq!(report.rejects[0].reason, RowError::TooManyBytes { limit: 4096 });
    assert_eq!((report.records[0].row, report.records[0].line), (2, 2));
    let array = format!("[{{\"text\":\"{}\"}},\n{{\"text\":\"ok\"}}]", "x".repeat(100_000));
    let report = read_jsonl(&array);
    assert_eq!(report.rejects.len(), 1);
    assert_eq!((report.records[0].row, report.records[0].line), (2, 2));
}

#[test]
fn arrays_and_lines_are_told_apart_by_content() {
    let array = "[\n {\"text\": \"a, ]\\\"\"},\n {\"text\":\n 5},\n {\"text\": \"c\"}\n]\n";
    let report = try_read("rows.jsonl", array.as_bytes(), Format::Auto).unwrap();
    let rows: Vec<_> = report.records.iter().map(|r| (r.row, r.line)).collect();
    assert_eq!(rows, [(1, 2), (3, 5)]);
    assert_eq!((report.rejects[0].line, report.rejects[0].reason.kind()), (3, "wrong type"));
    let lines = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
    assert_eq!(try_read("rows.json", lines.as_bytes(), Format::Auto).unwrap().records.len(), 2);
    let cut = "[{\"text\":\"a\"}, {\"text\":\"b\"";
    let report = try_read("rows.json", cut.as_bytes(), Format::Auto).unwrap();
    assert_eq!((report.records.len(), report.rejects.len()), (1, 1));
    assert!(report.rejects[0].to_string().contains("closing `]`"));
    let after = "[{\"text\":\"a\"}] tail";
    assert_eq!(read_jsonl(after).rejects.len(), 1);
}

#[test]
fn a_text_file_is_one_document_a_paragraph() {
    let text = "\n\nfirst line\r\nsecond line\r\n\r\n  \nthird\né\n\nbad \u{0}\n";
    let report = try_read("notes.txt", text.as_bytes(), Format::Auto).unwrap();
    let rows: Vec<_> = report.records.iter().map(|r| (r.line, r.record.clone())).collect();
    assert_eq!(rows[0], (3, Record::Text("first line\nsecond line".into())));
    assert_eq!(rows[1].0, 7);
    assert_eq!((report.rejects.len(), report.rejects[0].line), (1, 10));
    let plain = try_read("notes", b"just text", Format::Text).unwrap();
    assert_eq!(plain.records[0].record, Record::Text("just text".into()));
}

#[test]
fn empty_files_and_files_without_a_good_row_are_errors_of_exit_code_3() {
    for bytes in [&b""[..], b"\n \r\n\t\n", b"\xEF\xBB\xBF", b"[]", b"[ \n ]\n"] {
        let error = try_read("rows.jsonl", bytes, Format::Auto).unwrap_err();
        assert!(matches!(error, DataError::Empty { .. }), "{bytes:?}: {error}");
        assert_eq!(error.exit_code(), 3);
    }
    let error = try_read("rows.jsonl", b"{\"a\":1}\n{\"b\":2}\n", Format::Auto).unwrap_err();
    assert!(error.to_string().contains("`a`, `b`"), "{error}");
    let error = try_read("rows.jsonl", b"{\"text\":1}\nx\n", Format::Auto).unwrap_err();
    assert!(error.to_string().contains("not JSON: 1, wrong type: 1"), "{error}");
    assert_eq!(error.exit_code(), 3);
    let missing = read(std::path::Path::new("absent.jsonl"), &ReadOptions::default());
    assert_eq!(missing.unwrap_err().exit_code(), 6);
}

#[test]
fn conversations_without_sense_are_refused_each_with_its_reason() {
    let good = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    for (row, kind) in [
        (r#"{"messages":null}"#, "wrong type"),
        (r#"{"messages":"hi"}"#, "wrong type"),
        (r#"{"messages":[1]}"#, "wrong type"),
        (r#"{"messages":[]}"#, "no turns"),
        (r#"{"messages":[{"content":"q"}]}"#, "wrong type"),
        (r#"{"messages":[{"role":"wizard","content":"q"}]}"#, "unknown role"),
        (r#"{"messages":[{"role":"user","content":null}]}"#, "wrong type"),
        (r#"{"messages":[{"role":"user","content":"q","weight":2}]}"#, "wrong type"),
        (r#"{"messages":[{"role":"assistant","content":"a"}]}"#, "assistant first"),
        (
            r#"{"messages":[{"role":"user","content":"q"},{"role":"user","content":"r"}]}"#,
            "two user turns in a row",
        ),
        (r#"{"messages":[{"role":"user","content":"q"}],"tools":3}"#, "wrong type"),
        (r#"{"conversations":[]}"#, "wrong keys"),
    ] {
        let report = read_jsonl(&format!("{good}\n{row}\n"));
        assert_eq!(report.rejects[0].reason.kind(), kind, "{row}");
        assert_eq!((report.records.len(), report.rejects[0].row), (1, 2));
    }
}

#[test]
fn format_names_are_read_back() {
    for format in [
        Format::Auto,
        Format::Messages,
        Format::ShareGpt,
        Format::Alpaca,
        Format::PromptCompletion,
        Format::Text,
    ] {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        let json = serde_json::to_string(&format).unwrap();
        assert_eq!(json, format!("\"{format}\""));
    }
    assert_eq!("Prompt_Completion".parse::<Format>().unwrap(), Format::PromptCompletion);
    assert!("parquet".parse::<Format>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_make_the_reader_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{\"text\":\"a\"}", "\n", "[", "]", ",", "{", "}", "\"", "\\", "\u{0}", "\r\n", " ",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "\u{feff}", "é", "1e999",
        ]), 0..24),
        noise in prop::collection::vec(any::<u8>(), 0..8),
        name in prop::sample::select(vec!["a.jsonl", "a.txt"]),
    ) {
        let bytes = [parts.concat().into_bytes(), noise].concat();
        if let Ok(report) = try_read(name, &bytes, Format::Auto) {
            let mut rows: Vec<usize> = report.records.iter().map(|r| r.row).collect();
            rows.extend(report.rejects.iter().map(|r| r.row));
            rows.sort_unstable();
            prop_assert_eq!(&rows, &(1..=rows.len()).collect::<Vec<_>>());
            prop_assert!(report.rejects.iter().all(|r| r.byte <= bytes.len() as u64));
        }
    }
}
