//! A task's message: headers, an empty line, the envelope. The first header is the subject's kind.

use jiff::Timestamp;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::task::{Message, Rejected, Task};

use super::{CANARY, Target, headed, none};

pub(super) const TARGET: Target = Target {
    name: "envelope",
    run,
    made: none,
    words: &[
        "\"input\"",
        "\"messages\"",
        "\"labels\"",
        "\"sensitivity\"",
        "\"restricted\"",
        "\"public\"",
        "\"prompt\"",
        "\"variables\"",
        "\"schema\"",
        "\"tools\"",
        "\"texts\"",
        "\"id\"",
        "\"limits\"",
        "\"deadline_ms\"",
        "\"parent_task\"",
        "ce-dataclassification: ",
        "tidegate-reply: ",
        "kind: chat\n",
        "kind: embed\n",
        "\\u0000",
        "\\ud800",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
    ],
    rounds: 20_000,
};

fn read(kind: &str, headers: &Headers, payload: &[u8]) -> Result<Task, Rejected> {
    Task::read(&Message {
        tenant: &Name::new("acme").unwrap(),
        agent: &Name::new("desk").unwrap(),
        kind,
        headers,
        payload,
        position: &Position::new("TASKS_acme", 7),
        submitted: Timestamp::UNIX_EPOCH,
    })
}

fn run(data: &[u8]) {
    let (pairs, payload) = headed(data);
    let kind = pairs.first().filter(|(name, _)| *name == "kind").map_or("chat", |(_, kind)| *kind);
    let Ok(headers) = Headers::read(pairs.iter().copied().filter(|(name, _)| *name != "kind")) else {
        return;
    };
    let answer = read(kind, &headers, payload);
    match &answer {
        Ok(task) => {
            // A number may be longer as we write it.
            assert!(
                payload.len() <= TASK_BYTES_MAX && task.input.bytes() <= 8 * payload.len(),
                "more than came"
            );
            assert!(task.input.texts().len() <= payload.len(), "more texts than bytes");
        }
        Err(rejected) => {
            let sentence = &rejected.refused.sentence;
            assert!(!sentence.is_empty(), "a producer is told why");
            assert!(!sentence.contains(CANARY), "a refusal quotes: {sentence}");
        }
    }
    assert_eq!(answer, read(kind, &headers, payload), "read twice alike");
}
