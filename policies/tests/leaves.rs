//! Every string and number of a task's input is looked at, whatever the kind: a planted value is found in each place that the
//! reader takes it in, in several encodings.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::render::{Protocol, render};
use tidegate_schemas::task::{Message, Task};

/// The value, as forms that hide it from who looks at plain text only.
const CANARIES: [&str; 9] = [
    "canary.7f3a@example.org",
    "Y2FuYXJ5LjdmM2FAZXhhbXBsZS5vcmc=",
    "63616e6172792e37663361406578616d706c652e6f7267",
    "canary.7f3a%40example.org",
    "canary.7f3a%2540example.org",
    "canary.7f3a&#64;example.org",
    "canary.7f3a\\u0040example.org",
    "ｃａｎａｒｙ．７ｆ３ａ＠ｅｘａｍｐｌｅ．ｏｒｇ",
    "c\u{430}n\u{200b}ary.7f3a@ex\u{430}mple.org",
];

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default");
    Judge::new(Arc::new(Bundle::from_dir(&dir).unwrap())).unwrap()
});

/// A task of each kind with everything that it can hold.
fn kinds() -> Vec<(&'static str, Value)> {
    let call = json!({ "id": "call-1", "type": "function",
        "function": { "name": "look", "arguments": "{\"who\": \"nobody\"}" } });
    let tool = json!({ "type": "function", "function": { "name": "look", "description": "looks",
        "parameters": { "type": "object", "properties": { "who": { "type": "string", "enum": ["a", "b"] } },
            "required": ["who"] } } });
    vec![
        (
            "chat",
            json!({ "messages": [
                    { "role": "system", "content": "be brief" },
                    { "role": "user", "content": "hello" },
                    { "role": "assistant", "content": "yes", "tool_calls": [call] },
                    { "role": "tool", "content": "{\"a\": 1}", "tool_call_id": "call-1" }],
                "tools": [tool], "sampling": { "stop": ["end"] } }),
        ),
        (
            "extract",
            json!({ "text": "a text", "instructions": "what to look for",
                "schema": { "type": "object", "properties": { "a": { "type": "string", "description": "it" } } } }),
        ),
        ("classify", json!({ "text": "a text", "classes": ["one", "two"], "instructions": "which" })),
        ("embed", json!({ "texts": ["first", "second"] })),
        (
            "chat",
            json!({ "prompt": { "name": "answer", "variables": { "question": "what?", "notes": "none" } } }),
        ),
    ]
}

/// Where the strings of a value are; a key counts as one, behind its member's place.
fn places(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((at, value)) = open.pop() {
        match value {
            Value::String(_) | Value::Number(_) => found.push(at),
            Value::Array(items) => {
                open.extend(items.iter().enumerate().map(|(index, item)| (format!("{at}/{index}"), item)));
            }
            Value::Object(members) => {
                open.extend(members.iter().map(|(key, item)| (format!("{at}/{key}"), item)));
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
    found.sort();
    found
}

fn read(kind: &str, input: &Value) -> Option<Task> {
    let payload = json!({ "labels": { "sensitivity": "public" }, "input": input }).to_string();
    Task::read(&Message {
        tenant: &Name::new("demo").unwrap(),
        agent: &Name::new("assistant").unwrap(),
        kind,
        headers: &Headers::new(),
        payload: payload.as_bytes(),
        position: &Position::new("TASKS_demo".to_owned(), 1),
        submitted: Timestamp::UNIX_EPOCH,
    })
    .ok()
}

fn found(task: &Task) -> bool {
    JUDGE.labels(task).1.keys().any(|name| name.as_str() == "email")
}

#[test]
fn canary_in_every_string_of_every_kind_is_found() {
    let mut planted = 0;
    for (kind, input) in kinds() {
        let clean = read(kind, &input).unwrap();
        assert!(!found(&clean), "negative control: {kind} without a canary");
        for place in places(&input) {
            for canary in CANARIES {
                let mut with = input.clone();
                *with.pointer_mut(&place).unwrap() = json!(canary);
                // What is no free text, as a role, takes no canary. A prompt's name may look like one form of it, and is not sent.
                let Some(task) = read(kind, &with).filter(|_| !place.ends_with("/prompt/name")) else {
                    continue;
                };
                planted += 1;
                assert!(found(&task), "{kind}{place} as {canary}");
            }
        }
    }
    assert!(planted > 20 * CANARIES.len(), "only {planted} were planted");
}

#[test]
fn canary_in_a_key_and_a_number_is_found() {
    for (place, kind) in
        [("/tools/0/function/parameters/properties", "chat"), ("/schema/properties", "extract")]
    {
        let (_, mut input) = kinds().into_iter().find(|(of, _)| *of == kind).unwrap();
        input.pointer_mut(place).unwrap()["canary.7f3a@example.org"] = json!({ "type": "string" });
        assert!(found(&read(kind, &input).unwrap()), "{kind}");
    }
    let (kind, mut input) = kinds().remove(0);
    let numbers = |input: &Value| -> Vec<String> {
        let (_, counts) = JUDGE.labels(&read(kind, input).unwrap());
        counts.keys().map(ToString::to_string).collect()
    };
    input["messages"][2]["tool_calls"][0]["function"]["more"] =
        json!({ "ssn": 123_456_780, "to": 4_111_111_111_111_111_u64 });
    let counted = numbers(&input);
    assert!(counted.contains(&"card".to_owned()), "{counted:?}");
    assert!(counted.contains(&"us_ssn_named".to_owned()), "{counted:?}");
    input["messages"][2]["tool_calls"][0]["function"]["more"] =
        json!({ "id": 123_456_780, "to": 4_111_111_111_111_112_u64 });
    assert!(numbers(&input).is_empty(), "negative control");
}

/// What a task says of itself beside its input leaves for no provider.
#[test]
fn canary_beside_the_input_is_in_no_request() {
    let payload =
        json!({ "labels": { "sensitivity": "public" }, "workflow": "canary-7f3a", "session": "canary-7f3a",
        "data_subjects": ["canary-7f3a"], "id": "canary-7f3a",
        "input": { "messages": [{ "role": "user", "content": "hello" }] } })
        .to_string();
    let task = Task::read(&Message {
        tenant: &Name::new("demo").unwrap(),
        agent: &Name::new("assistant").unwrap(),
        kind: "chat",
        headers: &Headers::new(),
        payload: payload.as_bytes(),
        position: &Position::new("TASKS_demo".to_owned(), 1),
        submitted: Timestamp::UNIX_EPOCH,
    })
    .unwrap();
    for protocol in [Protocol::OpenaiChat, Protocol::AnthropicMessages] {
        let bytes = render(protocol, "a-model", &task.input).unwrap().bytes;
        let sent = String::from_utf8_lossy(&bytes);
        assert!(!sent.contains("canary") && sent.contains("hello"), "{sent}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn canary_among_any_text_is_found(
        before in "\\PC{0,60}", after in "\\PC{0,60}",
        canary in proptest::sample::select(CANARIES.to_vec()),
        kind in 0_usize..5, place in any::<proptest::sample::Index>(),
    ) {
        let (kind, mut input) = kinds().remove(kind);
        let places = places(&input);
        let place = &places[place.index(places.len())];
        *input.pointer_mut(place).unwrap() = json!(format!("{before} {canary} {after}"));
        if let Some(task) = read(kind, &input) {
            prop_assert!(found(&task), "{kind}{place}");
        }
    }
}
