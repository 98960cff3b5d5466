//! From the streams into the record, and back out by queries.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_audit::RecordKind;
use tidegate_bus::topology::RECORDER;
use tidegate_bus::{Bus, Role};
use tidegate_recorder::service::{self, StatusAnswer};
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{EVENTS, QUERY_OPEN, RESULTS, WORK_LOCAL};

use crate::cell::{Cell, counted, result, road, task, task_id};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_recorded_causes_first_and_let_go_after() {
    let cell = Cell::start().await;
    road(&cell, 1, 40).await;
    let running = cell.record().await;
    cell.until_records(120).await;
    let reader = cell.reader();
    cell.is_healthy();
    let kinds: Vec<_> =
        reader.task(None, task_id(7)).unwrap()[0].records.iter().map(|r| r.leaf.kind).collect();
    assert_eq!(kinds, [RecordKind::Task, RecordKind::Work, RecordKind::Result]);
    assert!(running.health.report().ready, "{:?}", running.health.report().not_ready);
    running.stop().await;
    let bus = cell.role(Role::Recorder).await;
    for stream in ["TASKS_acme", WORK_LOCAL, RESULTS] {
        let state = bus.consumer_info(stream, RECORDER).await.unwrap();
        assert_eq!((state.ack_floor, state.ack_pending), (40, 0), "{stream}: all let go on the way out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_stopped_or_crashed() {
    let cell = Cell::start().await;
    road(&cell, 1, 5).await;
    let running = cell.record().await;
    cell.until_records(15).await;
    running.crash().await;
    road(&cell, 6, 9).await;
    let running = cell.record().await;
    cell.until_records(27).await;
    running.stop().await;
    let running = cell.record().await;
    road(&cell, 10, 10).await;
    cell.until_records(30).await;
    cell.is_healthy();
    assert_eq!(counted(&cell.reader()), 30, "nothing twice");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_cannot_come_is_flagged_and_holds_nothing_up() {
    let mut cell = Cell::start().await;
    cell.config.cause_wait_ms = 600_000;
    let running = cell.record().await;
    cell.agent().await.publish(task(1, 300_000)).await.unwrap();
    let router = cell.role(Role::Router).await;
    router.publish(result(1, &Position::new(WORK_LOCAL, 99))).await.unwrap();
    router.publish(result(2, &Position::new("NOWHERE", 1))).await.unwrap();
    cell.until("both are recorded without a cause", |_, status| (status.records, status.anomalies) == (3, 2))
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_its_cause_as_long_as_told() {
    let mut cell = Cell::start().await;
    cell.config.cause_wait_ms = 300;
    // A cause that exists and is not read: its stream has no recorder's consumer.
    let admin = cell.role(Role::Provisioner).await;
    let router = cell.role(Role::Router).await;
    cell.agent().await.publish(task(1, 300_000)).await.unwrap();
    let gone = admin.request(
        "$JS.API.CONSUMER.DELETE.TASKS_acme.recorder",
        bytes::Bytes::new(),
        Duration::from_secs(5),
    );
    gone.await.unwrap();
    router.publish(result(1, &Position::new("TASKS_acme", 1))).await.unwrap();
    let running = cell.record().await;
    cell.until("it is recorded alone, and flagged", |_, status| (status.records, status.anomalies) == (1, 1))
        .await;
    assert!(!running.health.report().ready, "and the stream that cannot be read is told");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_over_nats() {
    let cell = Cell::start().await;
    road(&cell, 1, 5).await;
    let running = cell.record().await;
    cell.until_records(15).await;
    let ops = cell.role(Role::Router).await;
    let ask = async |subject: &str, question: Value| -> Value {
        let answer =
            ops.request(subject, question.to_string().into(), Duration::from_secs(10)).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap_or(Value::Null)
    };
    let status = ask(service::STATUS, json!({})).await;
    assert_eq!(status["record"]["records"], 15);
    assert_eq!(status["record"]["open"], 0);
    let page = ask(service::RECORDS, json!({"state": "completed", "limit": 3})).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 3);
    let rest = ask(service::RECORDS, json!({"state": "completed", "after": page["next"]})).await;
    assert_eq!(rest["records"].as_array().unwrap().len(), 2);
    let found = ask(service::TASK, json!({"task": task_id(3)})).await;
    assert_eq!(found["timelines"][0]["state"], "completed");
    assert_eq!(found["timelines"][0]["records"][0]["kind"], "task");
    let standing = ask(QUERY_OPEN, json!({})).await;
    assert_eq!((&standing["open"], &standing["behind"]), (&json!({}), &json!(0)));
    cell.agent().await.publish(task(6, 300_000)).await.unwrap();
    cell.until_records(16).await;
    // Counted once a second, whoever asks.
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let counted = async {
        while ask(QUERY_OPEN, json!({})).await["open"] != json!({ "acme": 1 }) {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.expect("the open task is counted");
    assert_eq!(ask(service::TASK, json!({"task": task_id(99)})).await["timelines"], json!([]));
    assert_eq!(ask(service::RECORDS, json!({"no_such_field": 1})).await, Value::Null, "refused");
    running.stop().await;
}

/// Records there are, and commits since the recorder began.
async fn counts(bus: &Bus) -> (u64, u64) {
    let answer = bus.request(service::STATUS, Bytes::new(), Duration::from_secs(10)).await.unwrap();
    let answer: StatusAnswer = serde_json::from_slice(&answer.payload).unwrap();
    (answer.record.records, answer.commits)
}

#[tokio::test(flavor = "multi_thread")]
async fn group_commit_takes_a_trickle_one_by_one_and_a_flood_in_groups() {
    const TRICKLE: u64 = 20;
    const FLOOD: u64 = 2_000;
    /// Fewest records a commit of a flood, on average.
    const GROUP_MIN: u64 = 8;
    let cell = Cell::start().await;
    let (agent, ops) = (cell.agent().await, cell.role(Role::Router).await);
    let running = cell.record().await;
    for n in 1..=TRICKLE {
        agent.publish(task(n, 300_000)).await.unwrap();
        cell.until_records(n).await;
    }
    let (records, commits) = counts(&ops).await;
    assert!(records < 2 * commits, "each is committed as it comes: {records} records, {commits} commits");
    running.stop().await;

    // All of it is there when the recorder begins: what comes while one commit runs goes with the next.
    let before = cell.reader().status().unwrap().records;
    futures::stream::iter(TRICKLE + 1..=TRICKLE + FLOOD)
        .for_each_concurrent(32, |n| {
            let agent = &agent;
            async move {
                agent.publish(task(n, 300_000)).await.unwrap();
            }
        })
        .await;
    let running = cell.record().await;
    cell.until_records(TRICKLE + FLOOD).await;
    let (records, commits) = counts(&ops).await;
    let taken = records - before;
    assert!(taken >= FLOOD && commits > 0, "{taken} records, {commits} commits");
    assert!(taken >= GROUP_MIN * commits, "{taken} records, {commits} commits");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_recorder_stands_by() {
    let cell = Cell::start().await;
    let first = cell.record().await;
    cell.until("the record is there", |_, _| true).await;
    let second = cell.record().await;
    first.stop().await;
    road(&cell, 1, 1).await;
    cell.until_records(3).await;
    assert!(cell.role(Role::Recorder).await.stream_info(EVENTS).await.is_ok());
    second.stop().await;
}
