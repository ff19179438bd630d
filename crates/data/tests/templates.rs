//! Chat templates render as Jinja2 does with Hugging Face's settings, and hostile ones are bounded.

use rekindle_data::{ChatTemplate, Message, Role, SpecialTokens, TemplateError};
use serde_json::{Map, Value, json};

const GOLDEN: &str = include_str!("../../../fixtures/data/templates.json");

fn message(value: &Value) -> Message {
    let role = match value["role"].as_str().unwrap() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::Tool,
    };
    let mut extra: Map<String, Value> = value.as_object().unwrap().clone();
    extra.shift_remove("role");
    extra.shift_remove("content");
    let content = value["content"].as_str().unwrap();
    Message { extra, ..Message::new(role, content) }
}

fn bare(source: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::new(source, &SpecialTokens::default())?;
    template.render(&[Message::new(Role::User, "hi")], None, false)
}

#[test]
fn every_render_equals_jinja2() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let specials = SpecialTokens::from_tokenizer_config(&golden["special_tokens"]);
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 54);
    for case in cases {
        let source = golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let given = &golden["conversations"][case["conversation"].as_str().unwrap()];
        let messages: Vec<Message> =
            given["messages"].as_array().unwrap().iter().map(message).collect();
        let tools = Some(&given["tools"]).filter(|tools| !tools.is_null());
        let prompt = given["add_generation_prompt"].as_bool().unwrap();
        let template = ChatTemplate::new(source, &specials).unwrap();
        let label = format!("{} of {}", case["template"], case["conversation"]);
        match (template.render(&messages, tools, prompt), case.get("raises")) {
            (Ok(text), None) => assert_eq!(text, case["text"].as_str().unwrap(), "{label}"),
            (Err(TemplateError::Raised { detail }), Some(words)) => {
                assert_eq!(detail, words.as_str().unwrap(), "{label}");
            }
            (other, words) => panic!("{label}: {other:?}, wanted {words:?}"),
        }
    }
}

/// What a template makes of the conversation that is `value`.
fn of_value(source: &str, value: &Value) -> Result<String, TemplateError> {
    let template = ChatTemplate::new(source, &SpecialTokens::default())?;
    let messages = value.as_array().unwrap().iter();
    let messages = messages.map(|it| it.as_object().unwrap().clone()).collect();
    Ok(template.render_value(messages, None, false)?.text)
}

#[test]
fn line_ends_of_the_source_are_all_newlines() {
    let source = "a\r\n{% if true %}\r\nb\rc\n{% endif %}\r\nd";
    assert_eq!(bare(source).unwrap(), "a\nb\nc\nd");
    let template = ChatTemplate::new(source, &SpecialTokens::default()).unwrap();
    assert_eq!(template.source(), source);
}

#[test]
fn reasoning_is_passed_under_every_name_that_templates_read() {
    let source = "{% for m in messages %}{{ m }}\n{% endfor %}";
    let given = json!([
        {"role": "assistant", "reasoning": "r", "content": "c"},
        {"role": "assistant", "thinking": "t", "reasoning": "r"},
        {"role": "assistant", "reasoning_content": null, "thinking": null, "reasoning": "r"},
        {"role": "assistant", "thinking": "t", "reasoning_content": "c"},
        {"role": "assistant", "reasoning_content": null},
    ]);
    let wanted = "{'thinking': 'r', 'role': 'assistant', 'reasoning': 'r', 'content': 'c', \
                  'reasoning_content': 'r'}\n\
                  {'thinking': 't', 'role': 'assistant', 'reasoning': 'r', \
                  'reasoning_content': 't'}\n\
                  {'thinking': None, 'role': 'assistant', 'reasoning_content': 'r', \
                  'reasoning': 'r'}\n\
                  {'thinking': 't', 'role': 'assistant', 'reasoning_content': 'c'}\n\
                  {'role': 'assistant', 'reasoning_content': None}\n";
    assert_eq!(of_value(source, &given).unwrap(), wanted);
    let mut message = Message::new(Role::Assistant, "c");
    message.extra.insert("reasoning".into(), "r".into());
    let template = ChatTemplate::new(
        "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}",
        &SpecialTokens::default(),
    );
    assert_eq!(template.unwrap().render(&[message], None, false).unwrap(), "rr");
}

#[test]
fn raw_messages_keep_their_keys_and_roles() {
    let given = json!([{"content": [1e-5, {"b": 1, "a": "it's\u{a0}"}], "role": "wizard"}]);
    assert_eq!(
        of_value("{{ messages }}", &given).unwrap(),
        "[{'content': [1e-05, {'b': 1, 'a': \"it's\\xa0\"}], 'role': 'wizard'}]"
    );
}

#[test]
fn special_tokens_are_set_by_name() {
    let template = ChatTemplate::new("{{ bos_token }}{{ pad_token }}", &SpecialTokens::default());
    let template = template.unwrap().with_special("pad_token", "<p>").unwrap();
    assert_eq!(template.render(&[], None, false).unwrap(), "<p>");
    let error = template.with_special("sep_token", "x").unwrap_err();
    assert!(error.to_string().contains("`sep_token`; wanted bos_token, eos_token"), "{error}");
}

#[test]
fn the_clock_is_the_callers_or_absent() {
    let source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'no clock' }}";
    assert_eq!(bare(source).unwrap(), "no clock");
    let template = ChatTemplate::new(source, &SpecialTokens::default()).unwrap();
    let template = template.with_now(jiff::civil::date(2024, 7, 6).at(5, 4, 3, 0));
    assert_eq!(template.render(&[], None, false).unwrap(), "06 Jul 2024");
}

#[test]
fn text_with_the_renderers_own_characters_is_refused() {
    let template = ChatTemplate::builtin("chatml").unwrap();
    let messages = [Message::new(Role::User, "a\u{E000}b")];
    let error = template.render(&messages, None, false).unwrap_err();
    assert_eq!(error, TemplateError::ReservedCharacter { code: 0xE000 });
    assert!(ChatTemplate::builtin("chatmlx").is_err());
}

#[test]
fn a_folders_template_file_goes_before_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let specials = SpecialTokens::default();
    let list = serde_json::json!({"chat_template": [{"name": "rag", "template": "r"},
                                                    {"name": "default", "template": "d"}]});
    let found = |config| ChatTemplate::of_folder(folder.path(), config, &specials).unwrap();
    assert!(found(&Value::Null).is_none());
    assert_eq!(found(&list).unwrap().source(), "d");
    std::fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(found(&list).unwrap().source(), "file");
}
