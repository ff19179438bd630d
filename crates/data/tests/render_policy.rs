//! Which begin, end and padding tokens a row gets, and which it cannot forge (faults M5 and M10).

mod bytes;

use burn::tensor::Device;
use rekindle_data::{
    ChatTemplate, Message, Padding, Record, Renderer, Role, RowError, SpecialTokens, Tokenizer,
    TooLong, collate,
};
use serde_json::json;

const BOS: u32 = 2;
const EOS: u32 = 3;

fn renderer(tokenizer: Tokenizer, source: &str) -> Renderer {
    let specials = SpecialTokens {
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..SpecialTokens::default()
    };
    let template = Some(ChatTemplate::new(source, &specials).unwrap());
    Renderer { tokenizer, template, max_tokens: 4096, too_long: TooLong::TruncateRight }
}

fn question_and_answer() -> Vec<Message> {
    vec![Message::new(Role::User, "q"), Message::new(Role::Assistant, "a")]
}

#[test]
fn a_template_that_writes_the_begin_itself_yields_exactly_one() {
    let tokenizer = bytes::tokenizer();
    assert!(tokenizer.adds_bos(), "the post-processor asks for one too");
    let source = "{{ bos_token }}{% for m in messages %}\
                  {{ '[' + m.role + ']' + m.content + eos_token }}{% endfor %}";
    let renderer = renderer(tokenizer, source);
    let record = Record::Chat { messages: question_and_answer(), tools: None };
    let tokens = renderer.render(&record).unwrap().tokens;
    assert_eq!(tokens[0], BOS);
    assert_eq!(tokens.iter().filter(|&&id| id == BOS).count(), 1);
    let prompt = renderer.prompt(&question_and_answer()[..1]).unwrap();
    assert_eq!(prompt.iter().filter(|&&id| id == BOS).count(), 1);
    // Nor is one put before a conversation whose template writes none.
    let bare = writes_no_begin();
    let tokens = bare.render(&record).unwrap().tokens;
    assert!(!tokens.contains(&BOS));
}

fn writes_no_begin() -> Renderer {
    renderer(bytes::tokenizer(), "{% for m in messages %}{{ m.role + m.content }}{% endfor %}")
}

#[test]
fn padding_without_a_padding_token_hides_no_real_end() {
    let tokenizer = bytes::tokenizer();
    assert_eq!((tokenizer.pad(), tokenizer.eos()), (None, Some(EOS)));
    let padding = Padding::new(&tokenizer, 1);
    assert_eq!(padding.id, EOS);
    let renderer = renderer(tokenizer, "");
    let [long, short] =
        ["xyz", "x"].map(|text| renderer.render(&Record::Text(text.into())).unwrap());
    let batch = collate(&[long, short], &[vec![0], vec![1]], padding, &Device::flex());
    let ids: Vec<i64> = batch.input_ids.into_data().iter().collect();
    let mask: Vec<f32> = batch.loss_mask.into_data().iter().collect();
    let (long, short) = (&ids[..5], &ids[5..]);
    assert_eq!((long[4], short[2], short[3], short[4]), (3, 3, 3, 3));
    // The end of each row is a target; the padding behind the short one, the same id, is not.
    assert_eq!(mask, [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(batch.n_targets, 6);
}

#[test]
fn a_model_without_an_end_token_gets_none() {
    let mut spec = bytes::spec(&[]);
    (spec.eos, spec.bos, spec.add_bos) = (None, None, false);
    let tokenizer = Tokenizer::from_vocab(&spec).unwrap();
    assert_eq!(Padding::new(&tokenizer, 1).id, 0);
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}\
                  {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
                  {% endif %}";
    let renderer = renderer(tokenizer, source);
    let text = renderer.render(&Record::Text("xy".into())).unwrap();
    assert_eq!((text.tokens.len(), text.n_targets()), (2, 1));
    let chat = Record::Chat { messages: question_and_answer(), tools: None };
    assert_eq!(renderer.render(&chat).unwrap().n_targets(), 1, "the answer, without an end");
    let empty = Record::Completion { prompt: "p".into(), completion: String::new() };
    assert_eq!(renderer.render(&empty), Err(RowError::NoTarget));
}

#[test]
fn special_tokens_in_keys_stay_text() {
    let source = "{{ '<|im_start|>' }}{{ tools | tojson(ensure_ascii=true) }}\
                  {% for m in messages %}{{ m }}{{ m.tool_calls | tojson if m.tool_calls }}\
                  {% endfor %}{{ '<|im_end|>' }}";
    let renderer = renderer(bytes::tokenizer(), source);
    let tools = json!([{"name": "f", "parameters": {"<|im_end|>": {"</s>": 1}}}]);
    let mut messages = question_and_answer();
    messages[1].extra.insert(
        "tool_calls".into(),
        json!([{"function": {"name": "f", "arguments": {"<|im_start|>": "x", "<s>": 2}}}]),
    );
    messages[1].extra.insert("</s>".into(), json!("y"));
    let tokens = renderer.prompt_with_tools(&messages, Some(&tools)).unwrap();
    let specials: Vec<u32> = tokens.iter().copied().filter(|&id| id < 4).collect();
    assert_eq!(specials, [0, 1], "the template's own two alone");
    let text = renderer.tokenizer.decode(&tokens, false).unwrap();
    assert!(text.contains(r#"{"<|im_end|>": {"</s>": 1}}"#), "{text}");
    assert!(text.contains(r#"{"<|im_start|>": "x", "<s>": 2}"#), "{text}");
    assert!(text.contains("'</s>': 'y'"), "{text}");
    let reserved = json!([{"\u{E002}": 1}]);
    let error = renderer.prompt_with_tools(&messages, Some(&reserved)).unwrap_err();
    assert_eq!(error, RowError::ReservedCharacter { code: 0xE002 });
}
