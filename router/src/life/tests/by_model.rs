//! What a model finds leaves as tokens as well, where who redacts has found it again and says where it stands.

use tidegate_schemas::redact::{Span, redact};
use tidegate_schemas::work::RedactWork;

use super::redact::{after, step_of, world};
use super::*;

const TEXT: &str = "Ask Maria Fernandez, maria@example.org, about the parcel";
const NAME: std::ops::Range<usize> = 4..19;

fn internal() -> Value {
    body(&json!({ "sensitivity": "internal", "purpose": "support" }), TEXT)
}

fn pinned(world: &World) -> String {
    world.judge.bundle().taxonomy().model_scan.as_ref().unwrap().sha256.unwrap().to_string()
}

/// The task and its work, once it was scanned and that was found.
fn scanned(world: &World, findings: &Value) -> (Stored, Stored, Message) {
    let task = task_at(1, &internal());
    let first = sent(&world.begin(task.clone()).1).clone();
    assert_eq!(first.subject, "work.local.scan.interactive.acme", "what could leave redacted is scanned");
    let scan = kept(&first, Position::new("WORK_LOCAL", 2));
    let told = json!({ "reason": "scanned", "model": pinned(world), "findings": findings });
    let message = sent(&after(world, &task, &scan, step_of("local", &scan, &told))).clone();
    let work = kept(&message, Position::new("WORK_LOCAL", 3));
    (task, work, message)
}

/// What the local lane makes of it, with these places beside the recognisers'.
fn redacted(work: &Message, more: &[(&str, &str, std::ops::Range<usize>)]) -> (Value, Vec<Vec<Span>>) {
    let work: RedactWork = serde_json::from_slice(&work.payload).unwrap();
    let mut spans = work.spans.clone();
    for (entity, category, range) in more {
        let (entity, category) = (name(entity), name(category));
        spans[0].push(Span { start: range.start, end: range.end, entity, category });
    }
    spans[0].sort_by_key(|span| span.start);
    let token = |span: &Span| format!("<{}_k7f3q2xa>", span.entity.as_str().to_uppercase());
    let input = redact(&work.input, &spans, |span, _| token(span).parse().ok()).unwrap();
    (serde_json::to_value(input).unwrap(), spans)
}

#[test]
fn redact_lets_a_name_in_internal_text_leave_as_a_token() {
    let world = world();
    let (task, work, message) = scanned(&world, &json!({ "person": 1, "email": 1 }));
    assert_eq!(message.subject, "work.local.redact.interactive.acme", "{}", decision(&message).sentence);
    let asked: RedactWork = serde_json::from_slice(&message.payload).unwrap();
    let by_model = asked.by_model.unwrap();
    assert!(by_model.required, "the decision rests on the model");
    assert_eq!(by_model.sha256.unwrap().to_string(), pinned(&world));
    assert!(!by_model.entities.contains_key(&name("place")), "a town is no finding, and stays");

    let (input, spans) = redacted(&message, &[("person", "personal", NAME)]);
    let reason = json!({ "reason": "redacted", "input": input, "tokens": 2, "spans": spans,
                         "by_model": { "model": pinned(&world), "findings": { "person": 1 } } });
    let step = after(&world, &task, &work, step_of("local", &work, &reason));
    let leaves = sent(&step);
    let decided = decision(leaves);
    assert!(leaves.subject.starts_with("work.cloud."), "{}", decided.sentence);
    let text = String::from_utf8(leaves.payload.to_vec()).unwrap();
    assert!(text.contains("<PERSON_k7f3q2xa>, <EMAIL_k7f3q2xa>") && !text.contains("Maria"), "{text}");
    assert!(leaves.ticket.is_some() && decided.facts.redaction.unwrap().is_verified());

    // Negative control: without the role it stays, whatever was found.
    let (_, _, plain) = scanned_without_role();
    assert!(plain.subject.starts_with("work.local.default."), "{}", plain.subject);
}

fn scanned_without_role() -> (Stored, Stored, Message) {
    let world = World::new();
    let plain = body(&json!({ "sensitivity": "internal", "purpose": "support" }), "Ask Maria Fernandez");
    let task = task_at(1, &plain);
    let first = sent(&world.begin(task.clone()).1).clone();
    let scan = kept(&first, Position::new("WORK_LOCAL", 2));
    let told = json!({ "reason": "scanned", "model": pinned(&world), "findings": { "person": 1 } });
    let message = sent(&after(&world, &task, &scan, step_of("local", &scan, &told))).clone();
    (task, scan, message)
}

#[test]
fn redact_believes_only_the_bundles_model_and_only_what_that_may_find() {
    let world = world();
    let (task, work, message) = scanned(&world, &json!({ "person": 1 }));
    let name_of = ("person", "personal", NAME);
    let with = |more: &[(&str, &str, std::ops::Range<usize>)], by_model: Value| {
        let (input, spans) = redacted(&message, more);
        json!({ "reason": "redacted", "input": input, "tokens": 2, "spans": spans, "by_model": by_model })
    };
    let by = |findings: Value| json!({ "model": pinned(&world), "findings": findings });
    let other = json!({ "model": "ab".repeat(32), "findings": {} });
    let mut unsaid = with(std::slice::from_ref(&name_of), by(json!({})));
    unsaid.as_object_mut().unwrap().remove("spans");
    let rows = [
        ("what it found is replaced", with(std::slice::from_ref(&name_of), by(json!({ "person": 1 }))), true),
        ("nobody says that the model read it", with(&[], Value::Null), false),
        ("another model", with(std::slice::from_ref(&name_of), other), false),
        ("where it stands is not said", unsaid, false),
        ("a place that is none of its entities", with(&[("parcel", "personal", NAME)], by(json!({}))), false),
        ("another kind of data", with(&[("person", "network", NAME)], by(json!({}))), false),
        ("a bank account is found, too", with(&[name_of], by(json!({ "bank_account": 1 }))), false),
    ];
    for (what, reason, leaves) in rows {
        let step = after(&world, &task, &work, step_of("local", &work, &reason));
        let subject = &sent(&step).subject;
        assert_eq!(subject.starts_with("work.cloud."), leaves, "{what}: {subject}");
        assert!(leaves || subject.starts_with("work.local.default."), "{what}: {subject}");
    }
}

#[test]
fn redact_never_lets_a_recognisers_finding_out_beside_the_models() {
    let world = world();
    let (task, work, message) = scanned(&world, &json!({ "person": 1 }));
    let asked: RedactWork = serde_json::from_slice(&message.payload).unwrap();
    let (mut input, mut spans) = redacted(&message, &[("person", "personal", NAME)]);
    let by_model = json!({ "model": pinned(&world), "findings": { "person": 1 } });
    let told = |input: &Value, spans: &[Vec<Span>]| {
        let reason = json!({ "reason": "redacted", "input": input, "tokens": 1, "spans": spans,
                             "by_model": by_model });
        let step = after(&world, &task, &work, step_of("local", &work, &reason));
        sent(&step).subject.clone()
    };
    assert!(told(&input, &spans).starts_with("work.cloud."), "negative control");
    spans[0].retain(|span| span.entity == name("person"));
    assert_eq!(asked.spans[0].len(), 1, "the address was recognised");
    input["messages"][0]["content"] = json!("Ask <PERSON_k7f3q2xa>, maria@example.org, about the parcel");
    assert!(told(&input, &spans).starts_with("work.local.default."), "what a recogniser found is left out");
}
