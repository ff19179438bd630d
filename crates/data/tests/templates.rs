//! Chat templates render as Jinja2 does with Hugging Face's settings, and hostile ones are bounded.

use rekindle_data::{ChatTemplate, Message, Role, SpecialTokens, TemplateError};
use serde_json::{Map, Value};

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
    assert_eq!(cases.len(), 48);
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

#[test]
fn hostile_templates_end_in_an_error_or_in_nothing() {
    for source in [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'other' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends 'other' %}",
    ] {
        assert!(bare(source).is_err(), "{source}");
    }
    for source in [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format('a') }}",
    ] {
        let outcome = bare(source);
        assert!(outcome.as_ref().is_err() || outcome.as_deref() == Ok(""), "{source}: {outcome:?}");
    }
    assert!(matches!(bare("{% for %}"), Err(TemplateError::Syntax { .. })));
    let nested = "{% if true %}".repeat(10_000) + &"{% endif %}".repeat(10_000);
    assert!(bare(&nested).is_err());
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
