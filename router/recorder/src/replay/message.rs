//! A record as the message that is published again.

use tidegate_audit::{Body, Record, RecordKind, Replay};
use tidegate_bus::Outbound;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::Identifier;
use tidegate_schemas::json;
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::replay::{ReplayTo, prefix, task_id};
use tidegate_schemas::task::TaskWire;

/// The message of one record; `None` where it is none that can be published there.
pub(super) fn of(replay: &Replay, record: &Record, body: &Body) -> Option<Outbound> {
    let (subject, payload, headers) = match replay.target {
        ReplayTo::Subject | ReplayTo::Tool { .. } => {
            let subject = format!("{}.{}", prefix(&replay.target, replay.plan.id), body.subject);
            (subject, body.payload.clone(), kept(body, |name| !name.starts_with("nats-")))
        }
        ReplayTo::Original => {
            // A new task has its own id, trace and deadline; what the tide gate said of the old one is not its producer's word.
            let own = |name: &str| {
                !["nats-", "tidegate-"].iter().any(|prefix| name.starts_with(prefix))
                    && !["ce-id", "ce-expirytime", header::TRACEPARENT].contains(&name)
            };
            (body.subject.clone(), again(replay, record, body)?.into(), kept(body, own))
        }
    };
    let headers = headers
        .with(header::REPLAY_ID, replay.plan.id.to_string())
        .with(header::REPLAY_POSITION, record.leaf.position().to_string())
        .with(header::REPLAY_TIME, record.leaf.time.to_string());
    Some(Outbound::new(subject, payload).with_id(message_id(replay, record.leaf.index)).with_headers(headers))
}

fn message_id(replay: &Replay, index: u64) -> String {
    format!("replay:{}:{index}", replay.plan.id)
}

/// The index in a message's id, where the message is this replay's.
pub(super) fn index_of(replay: &Replay, message_id: &str) -> Option<u64> {
    let (id, index) = message_id.strip_prefix("replay:")?.split_once(':')?;
    if id == replay.plan.id.to_string() { index.parse().ok() } else { None }
}

/// Headers that go along. The server acts on its own ones, so those of the first time must not come again.
fn kept(body: &Body, keep: impl Fn(&str) -> bool) -> Headers {
    let pairs = body.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    Headers::trusted(pairs.filter(|(name, _)| keep(name)))
}

/// A task's envelope as a new one.
fn again(replay: &Replay, record: &Record, body: &Body) -> Option<Vec<u8>> {
    let of = record.leaf.task.filter(|_| record.leaf.kind == RecordKind::Task)?;
    let mut wire: TaskWire = json::read(&body.payload, TASK_BYTES_MAX).ok()?;
    wire.id = Some(task_id(replay.plan.id, replay.begun, record.leaf.index).to_string());
    wire.replay_of = Some(of);
    // Who asked the first time waits no more.
    wire.reply = None;
    if wire.data_subjects.is_empty() {
        // Whoever erases the first one erases what came of it.
        wire.data_subjects = vec![Identifier::new(format!("task:{of}")).ok()?];
    }
    serde_json::to_vec(&wire).ok()
}
