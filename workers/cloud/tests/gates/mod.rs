//! Breaker and budgets with several workers at once, on a real nats-server.

use serde_json::json;
use tidegate_bus::{Identity, Role};
use tidegate_schemas::breaker::{Attempt, BREAKERS_BUCKET, Breaker, FAILURES_MAX, Health, Place, State};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{BUDGETS_BUCKET, Scope, Window};
use tidegate_schemas::ids::TaskId;
use uuid::Uuid;

use super::cell::work::{CloudWork, name};
use super::cell::{Answer, Cell, good, http, until};

mod units;

/// Work that is sent once at most.
fn once(number: u128) -> CloudWork {
    CloudWork::new(number, false).with(|work| work.claims.attempts_max = 1)
}

fn limited(number: u128, requests: u64) -> CloudWork {
    let of = json!({ "scope": "tenant", "tenant": "acme" });
    once(number)
        .with(|work| work.budgets = json!([{ "of": of, "caps": { "day": { "requests": requests } } }]))
}

fn place() -> Place {
    Place { provider: name("double"), endpoint: name("main"), model: "m-1".into() }
}

/// A breaker that is open, and whose time is over.
fn due() -> Breaker {
    let mut breaker = Breaker::new(place());
    let long_ago = jiff::Timestamp::UNIX_EPOCH;
    for task in 0..u128::from(FAILURES_MAX) {
        let attempt = Attempt { id: "t/1", task: TaskId(Uuid::from_u128(task)), is_probe: false };
        breaker.heard(attempt, Health::Down, long_ago);
    }
    assert!(matches!(breaker.state, State::Open { .. }));
    breaker
}

async fn breaker(cell: &Cell) -> Option<Breaker> {
    let entry = cell.router.kv_get(BREAKERS_BUCKET, &place().key()).await.unwrap()?;
    Some(serde_json::from_slice(&entry.value).unwrap())
}

async fn counted(cell: &Cell) -> u64 {
    let key = Scope::Tenant { tenant: name("acme") }.key();
    let Some(entry) = cell.router.kv_get(BUDGETS_BUCKET, &key).await.unwrap() else { return 0 };
    let ledger: Ledger = serde_json::from_slice(&entry.value).unwrap();
    assert!(ledger.open.is_empty(), "all of it is settled");
    ledger.counts(Window::Day, jiff::Timestamp::now()).requests
}

#[tokio::test]
async fn budget_hard_cap_is_held_by_several_workers_at_once() {
    const WORK: u128 = 30;
    const CAP: u64 = 7;
    let cell = Cell::start((0..2 * WORK).map(|_| Answer::Say(good())).collect()).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(cell.worker().await);
    }
    for number in 1..=WORK {
        cell.send(&limited(number, CAP)).await;
    }
    cell.drained().await;
    assert_eq!(cell.captured().len(), 7, "as many as the budget leaves room for, and not one more");
    assert_eq!(counted(&cell).await, CAP);
    let steps = cell.steps().await;
    assert_eq!(steps.len(), 23, "the others go back to be decided anew");
    for step in &steps {
        assert_eq!((&step["reason"]["reason"], &step["attempts"]), (&json!("spent"), &json!(0)));
        assert_eq!(step["reason"]["budget"]["of"], json!({ "scope": "tenant", "tenant": "acme" }));
    }
    assert_eq!(cell.attempts().await.len(), 7, "what does not leave is no attempt");
    // Negative control: without a limit all of it leaves.
    for number in 1..=WORK {
        cell.send(&once(number + 100)).await;
    }
    cell.drained().await;
    assert_eq!(cell.captured().len(), 37);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn budget_that_cannot_be_counted_lets_nothing_leave() {
    let cell = Cell::start(vec![Answer::Say(good()), Answer::Say(good())]).await;
    let worker = cell.worker().await;
    // Somebody has written what no ledger is.
    let key = Scope::Tenant { tenant: name("acme") }.key();
    cell.router.kv_put(BUDGETS_BUCKET, &key, "{").await.unwrap();
    let work = limited(1, 9);
    cell.send(&work).await;
    until("the work was tried", async || {
        cell.tick().await;
        worker.health.report().last_error.is_some_and(|(_, said)| said.contains("malformed"))
    })
    .await;
    assert!(cell.captured().is_empty() && cell.attempts().await.is_empty(), "nothing left");
    assert!(cell.result(&work).await.is_none() && cell.steps().await.is_empty(), "it is put off");
    // Negative control: work that counts in no budget leaves; and so does this one once it can be counted.
    cell.send(&once(2)).await;
    until("what is not counted leaves", async || {
        cell.tick().await;
        cell.captured().len() == 1
    })
    .await;
    cell.router.kv_delete(BUDGETS_BUCKET, &key).await.unwrap();
    cell.drained().await;
    assert!(cell.result(&work).await.is_some());
    worker.stop().await;
}

#[tokio::test]
async fn breaker_opens_after_failures_and_keeps_back_what_comes_then() {
    let failing = (0..FAILURES_MAX).map(|_| Answer::Say(http(500, "", "{}")));
    let cell = Cell::start(failing.chain([Answer::Say(good())]).collect()).await;
    let worker = cell.worker().await;
    for number in 1..=u128::from(FAILURES_MAX) {
        cell.send(&once(number)).await;
        cell.drained().await;
    }
    assert!(matches!(breaker(&cell).await.unwrap().state, State::Open { .. }));
    let sent = cell.captured().len();
    cell.send(&once(20)).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), sent, "nothing more leaves for it");
    let step = cell.steps().await.pop().unwrap();
    let reason = json!({ "reason": "fallback", "code": "provider_unavailable" });
    assert_eq!((&step["reason"], &step["attempts"]), (&reason, &json!(0)));
    // Negative control: without its breaker the same work leaves. A worker that begins knows of none.
    worker.stop().await;
    cell.router.kv_delete(BREAKERS_BUCKET, &place().key()).await.unwrap();
    let worker = cell.worker().await;
    cell.send(&once(21)).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), sent + 1);
    worker.stop().await;
}

#[tokio::test]
async fn breaker_opens_for_a_provider_that_accepts_and_says_nothing() {
    let all = u128::from(FAILURES_MAX);
    // Its time is the task's, as where both are what they are by default.
    let hurried = |number| {
        once(number).with(|work| {
            let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1_500);
            (work.hop.deadline, work.claims.deadline) = (deadline, deadline);
        })
    };
    for (header_ms, opens) in [(100, true), (60_000, false)] {
        let cell = Cell::start((0..all).map(|_| Answer::Hang).collect()).await;
        let mut config = cell.config();
        config.providers[0].header_ms = header_ms;
        let worker = cell.worker_with(config).await;
        for number in 1..=all {
            cell.send(&hurried(number)).await;
        }
        cell.drained().await;
        let state = breaker(&cell).await.map(|breaker| breaker.state);
        // Negative control: producers that left it no time close it for nobody.
        assert_eq!(matches!(state, Some(State::Open { .. })), opens, "{header_ms}: {state:?}");
        worker.stop().await;
    }
}

#[tokio::test]
async fn breaker_that_cannot_be_read_begins_anew() {
    let cell = Cell::start((0..FAILURES_MAX).map(|_| Answer::Say(http(500, "", "{}"))).collect()).await;
    cell.router.kv_put(BREAKERS_BUCKET, &place().key(), "{").await.unwrap();
    let worker = cell.worker().await;
    for number in 1..=u128::from(FAILURES_MAX) {
        cell.send(&once(number)).await;
    }
    cell.drained().await;
    assert!(matches!(breaker(&cell).await.unwrap().state, State::Open { .. }));
    worker.stop().await;
}

#[tokio::test]
async fn breaker_lets_one_probe_of_all_workers_through_and_closes_when_it_is_answered() {
    let cell = Cell::start(vec![Answer::Hang]).await;
    let value = serde_json::to_vec(&due()).unwrap();
    cell.router.kv_put(BREAKERS_BUCKET, &place().key(), value.clone()).await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(cell.worker().await);
    }
    for number in 1..=6 {
        cell.send(&once(number)).await;
    }
    until("all others go back", async || cell.steps().await.len() == 5).await;
    until("the probe has left", async || {
        cell.tick().await;
        !cell.captured().is_empty()
    })
    .await;
    assert_eq!(cell.captured().len(), 1, "one at a time");
    assert!(matches!(breaker(&cell).await.unwrap().state, State::Probing { .. }));
    drop((workers, cell));

    let cell = Cell::start(vec![Answer::Say(good()), Answer::Say(good())]).await;
    cell.router.kv_put(BREAKERS_BUCKET, &place().key(), value).await.unwrap();
    let worker = cell.worker().await;
    cell.send(&once(1)).await;
    cell.drained().await;
    assert_eq!(breaker(&cell).await.unwrap(), Breaker::new(place()), "answered, it is closed");
    cell.send(&once(2)).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn budget_and_breaker_are_written_by_cloud_workers_and_told_to_nobody_by_them() {
    let cell = Cell::start(Vec::new()).await;
    let cloud = cell.bus(Identity::Role(Role::Cloud)).await;
    let first = cloud.kv_swap(BUDGETS_BUCKET, "tenant.acme", "1", None).await.unwrap();
    let conflict = |written: Result<u64, tidegate_bus::KvError>| {
        assert!(matches!(written, Err(tidegate_bus::KvError::Conflict { .. })), "{written:?}");
    };
    conflict(cloud.kv_swap(BUDGETS_BUCKET, "tenant.acme", "2", None).await);
    let second = cloud.kv_swap(BUDGETS_BUCKET, "tenant.acme", "2", Some(first)).await.unwrap();
    conflict(cloud.kv_swap(BUDGETS_BUCKET, "tenant.acme", "3", Some(first)).await);
    let entry = cloud.kv_get(BUDGETS_BUCKET, "tenant.acme").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.revision), (b"2".as_slice(), second));
    let all = cloud.kv_entries(BREAKERS_BUCKET, ">").await.unwrap();
    assert!(all.is_empty());
    // Negative control: other shared state is not theirs.
    assert!(cloud.kv_swap("sessions", "acme.s1", "1", None).await.is_err());
}
