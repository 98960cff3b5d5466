#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::labels::{Raise, Sensitivity, Stakes};

const NOW: &str = "2026-11-01T12:00:00Z";
const UUID: &str = "019a4000-0000-7000-8000-000000000001";

fn read_as(kind: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<Task, Rejected> {
    let name = |text: &str| Name::new(text).unwrap();
    Task::read(&Message {
        tenant: &name("acme"),
        agent: &name("helpdesk"),
        kind,
        headers: &Headers::read(headers.iter().copied()).unwrap(),
        payload,
        position: &Position::new("TASKS_acme", 7),
        submitted: NOW.parse().unwrap(),
    })
}

fn read(body: &Value) -> Result<Task, Rejected> {
    read_as("chat", &[], body.to_string().as_bytes())
}

fn body() -> Value {
    json!({
        "id": UUID,
        "input": { "messages": [{ "role": "user", "content": "hello" }] },
        "labels": { "sensitivity": "public" }
    })
}

fn with(changes: Value) -> Value {
    let mut body = body();
    let (Value::Object(fields), Value::Object(changes)) = (&mut body, changes) else { unreachable!() };
    fields.extend(changes);
    body
}

#[test]
fn a_plain_task_is_read_with_its_defaults() {
    let task = read(&body()).unwrap();
    assert_eq!(task.id.to_string(), UUID);
    assert_eq!(task.limits.deadline.to_string(), "2026-11-01T12:05:00Z");
    assert_eq!(task.data_subjects[0].as_str(), format!("task:{UUID}"));
    assert_eq!(task.labels.sensitivity, Sensitivity::Public);
    assert_eq!(task.kind(), Kind::Chat);
    assert_eq!(task.class, Class::Interactive);
}

#[test]
fn bad_bodies_are_refused_with_their_code() {
    let labelless = json!({ "input": { "messages": [{ "role": "user", "content": "x" }] } });
    let deep = format!("{{\"input\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let long = vec![b' '; TASK_BYTES_MAX + 1];
    let table: Vec<(&str, Vec<u8>, Code)> = vec![
        ("not JSON", b"hello".to_vec(), Code::InvalidJson),
        ("nothing", Vec::new(), Code::InvalidJson),
        ("not UTF-8", vec![b'"', 0xff, b'"'], Code::InvalidUtf8),
        ("too large", long, Code::TooLarge),
        ("too deep", deep.into_bytes(), Code::TooDeep),
        ("a key twice", br#"{"id":"a","id":"b"}"#.to_vec(), Code::InvalidJson),
        ("a key twice, below", br#"{"input":{"a":[{"b":1,"b":2}]}}"#.to_vec(), Code::InvalidJson),
        ("a key twice, escaped", br#"{"id":"a","\u0069d":"b"}"#.to_vec(), Code::InvalidJson),
        ("unknown field", with(json!({ "lables": {} })).to_string().into_bytes(), Code::InvalidField),
        ("no labels", labelless.to_string().into_bytes(), Code::LabelsMissing),
        (
            "another tenant",
            with(json!({ "tenant": "globex" })).to_string().into_bytes(),
            Code::IdentityMismatch,
        ),
        ("another agent", with(json!({ "agent": "root" })).to_string().into_bytes(), Code::IdentityMismatch),
        ("another kind", with(json!({ "kind": "embed" })).to_string().into_bytes(), Code::IdentityMismatch),
        (
            "no input",
            json!({ "labels": { "sensitivity": "public" } }).to_string().into_bytes(),
            Code::InvalidField,
        ),
        (
            "no messages",
            with(json!({ "input": { "messages": [] } })).to_string().into_bytes(),
            Code::InvalidField,
        ),
        ("version", with(json!({ "schema_version": 2 })).to_string().into_bytes(), Code::InvalidField),
        (
            "deadline",
            with(json!({ "limits": { "deadline_ms": 0 } })).to_string().into_bytes(),
            Code::InvalidField,
        ),
        (
            "deadline too far",
            with(json!({ "limits": { "deadline_ms": 3_600_001 } })).to_string().into_bytes(),
            Code::InvalidField,
        ),
        ("id with spaces", with(json!({ "id": "a b" })).to_string().into_bytes(), Code::InvalidField),
        (
            "temperature",
            with(json!({ "input": { "messages": [{ "role": "user", "content": "x" }],
                                    "sampling": { "temperature": 3 } } }))
            .to_string()
            .into_bytes(),
            Code::InvalidField,
        ),
        (
            "nine data subjects",
            with(json!({ "data_subjects": ["a", "b", "c", "d", "e", "f", "g", "h", "i"] }))
                .to_string()
                .into_bytes(),
            Code::InvalidField,
        ),
    ];
    for (what, payload, code) in table {
        let rejected = read_as("chat", &[], &payload).unwrap_err();
        assert_eq!(rejected.refused.code, code, "{what}: {}", rejected.refused);
    }
    for kind in ["paint", "Chat", "CHAT", "c\u{e9}", "_"] {
        let rejected = read_as(kind, &[], body().to_string().as_bytes()).unwrap_err();
        assert_eq!(
            (rejected.refused.code, rejected.id.to_string().as_str()),
            (Code::UnknownKind, UUID),
            "{kind}"
        );
    }
}

/// What is wrong, headers, payload, and whether id and token can be told.
type Unreadable<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, bool);

#[test]
fn whatever_is_wrong_the_producer_is_answered_where_it_waits() {
    let long = vec![b' '; TASK_BYTES_MAX + 1];
    let unknown = with(json!({ "lables": {}, "reply": "r1" })).to_string().into_bytes();
    let bare = json!({ "id": UUID, "reply": "r1" }).to_string().into_bytes();
    let torn = [unknown.as_slice(), b"}"].concat();
    let in_headers: &[(&str, &str)] = &[("ce-id", UUID), ("Tidegate-Reply", "r1")];
    let spoilt: &[(&str, &str)] = &[("ce-expirytime", "soon")];
    let table: Vec<Unreadable<'_>> = vec![
        ("an unknown field", &[], unknown.clone(), true),
        ("no input", &[], bare, true),
        ("a header that is wrong", spoilt, unknown, true),
        ("too large, in headers", in_headers, long.clone(), true),
        ("no JSON, in headers", in_headers, torn.clone(), true),
        ("negative control: too large", &[], long, false),
        ("negative control: no JSON", &[], torn, false),
        ("an id that is none", &[], br#"{"id":7,"reply":"not a token"}"#.to_vec(), false),
        ("no object", &[], b"[1]".to_vec(), false),
    ];
    for (what, headers, payload, told) in table {
        let rejected = read_as("chat", headers, &payload).unwrap_err();
        let token = rejected.reply.as_ref().map(ReplyToken::as_str);
        assert_eq!(token, told.then_some("r1"), "{what}");
        let position = TaskId::from_position(&Position::new("TASKS_acme", 7));
        assert_eq!(rejected.id, if told { UUID.parse().unwrap() } else { position }, "{what}");
    }
    let two = json!({ "id": UUID }).to_string();
    let rejected = read_as("chat", &[("ce-id", "other")], two.as_bytes()).unwrap_err();
    assert_eq!(rejected.external_id, None, "of two ids neither is taken");
}

#[test]
fn a_refusal_quotes_nothing_of_the_body_and_answers_under_the_best_id() {
    let canary = "canary-4711";
    let rejected =
        read(&with(json!({ "labels": { "sensitivity": "public", "extra": canary } }))).unwrap_err();
    assert!(!rejected.refused.to_string().contains(canary));
    assert_eq!(rejected.id.to_string(), UUID);
    let unnamed = read_as("chat", &[], canary.as_bytes()).unwrap_err();
    assert_eq!(unnamed.id, TaskId::from_position(&Position::new("TASKS_acme", 7)));
    let named = read_as("chat", &[("ce-id", "order-9")], b"broken").unwrap_err();
    assert_eq!(named.external_id.unwrap().as_str(), "order-9");
}

#[test]
fn headers_and_body_must_agree_and_the_stricter_label_wins() {
    let payload = body().to_string().into_bytes();
    let read = |headers: &[(&str, &str)]| read_as("chat", headers, &payload);
    assert_eq!(read(&[("ce-id", "other")]).unwrap_err().refused.code, Code::InvalidField);
    assert_eq!(read(&[("ce-id", UUID)]).unwrap().id.to_string(), UUID);
    let raised =
        read(&[("ce-dataclassification", "Confidential"), ("ce-dataregulation", "gdpr, hipaa")]).unwrap();
    assert_eq!(raised.labels.sensitivity, Sensitivity::Confidential);
    assert_eq!(raised.labels.regulations.len(), 2);
    assert_eq!(read(&[("ce-dataclassification", "??")]).unwrap().labels.sensitivity, Sensitivity::Restricted);
    let early = read(&[("ce-expirytime", "2026-11-01T12:00:09Z")]).unwrap();
    assert_eq!(early.limits.deadline.to_string(), "2026-11-01T12:00:09Z");
    let structured = read(&[("content-type", "application/cloudevents+json")]).unwrap_err();
    assert_eq!(structured.refused.code, Code::InvalidHeaders);
}

#[test]
fn duplicate_headers_are_refused_in_any_case() {
    let refused = Headers::read([("Ce-Id", "a"), ("ce-id", "a")]).unwrap_err();
    assert_eq!(refused.code, Code::InvalidHeaders);
    let many: Vec<(String, String)> = (0..65).map(|i| (format!("h{i}"), String::new())).collect();
    assert!(Headers::read(many.iter().map(|(n, v)| (n.as_str(), v.as_str()))).is_err());
}

#[test]
fn an_unknown_sensitivity_or_stake_is_the_most_restrictive() {
    let task = read(&with(json!({ "labels": { "sensitivity": "secretish", "stakes": "unclear" } }))).unwrap();
    assert_eq!(task.labels.sensitivity, Sensitivity::Restricted);
    assert_eq!(task.labels.stakes, Stakes::High);
}

#[test]
fn every_text_of_every_kind_is_seen() {
    let table = [
        (
            "chat",
            json!({
            "messages": [
                { "role": "user", "content": "CANARY1" },
                { "role": "assistant", "content": "", "tool_calls": [{ "CANARY2": { "arguments": ["CANARY3"] } }] },
                { "role": "tool", "content": "CANARY4", "tool_call_id": "CANARY5" }
            ],
            "tools": [{ "function": { "description": "CANARY6" } }],
            "sampling": { "stop": ["CANARY7"] } }),
            7,
        ),
        (
            "extract",
            json!({ "text": "CANARY1", "schema": { "description": "CANARY2" }, "instructions": "CANARY3" }),
            3,
        ),
        ("classify", json!({ "text": "CANARY1", "classes": ["CANARY2", "CANARY3"] }), 3),
        ("embed", json!({ "texts": ["CANARY1", "CANARY2"] }), 2),
    ];
    for (kind, input, canaries) in table {
        let payload = json!({ "input": input, "labels": { "sensitivity": "public" } }).to_string();
        let task = read_as(kind, &[], payload.as_bytes()).unwrap();
        let seen = task.input.texts().join(" ");
        for canary in 1..=canaries {
            assert!(seen.contains(&format!("CANARY{canary}")), "{kind}: {canary}");
        }
        assert!(!format!("{task:?}").contains("CANARY"), "{kind}: a task's Debug shows content");
    }
}

#[test]
fn a_schema_is_an_object_and_classes_differ() {
    let code = |kind: &str, input: Value| {
        let payload = json!({ "input": input, "labels": { "sensitivity": "public" } }).to_string();
        read_as(kind, &[], payload.as_bytes()).err().map(|error| error.refused.code)
    };
    let extract = |schema: Value| code("extract", json!({ "text": "x", "schema": schema }));
    let classify = |classes: Value| code("classify", json!({ "text": "x", "classes": classes }));
    for schema in [json!("s"), json!(true), json!([]), json!(null)] {
        assert_eq!(extract(schema), Some(Code::InvalidSchema));
    }
    for classes in [json!(["", ""]), json!(["a", "a"]), json!(["a", " "]), json!(["a", "a "])] {
        assert_eq!(classify(classes), Some(Code::InvalidField));
    }
    assert_eq!((extract(json!({})), classify(json!(["a", "b"]))), (None, None), "negative control");
    // As OpenAI's own clients send an assistant's message with tool calls.
    let called = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] });
    assert_eq!(code("chat", json!({ "messages": [called] })), None);
}

#[test]
fn hops_survive_their_headers() {
    let task = read(&with(json!({ "reply": "r1", "workflow": "w-1" }))).unwrap();
    let hop = crate::work::Hop { trace: None, ..crate::work::Hop::of(&task, 3) };
    let headers = hop.headers(&task.position);
    assert_eq!(crate::work::Hop::read(&headers).unwrap(), hop);
    assert_eq!(headers.get(header::CAUSE), Some("TASKS_acme:7"));
}

#[test]
fn a_reply_header_that_is_no_token_is_refused_under_the_task_s_id() {
    let read =
        |token: &str| read_as("chat", &[(header::REPLY, token)], with(json!({})).to_string().as_bytes());
    let rejected = read("no.token").unwrap_err();
    assert_eq!((rejected.refused.code, rejected.reply), (Code::InvalidHeaders, None));
    assert!(read("r-1").is_ok(), "negative control");
}

proptest! {
    /// Any identifier is whole after each hop: an id with a comma must not become several, which no erasure would find.
    #[test]
    fn data_subjects_survive_their_headers(subjects in proptest::collection::vec("[!-~]{1,20}|[a%,2C5]{1,9}", 1..8)) {
        let task = read(&with(json!({ "data_subjects": subjects }))).unwrap();
        let hop = crate::work::Hop { trace: None, ..crate::work::Hop::of(&task, 3) };
        let headers = hop.headers(&task.position);
        prop_assert_eq!(crate::work::Hop::read(&headers).unwrap().data_subjects, task.data_subjects);
    }
}

/// Negative control of `data_subjects_survive_their_headers`: what commas part, unescaped, are others.
#[test]
fn a_comma_that_is_not_escaped_parts_an_identifier() {
    let task = read(&with(json!({ "data_subjects": ["uid=jdoe,dc=acme"] }))).unwrap();
    let hop = crate::work::Hop { trace: None, ..crate::work::Hop::of(&task, 3) };
    let mut plain = hop.headers(&task.position);
    assert_eq!(plain.get(header::SUBJECTS), Some("uid=jdoe%2Cdc=acme"));
    plain.set(header::SUBJECTS, "uid=jdoe,dc=acme");
    assert_eq!(crate::work::Hop::read(&plain).unwrap().data_subjects.len(), 2);
}

fn names() -> impl Strategy<Value = std::collections::BTreeSet<Name>> {
    proptest::collection::btree_set("[a-z]{1,3}".prop_map(|text| Name::new(text).unwrap()), 0..4)
}

fn sensitivity() -> impl Strategy<Value = Sensitivity> {
    prop_oneof![
        Just(Sensitivity::Public),
        Just(Sensitivity::Internal),
        Just(Sensitivity::Confidential),
        Just(Sensitivity::Restricted)
    ]
}

proptest! {
    #[test]
    fn labels_are_never_lowered(declared in sensitivity(), found in sensitivity(), categories in names(),
                                more in names(), regulations in names(), residency in names()) {
        let labels = Labels { categories, regulations, residency, ..Labels::of(declared) };
        let raise = Raise { sensitivity: found, categories: more, ..Raise::default() };
        let raised = labels.raised_by(&raise);
        prop_assert!(raised.at_least_as_strict_as(&labels));
        prop_assert!(raised.sensitivity >= found);
    }

    #[test]
    fn what_is_inherited_is_as_strict_as_both(one in sensitivity(), other in sensitivity(), categories in names(),
                                              more in names(), here in names(), there in names(),
                                              agreed in names(), also in names()) {
        let child = Labels { categories, residency: here, consent: agreed, ..Labels::of(one) };
        let parent = Labels { categories: more, residency: there, consent: also, ..Labels::of(other) };
        let both = child.inheriting(&parent);
        prop_assert!(both.at_least_as_strict_as(&child) && both.at_least_as_strict_as(&parent));
        // Negative control: where the parent is stricter in anything, what was declared alone is not.
        prop_assert!(parent.sensitivity <= child.sensitivity || !child.at_least_as_strict_as(&parent));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let read = read_as("chat", &[], &bytes);
        prop_assert!(read.is_ok() || !read.unwrap_err().refused.sentence.is_empty());
    }

    #[test]
    fn positions_and_subjects_round_trip(stream in "[A-Z]{1,9}(_[a-z]{1,5})?", sequence in 1_u64.., tenant in "[a-z][a-z0-9_-]{0,20}") {
        let position = Position::new(stream, sequence);
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        let tenant = Name::new(tenant).unwrap();
        let subject = crate::subject::Subject::Step(crate::subject::Lane::Cloud, tenant);
        prop_assert_eq!(crate::subject::Subject::parse(&subject.to_string()).unwrap(), subject);
    }
}

/// Negative control of `labels_are_never_lowered`: a merge that takes the found sensitivity as it is does lower.
#[test]
fn a_merge_that_takes_the_last_word_would_be_noticed() {
    let labels = Labels::of(Sensitivity::Restricted);
    let wrong = Labels { sensitivity: Sensitivity::Public, ..labels.clone() };
    assert!(!wrong.at_least_as_strict_as(&labels));
}
