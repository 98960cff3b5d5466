//! Text that is looked at for personal data and secrets, by the default bundle.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::task::{Message, Task};

use super::{Target, none};

pub(super) const TARGET: Target = Target {
    name: "finder",
    run,
    made: none,
    words: &[
        "jane@example.org",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "sk-proj-",
        "AKIA",
        "-----BEGIN PRIVATE KEY-----",
        "%40",
        "&#64;",
        "\\u0040",
        "amFuZUBleGFtcGxlLm9yZw",
        "6a616e65406578616d706c652e6f7267",
        "\u{200b}",
        "\u{ff11}",
        "\u{430}",
        "\u{301}",
        "+49 30 ",
        "password: ",
        "diagnosis",
        "192.168.0.1",
        "@",
        "%",
        "=",
    ],
    rounds: 3_000,
};

/// Something that is always found.
const FOUND: &str = " jane.doe@example.org ";

std::thread_local! {
    static JUDGE: Judge = {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/default");
        Judge::new(Arc::new(Bundle::from_dir(&dir).unwrap())).unwrap()
    };
}

fn task(text: &str) -> Option<Task> {
    let body = json!({ "input": { "messages": [{ "role": "user", "content": text }] }, "labels": { "sensitivity": "public" } });
    Task::read(&Message {
        tenant: &Name::new("acme").unwrap(),
        agent: &Name::new("desk").unwrap(),
        kind: "chat",
        headers: &Headers::new(),
        payload: body.to_string().as_bytes(),
        position: &Position::new("TASKS_acme", 7),
        submitted: Timestamp::UNIX_EPOCH,
    })
    .ok()
}

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(plain) = task(&text) else { return };
    let (labels, found) = JUDGE.with(|judge| judge.labels(&plain));
    assert!(found.values().sum::<u32>() as usize <= 16 * (text.len() + 1), "more is found than there is");
    assert!(
        found.is_empty() || labels.sensitivity > Sensitivity::Public || !labels.categories.is_empty(),
        "found, and nothing of it"
    );
    // Whatever stands beside it hides no value.
    let Some(with) = task(&format!("{text}\n{FOUND}\n{text}")) else { return };
    let (_, found) = JUDGE.with(|judge| judge.labels(&with));
    assert!(found.keys().any(|name| name.as_str() == "email"), "hidden by what stands beside it: {text:?}");
}
