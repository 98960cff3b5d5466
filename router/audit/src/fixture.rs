//! Messages for tests, as the roles write them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tidegate_schemas::control::Act;
use tidegate_schemas::ids::{Identifier, Name, Position, TaskId};
use tidegate_schemas::work::Hop;
use uuid::Uuid;

use crate::checkpoint::Signer;
use crate::entry::{Entry, Item};
use crate::keys::MasterKey;
use crate::store::{Keys, Options, Store};

/// A text that must never stand in the record in the clear.
pub(crate) const CANARY: &str = "canary-7f3a-anna.schmidt@example.com";

/// Half past eight.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2026-11-23T08:30:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// Task number `n`.
pub(crate) fn task_id(n: u64) -> TaskId {
    TaskId(Uuid::from_u128(0x0193_5000_0000_7000_8000_0000_0000_0000 | u128::from(n)))
}

pub(crate) fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

pub(crate) fn keys() -> Keys {
    Keys { master: master(), signer: Signer::from_bytes(&[5; 32], "tidegate/test") }
}

pub(crate) fn small() -> Options {
    Options { cache_bytes: 8 * 1024 * 1024, ..Options::default() }
}

/// A store whose keys and nonces are the same each time.
pub(crate) fn seeded(dir: &Path) -> Store {
    Store::seeded(dir, keys(), 1).expect("opens")
}

pub(crate) fn store(dir: &Path) -> Store {
    Store::open(dir, keys(), &small()).expect("opens")
}

fn entry(
    stream: &str,
    sequence: u64,
    subject: String,
    headers: Vec<(String, String)>,
    payload: String,
) -> Entry {
    let time = at(i64::try_from(sequence).unwrap());
    Entry { stream: stream.to_owned(), sequence, subject, time, headers, payload: payload.into() }
}

fn hop(n: u64, cause: &str) -> Vec<(String, String)> {
    let hop = Hop {
        id: task_id(n),
        agent: Name::new("bot").unwrap(),
        task: Position::new("TASKS_acme", n),
        deadline: at(300),
        submitted: at(0),
        hop: 0,
        data_subjects: vec![Identifier::new("customer-1").unwrap()],
        workflow: Some(Identifier::new("flow-1").unwrap()),
        reply: None,
        trace: None,
    };
    let headers = hop.headers(&cause.parse().unwrap());
    headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn decision(outcome: &str) -> String {
    json!({
        "schema_version": 1, "id": task_id(999).0, "outcome": outcome,
        "destination": {"name": "local-small", "lane": "local", "target": "small", "model": "m", "region": "eu"},
        "considered": [], "determining": ["permit-local", "a sentence with anna"],
        "labels": {"sensitivity": "internal", "stakes": "low"}, "scan": "recognisers",
        "facts": {"directory": "00".repeat(32)}, "sentence": CANARY, "bundle": "11".repeat(32), "owner": "ops"
    })
    .to_string()
}

/// Task number `n`, the `sequence`th message of its stream.
pub(crate) fn task(n: u64, sequence: u64) -> Entry {
    let payload = json!({
        "id": task_id(n).0, "input": {"messages": [{"role": "user", "content": CANARY}]},
        "labels": {"sensitivity": "internal"}, "workflow": "flow-1", "data_subjects": ["customer-1"]
    });
    entry("TASKS_acme", sequence, "task.acme.bot.chat".to_owned(), Vec::new(), payload.to_string())
}

/// The withdrawal of task number `n`.
pub(crate) fn cancel(n: u64, sequence: u64) -> Entry {
    entry("TASKS_acme", sequence, format!("cancel.acme.bot.{}", task_id(n)), Vec::new(), String::new())
}

/// Local work of task number `n`.
pub(crate) fn work(n: u64, sequence: u64, cause: &str) -> Entry {
    let mut headers = hop(n, cause);
    headers.push(("tidegate-decision".to_owned(), decision("local")));
    entry("WORK_LOCAL", sequence, "work.local.small.interactive.acme".to_owned(), headers, "{}".to_owned())
}

/// The same of a decision whose labels have these names, in the words of the bundle that judged.
pub(crate) fn labelled(n: u64, sequence: u64, cause: &str, known: serde_json::Value) -> Entry {
    let mut work = work(n, sequence, cause);
    let header = work.headers.iter_mut().find(|(name, _)| name == "tidegate-decision").unwrap();
    let mut decision: serde_json::Value = serde_json::from_str(&header.1).unwrap();
    decision["known"] = known;
    header.1 = decision.to_string();
    work
}

/// The review of task number `n`, until second 1,000.
pub(crate) fn review(n: u64, sequence: u64, cause: &str) -> Entry {
    let payload = json!({
        "schema_version": 1, "task": task_id(n).0, "agent": "bot", "held": cause, "content": "22".repeat(32),
        "salt": "33".repeat(32), "review_by": at(1_000), "deadline_left_ms": 1_000,
        "decision": serde_json::from_str::<serde_json::Value>(&decision("hold")).unwrap()
    });
    entry("EVENTS", sequence, "review.finance.acme".to_owned(), hop(n, cause), payload.to_string())
}

/// A verdict on the review at `review`.
pub(crate) fn verdict(sequence: u64, review: &str) -> Entry {
    let payload = json!({
        "schema_version": 1, "review": review, "content": "22".repeat(32), "action": {"action": "approve"},
        "reason": CANARY
    });
    entry("EVENTS", sequence, "verdict.finance.acme.rita".to_owned(), Vec::new(), payload.to_string())
}

/// An act of an operator about the record, or of the recorder.
pub(crate) fn act(operator: &str, sequence: u64, act: &Act) -> Entry {
    let payload = json!({ "schema_version": 1, "act": act, "reason": CANARY });
    entry("EVENTS", sequence, format!("control.record.{operator}"), Vec::new(), payload.to_string())
}

/// The result of task number `n`.
pub(crate) fn result(n: u64, sequence: u64, cause: &str, state: &str) -> Entry {
    let payload = json!({
        "schema_version": 1, "task": task_id(n).0, "tenant": "acme", "agent": "bot", "state": state,
        "output": {"type": "text", "text": CANARY, "finish": "stop"},
        "usage": {"input_tokens": 5, "output_tokens": 7}, "attempts": 1
    });
    let subject = format!("result.acme.bot.{}", task_id(n));
    entry("RESULTS", sequence, subject, hop(n, cause), payload.to_string())
}

/// The answer to a message at `cause` that got no task of its own: an id made from where it stands.
pub(crate) fn refused(cause: &str, sequence: u64, code: &str) -> Entry {
    let task = TaskId::from_position(&cause.parse().unwrap());
    let payload = json!({
        "schema_version": 1, "task": task.0, "tenant": "acme", "agent": "bot", "state": "rejected",
        "error": {"code": code, "message": "refused"}
    });
    let headers = [("tidegate-cause", cause.to_owned()), ("tidegate-task-id", task.to_string())];
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
    entry("RESULTS", sequence, format!("result.acme.bot.{task}"), headers, payload.to_string())
}

pub(crate) fn items(entries: impl IntoIterator<Item = Entry>) -> Vec<Item> {
    entries.into_iter().map(Item::Message).collect()
}

/// Task, work and result of `tasks` tasks, each cause before its effect.
pub(crate) fn road(tasks: u64) -> Vec<Item> {
    let three = |n: u64| {
        [
            task(n, n),
            work(n, n, &format!("TASKS_acme:{n}")),
            result(n, n, &format!("WORK_LOCAL:{n}"), "completed"),
        ]
    };
    items((1..=tasks).flat_map(three))
}

/// Task number `n` of these data subjects.
pub(crate) fn task_of(n: u64, sequence: u64, subjects: &[&str]) -> Entry {
    let mut task = task(n, sequence);
    let mut body: serde_json::Value = serde_json::from_slice(&task.payload).unwrap();
    body["data_subjects"] = json!(subjects);
    task.payload = body.to_string().into();
    task
}

/// An operator's act that erases what leaves call so.
pub(crate) fn erase(sequence: u64, references: &[String]) -> Entry {
    let act = json!({ "act": "erase", "tenant": "acme", "subjects": references });
    let payload = json!({ "schema_version": 1, "act": act, "reason": "asked to" });
    entry("EVENTS", sequence, "control.erase.olga".to_owned(), Vec::new(), payload.to_string())
}
