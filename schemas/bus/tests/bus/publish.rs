//! Publishing: duplicates, refusals, batches that fall back, and denials that are told at once.

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tidegate_bus::topology::RECORDER;
use tidegate_bus::{Bus, Outbound, PublishError, PublishMode, Role};
use tidegate_schemas::header::{AGENT, CAUSE, DECISION, Headers};

use crate::cell::{Cell, agent, consumer, count, work};

/// A connection that batches whatever the disk's pace, so that the test does not depend on it.
async fn in_batches(cell: &Cell, role: Role) -> Bus {
    let mut config = cell.config(role.into());
    config.limits.publish_mode = PublishMode::Batches;
    Bus::connect(config).await.unwrap()
}

#[tokio::test]
async fn a_second_result_is_refused() {
    let cell = Cell::start().await;
    let (local, cloud) = (cell.role(Role::Local).await, cell.role(Role::Cloud).await);
    let result = || Outbound::new("result.acme.helpdesk.t1", "first");
    assert_eq!(local.publish(result()).await.unwrap().sequence, 1);
    let second = cloud.publish(result()).await;
    assert_eq!(second, Err(PublishError::Refused { subject: "result.acme.helpdesk.t1".to_owned() }));
    // Negative control: another task's result is taken.
    assert_eq!(cloud.publish(Outbound::new("result.acme.helpdesk.t2", "x")).await.unwrap().sequence, 2);
}

#[tokio::test]
async fn many_go_in_batches_and_each_learns_its_own_place() {
    let cell = Cell::start().await;
    let router = in_batches(&cell, Role::Router).await;
    let count_sent = 3_000;
    let published = join_all((0..count_sent).map(|index| router.publish(work(index)))).await;
    let mut batched = 0;
    for (index, place) in published.iter().enumerate() {
        let place = place.as_ref().unwrap();
        let found = router.get("WORK_LOCAL", place.sequence).await.unwrap().unwrap();
        assert_eq!(found.payload, format!("work {index}"));
        batched += usize::from(found.header("Nats-Batch-Id").is_some());
    }
    assert!(batched > 2_500, "{batched} went in batches");
    assert_eq!(count(&router, "WORK_LOCAL").await, count_sent as u64);
}

/// The server sees few headers of work; whoever reads it through this crate sees all, wherever it is read.
#[tokio::test]
async fn the_headers_of_work_travel_before_its_payload() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let headers = Headers::new().with(CAUSE, "TASKS_acme:1").with(DECISION, "{}").with(AGENT, "helpdesk");
    let with_headers = |message: Outbound| message.with_headers(headers.clone());
    let place = router.publish(with_headers(work(1))).await.unwrap();
    let read = router.get("WORK_LOCAL", place.sequence).await.unwrap().unwrap();
    assert_eq!((read.payload.as_ref(), read.header(DECISION)), (&b"work 1"[..], Some("{}")));
    let mut reader =
        cell.role(Role::Recorder).await.reader(&consumer(&cell, "WORK_LOCAL", RECORDER), 8).await.unwrap();
    let taken = reader.take(1).await.unwrap().remove(0);
    assert_eq!((&taken.message.headers, &taken.message.payload), (&read.headers, &read.payload));

    let jetstream = async_nats::jetstream::new(cell.raw(Role::Router.into()).await);
    let raw = jetstream.get_stream_no_info("WORK_LOCAL").await.unwrap();
    let raw = raw.direct_get(place.sequence).await.unwrap();
    assert_eq!(raw.headers.get(CAUSE).map(|value| value.as_str()), Some("TASKS_acme:1"));
    assert!(raw.headers.get(DECISION).is_none() && raw.headers.get(AGENT).is_none());
    assert_eq!(raw.payload.as_ref(), b"tidegate-decision: {}\r\ntidegate-agent: helpdesk\r\nwork 1");
    // Negative control: a result's stay where its readers look for them.
    let result = with_headers(Outbound::new("result.acme.helpdesk.t1", "{}"));
    let place = router.publish(result).await.unwrap();
    let raw =
        jetstream.get_stream_no_info("RESULTS").await.unwrap().direct_get(place.sequence).await.unwrap();
    assert_eq!(raw.headers.get(DECISION).map(|value| value.as_str()), Some("{}"));
    assert_eq!(raw.payload.as_ref(), b"{}");
}

#[tokio::test]
async fn a_batch_with_known_ids_falls_back_one_by_one() {
    let cell = Cell::start().await;
    let router = in_batches(&cell, Role::Router).await;
    join_all([5, 50, 500].map(|index| router.publish(work(index)))).await;
    let published = join_all((0..1_000).map(|index| router.publish(work(index)))).await;
    let mut duplicates = 0;
    for place in &published {
        duplicates += usize::from(place.as_ref().unwrap().duplicate);
    }
    assert_eq!(duplicates, 3);
    assert_eq!(count(&router, "WORK_LOCAL").await, 1_000);
    // The same for a stream that holds one message a subject: the loser is told, the others are taken.
    let local = in_batches(&cell, Role::Local).await;
    let result = |index: usize| Outbound::new(format!("result.acme.helpdesk.t{index}"), "x");
    local.publish(result(7)).await.unwrap();
    let published = join_all((0..500).map(|index| local.publish(result(index)))).await;
    let refused = published.iter().filter(|place| matches!(place, Err(PublishError::Refused { .. }))).count();
    assert_eq!((refused, published.iter().filter(|place| place.is_ok()).count()), (1, 499));
}

#[tokio::test]
async fn a_denial_is_told_at_once_and_stops_nobody_else() {
    let cell = Cell::start().await;
    let local = in_batches(&cell, Role::Local).await;
    let began = Instant::now();
    let denied = local.publish(Outbound::new("work.cloud.openai.batch.acme", "x")).await;
    assert_eq!(denied, Err(PublishError::Denied { subject: "work.cloud.openai.batch.acme".to_owned() }));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // In a batch: hundreds of good steps and one that is the cloud's.
    let subject = |index: usize| if index == 300 { "step.cloud.acme" } else { "step.local.acme" };
    let published = join_all((0..600).map(|index| local.publish(Outbound::new(subject(index), "x")))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for (index, place) in published.iter().enumerate() {
        match (index, place) {
            (300, Err(PublishError::Denied { subject })) => assert_eq!(subject, "step.cloud.acme"),
            (300, other) => panic!("{other:?}"),
            (_, place) => assert!(place.is_ok(), "{index}: {place:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_published_says_so() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let too_large = router.publish(Outbound::new("work.local.default.batch.acme", vec![0_u8; 5 << 20])).await;
    assert!(matches!(too_large, Err(PublishError::TooLarge { bytes_max: 4_194_304, .. })), "{too_large:?}");
    for subject in ["", "work..x", "work.*.x", "work.>", "work.a b", "work.\r\n"] {
        let bad = router.publish(Outbound::new(subject, "x")).await;
        assert!(matches!(bad, Err(PublishError::BadSubject { .. })), "`{subject}`: {bad:?}");
    }
    // A tenant's quota is the size of its stream; a neighbour's is its own.
    let acme = cell.bus(agent("acme", "helpdesk")).await;
    let mut full = None;
    let mut sent: FuturesUnordered<_> = (0..200)
        .map(|index| {
            acme.publish(Outbound::new("task.helpdesk.chat", vec![7_u8; 500_000]).with_id(format!("{index}")))
        })
        .collect();
    while let Some(place) = sent.next().await {
        if let Err(error) = place {
            full = Some(error);
        }
    }
    let Some(error @ PublishError::Full { .. }) = &full else { panic!("{full:?}") };
    assert!(error.to_string().contains("raise the stream's max_bytes"), "no more than one is full: {error}");
    let beta = cell.bus(agent("beta", "helpdesk")).await;
    assert!(beta.publish(Outbound::new("task.helpdesk.chat", "{}")).await.is_ok());
}
