//! Rows that are longer than they may be, through the renderer.

mod bytes;

use rekindle_data::{
    ChatTemplate, Located, LongRow, Message, Record, Renderer, Role, RowError, TooLong,
};

/// A renderer whose rows have at most 24 tokens.
fn renderer(too_long: TooLong) -> Renderer {
    let template = Some(ChatTemplate::builtin("chatml").unwrap());
    Renderer { tokenizer: bytes::tokenizer(), template, max_tokens: 24, too_long }
}

fn chat(question: &str, answer: &str) -> Record {
    let messages = vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)];
    Record::Chat { messages, tools: None }
}

/// A short row, one with a long question, one with a long answer and a long text.
fn rows() -> Vec<Located> {
    let records = [
        Record::Text("xyz".into()),
        chat(&"q".repeat(40), "a"),
        chat("q", &"a".repeat(50)),
        Record::Text("t".repeat(90)),
    ];
    let located = |(row, record)| Located { row, line: 10 * row, record };
    (1..).zip(records).map(located).collect()
}

#[test]
fn outcomes_are_counted_and_the_longest_rows_named() {
    let lengths = |policy| renderer(policy).render_all(&rows()).unwrap().lengths;
    let whole = Renderer { max_tokens: 4096, ..renderer(TooLong::Error) };
    let tokens: Vec<usize> =
        rows().iter().map(|row| whole.render(&row.record).unwrap().tokens.len()).collect();
    let named = [4, 3, 2].map(|row| LongRow { row, line: 10 * row, tokens: tokens[row - 1] });
    for (policy, wanted) in [
        (TooLong::TruncateRight, [1, 2, 0, 0, 1]),
        (TooLong::TruncateLeft, [1, 3, 0, 0, 0]),
        (TooLong::Drop, [1, 0, 0, 3, 0]),
        (TooLong::Split, [1, 0, 3, 0, 0]),
    ] {
        let found = lengths(policy);
        let counts = [found.kept, found.truncated, found.split, found.dropped, found.targets_lost];
        assert_eq!(counts, wanted, "{policy}");
        assert_eq!((found.rows(), found.too_long(), found.share()), (4, 3, 0.75), "{policy}");
        assert_eq!(found.longest, named, "{policy}");
    }
    let split = lengths(TooLong::Split);
    let all: usize = tokens[1..].iter().map(|tokens| tokens.div_ceil(24)).sum();
    assert_eq!(split.pieces + split.pieces_dropped, all);
    assert!(split.pieces_dropped > 0, "the question fills a piece");
    assert_eq!(
        lengths(TooLong::TruncateRight).to_string(),
        format!(
            "3 of 4 rows are too long: 2 cut, 1 dropped as no target was left; the longest has \
             {} tokens (line 40), then {} (line 30), {} (line 20)",
            tokens[3], tokens[2], tokens[1]
        )
    );
    let (pieces, dropped) = (split.pieces, split.pieces_dropped);
    let said = format!("3 split into {pieces} samples and {dropped} pieces without a target;");
    assert!(split.to_string().contains(&said), "{split}");
}

#[test]
fn a_split_text_is_there_from_its_first_token_to_its_last() {
    let renderer = renderer(TooLong::Split);
    let row = &rows()[3..];
    let whole = Renderer { max_tokens: 4096, ..self::renderer(TooLong::Error) };
    let whole = whole.render(&row[0].record).unwrap();
    let report = renderer.render_all(row).unwrap();
    assert!(report.samples.len() > 1);
    let pieces = report.samples.iter();
    assert_eq!(pieces.flat_map(|it| it.sample.tokens.clone()).collect::<Vec<_>>(), whole.tokens);
    assert!(report.samples.iter().all(|it| it.start.is_multiple_of(24) && it.row == 4));
    assert_eq!(report.total_tokens, whole.tokens.len());
    // One record as one sample is no answer for a row of several.
    let tokens = whole.tokens.len();
    let error = renderer.render(&row[0].record);
    assert_eq!(error, Err(RowError::TooLong { tokens, max_tokens: 24 }));
}

#[test]
fn roles_of_a_cut_row_stand_where_its_sample_starts() {
    let record = chat("q", &"a".repeat(50));
    for (policy, first) in
        [(TooLong::TruncateRight, Role::User), (TooLong::TruncateLeft, Role::Assistant)]
    {
        let renderer = renderer(policy);
        let roles = renderer.roles(&record).unwrap();
        let pieces = renderer.pieces(&record).unwrap();
        assert_eq!(roles.len(), pieces.tokens);
        let (start, sample) = &pieces.samples[0];
        let shown = &roles[*start..start + sample.tokens.len()];
        assert_eq!(shown.iter().flatten().next(), Some(&first), "{policy}");
        assert!(sample.truncated);
    }
}
