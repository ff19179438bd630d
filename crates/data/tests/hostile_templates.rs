//! Templates that want too much, or what is not theirs (faults M6 to M9).

mod bytes;

use std::time::{Duration, Instant};

use rekindle_data::{
    ChatTemplate, DataError, Located, Message, Record, Renderer, Role, SpecialTokens,
    TemplateError, TooLong,
};

fn template(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::new(source, &SpecialTokens::default())
}

/// What a template makes of one turn, in a second at most.
#[track_caller]
fn render(source: &str) -> Result<String, TemplateError> {
    let start = Instant::now();
    let text = template(source)
        .and_then(|template| template.render(&[Message::new(Role::User, "hi")], None, false));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    text
}

/// Rendering must end in the template's own fault, in these words.
#[track_caller]
fn unusable(source: &str, words: &str) {
    match render(source) {
        Err(TemplateError::Unusable { detail }) => assert!(detail.contains(words), "{detail}"),
        other => panic!("{other:?}"),
    }
}

/// Rendering must fail in these words.
#[track_caller]
fn failed(source: &str, words: &str) {
    match render(source) {
        Err(TemplateError::Failed { detail }) => assert!(detail.contains(words), "{detail}"),
        other => panic!("{other:?}"),
    }
}

/// A value nested as deep as `depth`, then `rest`.
fn nested(depth: usize, rest: &str) -> String {
    format!(
        "{{% set ns = namespace(x=[]) %}}{{% for i in range({depth}) %}}\
         {{% set ns.x = [ns.x] %}}{{% endfor %}}{rest}"
    )
}

#[test]
fn pythons_inner_attributes_are_absent() {
    for source in [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{% set f = '{0.__class__}'.format %}{{ f('a') }}",
        "{{ '{0.__class__.__mro__}'.format('a') }}",
        "{{ ''['format'] }}",
        "{{ '' | attr('__class__') }}",
    ] {
        let outcome = render(source);
        let harmless = matches!(&outcome, Err(TemplateError::Failed { .. }))
            || outcome.as_deref().is_ok_and(str::is_empty);
        assert!(harmless, "{source}: {outcome:?}");
    }
}

#[test]
fn loops_and_texts_without_end_run_out_of_fuel() {
    unusable("{% for i in range(10**9) %}x{% endfor %}", "range has too many elements");
    unusable(
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "fuel",
    );
    unusable("{{ 'x' * 10**9 }}", "fuel");
    unusable(
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(90) %}\
         {% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "fuel",
    );
}

#[test]
fn recursion_and_nesting_are_bounded() {
    unusable("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion limit");
    let source = "{% if true %}".repeat(10_000) + &"{% endif %}".repeat(10_000);
    let error = template(&source).unwrap_err();
    assert!(matches!(error, TemplateError::Syntax { .. }), "{error}");
}

#[test]
fn there_is_no_loader() {
    unusable("{% include 'other' %}", "other");
    unusable("{% import '/etc/passwd' as x %}", "/etc/passwd");
    unusable("{% extends 'other' %}", "other");
}

#[test]
fn a_value_nested_deep_ends_in_an_error() {
    unusable(&nested(99_000, "{{ ns.x }}"), "fuel");
    unusable(&nested(99_000, ""), "fuel");
    for print in ["{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x | string }}", "{{ [ns.x] | join }}"]
    {
        failed(&nested(30_000, print), "more than 128 deep");
        failed(&nested(130, print), "more than 128 deep");
        assert!(render(&nested(100, print)).unwrap().starts_with("[[["));
    }
    failed(&nested(30_000, "{{ '{}'.format(ns.x) }}"), "more than 128 deep");
    failed(&nested(30_000, "{{ ns.x | pprint }}"), "more than 128 deep");
}

#[test]
fn a_value_nested_deep_is_dropped_and_walked_without_a_crash() {
    // As deep as fuel allows: the engine prints, compares and drops it by recursion.
    for walk in ["", "{{ (ns.x ~ 'a') | length }}", "{{ ns.x == [ns.x] }}", "{{ ns.x < [ns.x] }}"] {
        for depth in [150, 300, 30_000] {
            render(&nested(depth, walk)).unwrap();
        }
    }
    let wide = "[".repeat(40) + "ns.x" + &"]".repeat(40);
    let source = nested(
        0,
        &format!(
            "{{% for i in range(6000) %}}{{% set ns.x = {wide} %}}{{% endfor %}}{{{{ ns.x == 1 }}}}"
        ),
    );
    assert_eq!(render(&source).unwrap(), "False");
}

#[test]
fn a_value_that_holds_itself_twice_at_each_level_is_paid_for_as_it_is_written() {
    let twice = "{% set ns = namespace(x=[]) %}{% for i in range(60) %}\
                 {% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for print in ["{{ ns.x }}", "{{ ns.x | tojson }}", "{{ '{}'.format(ns.x) }}"] {
        unusable(&format!("{twice}{print}"), "fuel");
    }
}

#[test]
fn widths_are_bounded() {
    failed("{{ '{:999999999}'.format(1) }}", "width above 4096");
    failed("{{ '{:.999999999f}'.format(1.5) }}", "width above 4096");
    failed("{{ messages | tojson(indent=999999999) }}", "wanted at most 64");
    unusable("{{ '%999999999d' | format(1) }}", "fuel");
    assert_eq!(render("{{ '{:>4}'.format(1) }}").unwrap(), "   1");
}

#[test]
fn a_long_conversation_has_fuel_enough() {
    let messages: Vec<Message> =
        (0..4000).map(|i| Message::new(Role::User, format!("{i} {}", "x".repeat(1000)))).collect();
    let text = ChatTemplate::builtin("chatml").unwrap().render(&messages, None, true).unwrap();
    assert!(text.len() > 4_000_000);
}

#[test]
fn a_template_that_cannot_be_used_stops_the_work_and_one_that_refuses_a_row_does_not() {
    let turns = vec![Message::new(Role::User, "q"), Message::new(Role::Assistant, "a")];
    let row = |row| {
        let record = Record::Chat { messages: turns.clone(), tools: None };
        Located { row, line: row, record }
    };
    let rows: Vec<Located> = (1..=2000).map(row).collect();
    let renderer = |source: &str| Renderer {
        tokenizer: bytes::tokenizer(),
        template: Some(template(source).unwrap()),
        max_tokens: 64,
        too_long: TooLong::TruncateRight,
    };
    let start = Instant::now();
    let burn = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    let error = renderer(burn).render_all(&rows).unwrap_err();
    assert!(matches!(error, DataError::Template(TemplateError::Unusable { .. })), "{error}");
    assert_eq!(error.exit_code(), 4);
    assert!(start.elapsed() < Duration::from_secs(1), "the fuel is burnt once");
    // One that spends its fuel on a part of the conversation alone is found as well.
    let part = format!("{{% if messages | length == 1 %}}{burn}{{% endif %}}x");
    assert_eq!(renderer(&part).render_all(&rows).unwrap_err().exit_code(), 4);
    let error = renderer("{{ raise_exception('no') }}").render_all(&rows[..2]).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("refused by the template: 2"), "{error}");
}
