#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;

use super::*;
use crate::redact::{Token, is_redaction_of, redact};
use crate::task::{Input, Kind};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The place of a value in a text.
fn span(text: &str, value: &str, entity: &str, category: &str) -> Span {
    let start = text.find(value).unwrap();
    Span { start, end: start + value.len(), entity: name(entity), category: name(category) }
}

/// What is replaced, in words.
fn told(text: &str, spans: &[Span]) -> Vec<(String, String)> {
    spans.iter().map(|span| (span.entity.to_string(), text[span.start..span.end].to_owned())).collect()
}

type Found<'a> = &'a [(&'a str, &'a str, &'a str)];
type Row<'a> = (&'a str, Found<'a>, Found<'a>, &'a [(&'a str, &'a str)]);

/// Text, what recognisers find, what the model finds, what is replaced.
const TABLE: [Row<'_>; 8] = [
    ("Ask Jane Doe.", &[], &[("Jane Doe", "person", "personal")], &[("person", "Jane Doe")]),
    (
        "12 Main Street, Springfield, IL 62704!",
        &[("12 Main Street", "street_address", "personal"), ("IL 62704", "us_zip", "personal")],
        &[("12 Main Street, Springfield, IL 62704", "address", "personal")],
        &[("street_address", "12 Main Street, Springfield, IL 62704")],
    ),
    (
        "pays by 4111 1111 1111 1111 now",
        &[("4111 1111 1111 1111", "card", "card")],
        &[("1111 1111", "phone", "personal")],
        &[("card", "4111 1111 1111 1111")],
    ),
    (
        "Jane Doe, DE89370400440532013000, Berlin",
        &[("DE89370400440532013000", "iban", "bank_account")],
        &[("Jane Doe, DE89370400440532013000, Berlin", "address", "personal")],
        &[("address", "Jane Doe"), ("iban", "DE89370400440532013000"), ("address", "Berlin")],
    ),
    (
        r#"{"to":"Jane Doe","city":"Bonn"}"#,
        &[],
        &[(r#"Jane Doe","city":"Bonn"#, "address", "personal")],
        &[("address", "Jane Doe"), ("address", "city"), ("address", "Bonn")],
    ),
    (r#"{"zip":53111,"n":1}"#, &[], &[("3111", "address", "personal")], &[("address", "53111")]),
    (r#"[true, null]"#, &[], &[("true, null", "person", "personal")], &[]),
    ("Jane", &[("Jane", "email", "personal")], &[], &[("email", "Jane")]),
];

#[test]
fn redact_joins_what_a_model_found_and_recognisers_win() {
    for (text, recognised, by_model, expected) in TABLE {
        let spans = |found: Found<'_>| -> Vec<Span> {
            found.iter().map(|(value, entity, category)| span(text, value, entity, category)).collect()
        };
        let (recognised, by_model) = (spans(recognised), spans(by_model));
        let joined = joined(text, &recognised, &by_model);
        let expected: Vec<_> = expected.iter().map(|(e, v)| ((*e).to_owned(), (*v).to_owned())).collect();
        assert_eq!(told(text, &joined), expected, "{text}");
        let entities = by_model.iter().map(|span| (span.entity.clone(), span.category.clone())).collect();
        assert!(are_joined(&[joined], &[recognised], &entities), "{text}");
    }
}

#[test]
fn redact_takes_places_for_joined_only_where_nothing_recognised_is_missing() {
    let text = "Jane Doe, jane@example.org";
    let entities: BTreeMap<Name, Name> = [(name("person"), name("personal"))].into();
    let (person, email) =
        (span(text, "Jane Doe", "person", "personal"), span(text, "jane@example.org", "email", "personal"));
    let own = [vec![email.clone()]];
    let are = |spans: Vec<Span>| are_joined(&[spans], &own, &entities);
    assert!(are(vec![person.clone(), email.clone()]), "negative control");
    assert!(are(vec![email.clone()]));
    assert!(!are(vec![person.clone()]), "the address is missing");
    assert!(!are(vec![person.clone(), Span { end: email.end - 4, ..email.clone() }]), "a part of it is");
    assert!(!are(vec![Span { category: name("network"), ..email.clone() }]), "under another kind of data");
    assert!(!are(vec![Span { entity: name("place"), ..person }, email.clone()]), "nobody's entity");
    assert!(!are_joined(&[vec![email]], &[], &entities), "another number of texts");
}

fn chat(text: &str) -> Input {
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": text }] });
    Input::read(Kind::Chat, &body.to_string()).unwrap()
}

#[test]
fn redact_leaves_json_json_where_a_number_is_replaced() {
    let text = r#"{"zip":53111,"to":"Zo\u00eb, Bonn"}"#;
    let found = [span(text, "53111", "address", "personal"), span(text, "Zo", "person", "personal")];
    let spans = [joined(text, &[], &found)];
    let token = |span: &Span, _: &str| Some(Token::new(&span.entity, 7));
    let input = chat(text);
    let redacted = redact(&input, &spans, token).unwrap();
    let said: Value = serde_json::from_str(redacted.texts()[0]).unwrap();
    assert!(said["zip"].as_str().is_some_and(|zip| zip.starts_with("<ADDRESS_")), "{said}");
    assert!(is_redaction_of(&redacted, &input, &spans));
    // Negative control: in other text a number is a word like any other, and nothing is put around its token.
    let plain = chat("zip 53111");
    let spans = [vec![span("zip 53111", "53111", "address", "personal")]];
    let redacted = redact(&plain, &spans, token).unwrap();
    assert!(redacted.texts()[0].starts_with("zip <ADDRESS_"), "{}", redacted.texts()[0]);
    assert!(is_redaction_of(&redacted, &plain, &spans));
}
