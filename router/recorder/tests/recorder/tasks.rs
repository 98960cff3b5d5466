//! Deadlines, held tasks and trimming.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_audit::Level;
use tidegate_bus::{Bus, Identity, Outbound, Role};
use tidegate_recorder::review::{self, HeldTasks, ReviewQuestion};
use tidegate_schemas::control::{ACTIVE_KEY, Active, DIRECTORY_BUCKET, REVIEWS_BUCKET, review_key};
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{EVENTS, RESULTS, WORK_LOCAL};

use crate::cell::{Cell, PATIENCE, directory, hop, name, road, task, task_id, work};

async fn result_of(cell: &Cell, n: u64) -> Value {
    let subject = format!("result.acme.bot.{}", task_id(n));
    let stored = cell.role(Role::Router).await.last_for_subject(RESULTS, &subject).await.unwrap().unwrap();
    serde_json::from_slice(&stored.payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_ends_in_time_is_ended() {
    let cell = Cell::start().await;
    let running = cell.record().await;
    let agent = cell.agent().await;
    agent.publish(task(1, 1)).await.unwrap();
    agent.publish(task(2, 300_000)).await.unwrap();
    agent.publish(Outbound::new("task.bot.chat", "no JSON")).await.unwrap();
    cell.until("the first has ended, the others have not", |_, status| (status.ended, status.open) == (1, 2))
        .await;
    let result = result_of(&cell, 1).await;
    assert_eq!((&result["state"], &result["error"]["code"]), (&json!("failed"), &json!("deadline_exceeded")));
    let timeline = cell.reader().task(None, task_id(1)).unwrap().remove(0);
    assert_eq!(timeline.records[1].leaf.cause, Some(Position::new("TASKS_acme", 1)));
    assert_eq!(cell.reader().status().unwrap().anomalies, 0);
    running.stop().await;
}

/// The review of task number `n`, as the router publishes it.
fn review(n: u64, review_by: Timestamp) -> Outbound {
    let decision = json!({
        "id": task_id(n), "outcome": "hold", "determining": ["review"], "scan": "recognisers",
        "labels": {"sensitivity": "public"}, "facts": {"directory": "00".repeat(32)}, "bundle": "11".repeat(32),
    });
    let payload = json!({
        "schema_version": 1, "task": task_id(n), "agent": "bot", "held": format!("TASKS_acme:{n}"),
        "content": "22".repeat(32), "salt": "33".repeat(32), "review_by": review_by, "deadline_left_ms": 1,
        "decision": decision
    });
    hop(n, "review.stakes.acme".to_owned(), &Position::new("TASKS_acme", n), "review", &payload)
}

/// What the reviewer is told that waits: sequences in EVENTS.
async fn waiting(reviewer: &Bus) -> Vec<u64> {
    let question = serde_json::to_vec(&ReviewQuestion::default()).unwrap();
    let answer = reviewer.request(&review::subject(&name("rita")), question.into(), PATIENCE).await.unwrap();
    let HeldTasks { held } = serde_json::from_slice(&answer.payload).unwrap();
    held.iter().map(|task| task.review).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_leads_nowhere_hides_no_held_task() {
    let cell = Cell::start().await;
    let (admin, router) = (cell.role(Role::Provisioner).await, cell.role(Role::Router).await);
    let hash = directory().hash();
    let content = serde_json::to_vec(&directory()).unwrap();
    admin.kv_put(DIRECTORY_BUCKET, &hash.to_string(), content).await.unwrap();
    let active = serde_json::to_vec(&Active { event: 0, hash }).unwrap();
    admin.kv_put(DIRECTORY_BUCKET, ACTIVE_KEY, active).await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_mins(5);
    for n in 1..=2 {
        cell.agent().await.publish(task(n, 300_000)).await.unwrap();
        router.publish(review(n, later)).await.unwrap();
    }
    let running = cell.record().await;
    cell.until_records(4).await;
    let rita = cell.bus(Identity::Reviewer(name("rita"))).await;
    assert_eq!(waiting(&rita).await, [1, 2], "negative control");

    let verdict = json!({
        "schema_version": 1, "review": "EVENTS:1", "content": "22".repeat(32), "reason": "why",
        "action": {"action": "edit", "input": {}}
    });
    let verdict = rita.publish(Outbound::new("verdict.stakes.acme.rita", verdict.to_string())).await.unwrap();
    let letter = json!({
        "schema_version": 1, "message": verdict.position(), "subject": "verdict.stakes.acme.rita", "role": "router",
        "consumer": "router", "code": "invalid_field", "sentence": "no", "delivered": 1, "at": later
    });
    router.publish(Outbound::new("dead.router.acme", letter.to_string())).await.unwrap();
    cell.until_records(6).await;
    assert_eq!(waiting(&rita).await, [1, 2], "after the verdict and its dead letter");

    // Negative controls: what a verdict decided, and what went on, waits for nobody.
    router.kv_create(REVIEWS_BUCKET, &review_key(1), "EVENTS:9").await.unwrap();
    assert_eq!(waiting(&rita).await, [2]);
    router.publish(work(2, &Position::new(EVENTS, 2))).await.unwrap();
    cell.until_records(7).await;
    assert_eq!(waiting(&rita).await, Vec::<u64>::new());
    let report = cell.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_task_ends_with_its_review() {
    let cell = Cell::start().await;
    cell.agent().await.publish(task(1, 1)).await.unwrap();
    let router = cell.role(Role::Router).await;
    let soon = Timestamp::now() + SignedDuration::from_millis(1_500);
    router.publish(review(1, soon)).await.unwrap();
    let running = cell.record().await;
    cell.until("it is held", |reader, _| {
        reader.open_tasks(9).unwrap().first().is_some_and(|open| open.review_by.is_some())
    })
    .await;
    assert!(Timestamp::now() < soon, "negative control: its deadline is long past, and it is open");
    cell.until("it has ended", |_, status| status.ended == 1).await;
    let result = result_of(&cell, 1).await;
    assert_eq!((&result["state"], &result["error"]["code"]), (&json!("rejected"), &json!("review_expired")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_forget_only_what_nobody_needs() {
    let mut cell = Cell::start().await;
    (cell.config.trim_ms, cell.config.stream_window_ms) = (50, 0);
    (cell.config.result_window_ms, cell.config.duplicate_window_ms) = (0, 0);
    road(&cell, 1, 4).await;
    cell.agent().await.publish(task(5, 300_000)).await.unwrap();
    let running = cell.record().await;
    cell.until_records(13).await;
    let bus = cell.role(Role::Recorder).await;
    let first = async |stream: &str| bus.stream_info(stream).await.unwrap().first;
    // The router's and the pool's consumers have read nothing: all of it is needed.
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    for _ in 0..6 {
        looks.tick().await;
        assert_eq!((first("TASKS_acme").await, first(WORK_LOCAL).await), (1, 1), "roles need it");
        assert_eq!(first(RESULTS).await, 1, "results stay while their tasks' messages do");
    }
    let admin = cell.role(Role::Provisioner).await;
    for (stream, consumer) in [("TASKS_acme", "router"), (WORK_LOCAL, "small")] {
        let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}");
        admin.request(&subject, bytes::Bytes::new(), std::time::Duration::from_secs(5)).await.unwrap();
    }
    let trimmed = async {
        while first("TASKS_acme").await != 5 || first(WORK_LOCAL).await != 5 || first(RESULTS).await != 5 {
            looks.tick().await;
            assert!(first("TASKS_acme").await <= 5, "an open task's message stays");
        }
    };
    tokio::time::timeout(PATIENCE, trimmed).await.expect("all but the open task's is trimmed");
    running.stop().await;
}
