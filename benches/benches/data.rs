//! Chat rows to samples: render, tokenise, mask; one element is one token.

use criterion::{Criterion, Throughput};
use rekindle_data::{
    ChatTemplate, Located, Message, Record, Renderer, Role, SpecialTokens, Tokenizer, TooLong,
};

const TOKENIZER: &[u8] = include_bytes!("../../crates/recipe/assets/tokenizer.json");
const TEMPLATE: &str = include_str!("../../crates/recipe/assets/chat_template.jinja");

const ROWS: usize = 512;
const TURNS: usize = 3;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    rendering(&mut criterion);
    criterion.final_summary();
}

fn rendering(criterion: &mut Criterion) {
    let renderer = renderer();
    let rows: Vec<Located> = (0..ROWS)
        .map(|index| Located { row: index + 1, line: index + 1, record: conversation(index) })
        .collect();
    let report = renderer.render_all(&rows).expect("no row is longer than allowed");
    assert_eq!(report.samples.len(), ROWS, "every generated row can be rendered");

    let mut group = criterion.benchmark_group("data");
    group.throughput(Throughput::Elements(report.total_tokens as u64));
    group.bench_function("render_tokenise_mask", |bencher| {
        bencher.iter(|| renderer.render_all(&rows));
    });
    group.finish();
}

fn renderer() -> Renderer {
    let specials = SpecialTokens {
        eos_token: Some("<|im_end|>".to_owned()),
        pad_token: Some("<|pad|>".to_owned()),
        ..SpecialTokens::default()
    };
    let tokenizer = Tokenizer::from_bytes(TOKENIZER).expect("the demo's tokenizer is valid");
    let tokenizer = tokenizer.with_special_tokens(&specials).expect("it has these tokens");
    let template = ChatTemplate::new(TEMPLATE, &specials).expect("the demo's template is valid");
    let (max_tokens, too_long) = (4096, TooLong::Error);
    Renderer { tokenizer, template: Some(template), max_tokens, too_long }
}

/// A conversation of several turns whose words differ from row to row.
fn conversation(index: usize) -> Record {
    const THINGS: [&str; 7] = ["lamp", "book", "candle", "river", "clock", "garden", "letter"];
    const COLOURS: [&str; 5] = ["red", "green", "blue", "yellow", "white"];
    let mut messages = Vec::new();
    for turn in 0..TURNS {
        let thing = THINGS[(index + turn) % THINGS.len()];
        let other = THINGS[(3 * index + turn + 1) % THINGS.len()];
        let colour = COLOURS[(2 * index + turn) % COLOURS.len()];
        let question = format!(
            "The {thing} in room {index} is {colour}, and the {other} beside it is not. \
             What colour is the {thing}, and what do you know of the {other}?"
        );
        let answer =
            format!("The {thing} is {colour}. Of the {other} I know that it is not {colour}.");
        messages.push(Message::new(Role::User, question));
        messages.push(Message::new(Role::Assistant, answer));
    }
    Record::Chat { messages, tools: None }
}
