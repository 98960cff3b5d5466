//! The pull loop: verdicts, panics, progress, drain.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use tidegate_bus::{CancellationToken, Dead, Outbound, Role, Telling, Verdict, serve};
use tidegate_schemas::code::Code;
use tidegate_schemas::dead::DeadLetter;
use tidegate_schemas::header::Headers;
use tokio::sync::Notify;

use crate::cell::{Cell, With, agent, count, health, options, until, work};

/// Times each payload was handled.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn add(&self, payload: &[u8]) -> u64 {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(String::from_utf8_lossy(payload).into_owned()).or_default();
        *count += 1;
        *count
    }

    fn total(&self) -> u64 {
        self.0.lock().unwrap().values().sum()
    }

    fn of(&self, payload: &str) -> u64 {
        self.0.lock().unwrap().get(payload).copied().unwrap_or_default()
    }
}

async fn settled(bus: &tidegate_bus::Bus, last: u64) {
    until("everything is acknowledged", || async {
        let state = bus.consumer_info("WORK_LOCAL", "default").await.unwrap();
        state.ack_pending == 0 && state.pending == 0 && state.ack_floor >= last
    })
    .await;
}

#[tokio::test]
async fn each_verdict_does_what_it_says() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    join_all((0..50).map(|index| router.publish(work(index)))).await;
    let tally = Arc::new(Tally::default());
    let seen = tally.clone();
    let handler = With(move |message: tidegate_bus::Inbound| {
        let seen = seen.clone();
        async move {
            let times = seen.add(&message.payload);
            match message.payload.as_ref() {
                b"work 7" if times < 3 => Verdict::Retry { after: Duration::from_millis(50) },
                b"work 9" => Verdict::Dead(Box::new(
                    Dead::new(Code::InvalidJson, "the payload is not JSON").with_result(
                        "018f4c1e-0000-7000-8000-000000000001".parse().unwrap(),
                        Outbound::new("result.acme.helpdesk.018f4c1e-0000-7000-8000-000000000001", "failed"),
                    ),
                )),
                _ => Verdict::Done,
            }
        }
    });
    let stop = CancellationToken::new();
    let bus = cell.role(Role::Local).await;
    let state = health(Role::Local);
    let running = tokio::spawn(serve(
        bus,
        options(&cell, "WORK_LOCAL", "default"),
        handler,
        stop.clone(),
        state.clone(),
    ));
    settled(&router, 50).await;
    assert_eq!((tally.of("work 7"), tally.of("work 9"), tally.total()), (3, 1, 52));
    let letter = router.last_for_subject("EVENTS", "dead.local.acme").await.unwrap().unwrap();
    let letter: DeadLetter = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!((letter.code, letter.delivered), (Code::InvalidJson, 1));
    let message = router.get("WORK_LOCAL", letter.message.sequence).await.unwrap().unwrap();
    assert_eq!(message.payload, "work 9");
    assert_eq!(count(&router, "RESULTS").await, 1);
    let report = state.report();
    assert!(report.ready, "{report:?}");
    assert_eq!((report.handled, report.retried, report.dead, report.redelivered), (49, 2, 1, 0));
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(!state.report().ready);
}

/// The subject says nothing that can be read; the stream says whose it is. Two messages end one task: one of them does.
#[tokio::test]
async fn a_dead_letter_is_of_the_stream_s_tenant_and_an_end_is_told_once() {
    const TASK: &str = "018f4c1e-0000-7000-8000-000000000001";
    let cell = Cell::start().await;
    let helpdesk = cell.bus(agent("acme", "helpdesk")).await;
    let mut told = helpdesk.subscribe_core(&format!("state.helpdesk.{TASK}")).await.unwrap();
    helpdesk.flush().await.unwrap();
    for payload in ["first", "second"] {
        helpdesk.publish(Outbound::new("cancel.helpdesk.Nonsense", payload)).await.unwrap();
    }
    let handler = With(|message: tidegate_bus::Inbound| async move {
        let tell = Telling {
            subject: format!("state.acme.helpdesk.{TASK}"),
            headers: Headers::new(),
            payload: message.payload.clone(),
        };
        let result = Outbound::new(format!("result.acme.helpdesk.{TASK}"), message.payload);
        let dead = Dead::new(Code::InvalidField, "no task's id").with_result(TASK.parse().unwrap(), result);
        Verdict::Dead(Box::new(Dead { tell: vec![tell], ..dead }))
    });
    let (stop, bus) = (CancellationToken::new(), cell.role(Role::Router).await);
    let pull = options(&cell, "TASKS_acme", "router");
    let running = tokio::spawn(serve(bus.clone(), pull, handler, stop.clone(), health(Role::Router)));
    until("both are given up", || async { count(&bus, "EVENTS").await == 2 }).await;
    let heard = tokio::time::timeout(crate::cell::PATIENCE, told.next()).await.unwrap().unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    let kept =
        bus.last_for_subject("RESULTS", &format!("result.acme.helpdesk.{TASK}")).await.unwrap().unwrap();
    assert_eq!(heard.payload, kept.payload, "told is what is durable");
    helpdesk.flush().await.unwrap();
    assert!(told.next().now_or_never().is_none(), "the other ended nothing");
    let letter = bus.last_for_subject("EVENTS", "dead.router.acme").await.unwrap().unwrap();
    let letter: DeadLetter = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!(letter.subject, "cancel.acme.helpdesk.Nonsense");
}

#[tokio::test]
async fn a_message_that_panics_its_handler_is_given_up_and_the_next_one_runs() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let tally = Arc::new(Tally::default());
    let seen = tally.clone();
    let handler = With(move |message: tidegate_bus::Inbound| {
        let seen = seen.clone();
        async move {
            seen.add(&message.payload);
            assert!(message.payload != "work 0", "poison");
            Verdict::Done
        }
    });
    let stop = CancellationToken::new();
    let state = health(Role::Local);
    let bus = cell.role(Role::Local).await;
    let mut pull = options(&cell, "WORK_LOCAL", "default");
    pull.unexplained_max = 3;
    let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), state.clone()));
    join_all((0..3).map(|index| router.publish(work(index)))).await;
    settled(&router, 3).await;
    assert_eq!((tally.of("work 0"), tally.of("work 1"), tally.of("work 2")), (3, 1, 1));
    let letter = router.last_for_subject("EVENTS", "dead.local.acme").await.unwrap().unwrap();
    let letter: DeadLetter = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!((letter.code, letter.delivered), (Code::Poison, 4));
    assert_eq!((state.report().panicked, state.report().dead), (3, 1));
    assert_eq!(count(&router, "EVENTS").await, 1);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_processes_died_of_is_looked_for_one_by_one() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    join_all((0..4).map(|index| router.publish(work(index)))).await;
    // Delivered three times, and nobody said why: as by processes that died.
    let raw = async_nats::jetstream::new(cell.raw(Role::Local.into()).await);
    let consumer: async_nats::jetstream::consumer::Consumer<async_nats::jetstream::consumer::pull::Config> =
        raw.get_consumer_from_stream("default", "WORK_LOCAL").await.unwrap();
    for _ in 0..3 {
        let mut messages =
            consumer.batch().max_messages(4).expires(Duration::from_secs(5)).messages().await.unwrap();
        for _ in 0..4 {
            let message = messages.next().await.unwrap().unwrap();
            message.ack_with(async_nats::jetstream::AckKind::Nak(None)).await.unwrap();
        }
    }
    let (running_now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (now, peak) = (running_now.clone(), most.clone());
    let handler = With(move |_: tidegate_bus::Inbound| {
        let (now, peak) = (now.clone(), peak.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Verdict::Done
        }
    });
    let (stop, state) = (CancellationToken::new(), health(Role::Local));
    let mut pull = options(&cell, "WORK_LOCAL", "default");
    pull.unexplained_max = 2;
    let running =
        tokio::spawn(serve(cell.role(Role::Local).await, pull, handler, stop.clone(), state.clone()));
    settled(&router, 4).await;
    // All are done, one after the other, and none is taken for what killed them.
    let report = state.report();
    assert_eq!((report.handled, report.dead, most.load(Ordering::SeqCst)), (4, 0, 1), "{report:?}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn progress_keeps_a_message_longer_than_its_ack_wait() {
    let cell = Cell::start().await;
    // A consumer of its own with a short wait, so that the test is short too.
    let spec =
        tidegate_bus::ConsumerSpec::new("WORK_LOCAL", "embed", &["work.local.embed.>"]).with_ack_wait_ms(900);
    let admin = cell.raw(Role::Provisioner.into()).await;
    let mut js = async_nats::jetstream::new(admin);
    js.set_timeout(Duration::from_secs(5));
    js.delete_consumer_from_stream("embed", "WORK_LOCAL").await.unwrap();
    let topology = tidegate_bus::Topology { consumers: vec![spec.clone()], ..Default::default() };
    tidegate_bus::provision(&cell.role(Role::Provisioner).await, &topology).await.unwrap();

    let router = cell.role(Role::Router).await;
    router.publish(Outbound::new("work.local.embed.batch.acme", "slow")).await.unwrap();
    let runs = Arc::new(AtomicU64::new(0));
    let count_runs = runs.clone();
    let handler = With(move |_: tidegate_bus::Inbound| {
        let runs = count_runs.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            // Three times the wait. No event stands for it: that the time passes is what is tested.
            tokio::time::sleep(Duration::from_millis(2_700)).await;
            Verdict::Done
        }
    });
    let stop = CancellationToken::new();
    let bus = cell.role(Role::Local).await;
    let pull = tidegate_bus::PullOptions::new(spec.clone());
    let state = health(Role::Local);
    let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), state.clone()));
    until("the slow one is done", || async {
        let consumer = router.consumer_info("WORK_LOCAL", "embed").await.unwrap();
        consumer.ack_floor == 1
    })
    .await;
    assert_eq!((runs.load(Ordering::SeqCst), state.report().redelivered), (1, 0));
    stop.cancel();
    running.await.unwrap().unwrap();

    // Negative control: a reader that makes no progress gets it again.
    router.publish(Outbound::new("work.local.embed.batch.acme", "slow too")).await.unwrap();
    let mut reader = cell.role(Role::Local).await.reader(&spec, 4).await.unwrap();
    let first = reader.take(1).await.unwrap();
    assert_eq!(first[0].message.delivered, 1);
    let second = tokio::time::timeout(crate::cell::PATIENCE, reader.take(1)).await.unwrap().unwrap();
    assert_eq!((second[0].message.sequence, second[0].message.delivered), (2, 2));
}

#[tokio::test]
async fn drain_loses_and_doubles_nothing() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let total = 2_000;
    join_all((0..total).map(|index| router.publish(work(index)))).await;
    let tally = Arc::new(Tally::default());
    let half = Arc::new(Notify::new());
    // Three processes in turn, each told to stop while it is at work.
    for round in 0..4 {
        let (seen, reached) = (tally.clone(), half.clone());
        let handler = With(move |message: tidegate_bus::Inbound| {
            let (seen, reached) = (seen.clone(), reached.clone());
            async move {
                tokio::task::yield_now().await;
                seen.add(&message.payload);
                if seen.total() % 400 == 0 {
                    reached.notify_one();
                }
                Verdict::Done
            }
        });
        let stop = CancellationToken::new();
        let bus = cell.role(Role::Local).await;
        let pull = options(&cell, "WORK_LOCAL", "default").with_in_flight(16, 64);
        let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), health(Role::Local)));
        if round < 3 {
            tokio::time::timeout(crate::cell::PATIENCE, half.notified()).await.unwrap();
        } else {
            settled(&router, total as u64).await;
        }
        let began = std::time::Instant::now();
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let counts = tally.0.lock().unwrap();
    assert_eq!(counts.len(), total);
    let doubled: Vec<_> = counts.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

#[tokio::test]
async fn what_does_not_end_in_the_drain_time_is_given_back() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    router.publish(work(0)).await.unwrap();
    let started = Arc::new(Notify::new());
    let tell = started.clone();
    let handler = With(move |_: tidegate_bus::Inbound| {
        let tell = tell.clone();
        async move {
            tell.notify_one();
            std::future::pending::<Verdict>().await
        }
    });
    let stop = CancellationToken::new();
    let mut pull = options(&cell, "WORK_LOCAL", "default");
    pull.drain_ms = 300;
    let bus = cell.role(Role::Local).await;
    let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), health(Role::Local)));
    started.notified().await;
    stop.cancel();
    running.await.unwrap().unwrap();
    // It comes again long before the wait for acknowledgement is over.
    let local = cell.role(Role::Local).await;
    let mut reader = local.reader(&crate::cell::consumer(&cell, "WORK_LOCAL", "default"), 4).await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(5), reader.take(1)).await.unwrap().unwrap();
    assert_eq!((again[0].message.sequence, again[0].message.delivered), (1, 2));
}
