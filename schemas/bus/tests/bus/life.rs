//! The life of a cell: provisioning again, a server that crashes and comes back, accounts that change while roles pull.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_bus::{
    ApiError, Bus, BusConfig, CancellationToken, CheckError, ConnectError, Identity, Outbound,
    ProvisionError, PublishError, Role, Verdict, provision, serve, topology,
};

use crate::cell::{Cell, PATIENCE, With, agent, consumer, count, health, name, options, tenant, until, work};

#[tokio::test]
async fn provisioning_again_changes_nothing_and_reports_what_differs() {
    let cell = Cell::start().await;
    let admin = cell.role(Role::Provisioner).await;
    let mut topology = cell.topology();
    let again = provision(&admin, &topology).await.unwrap();
    assert!(again.is_clean() && again.created.is_empty(), "{again:?}");
    assert_eq!(again.unchanged, topology.streams.len() + topology.consumers.len() + topology.buckets.len());
    topology.streams[0].max_bytes /= 2;
    topology.consumers[0].max_ack_pending += 1;
    let drifted = provision(&admin, &topology).await.unwrap();
    let fields: Vec<_> =
        drifted.drifted.iter().map(|(what, list)| (what.as_str(), list[0].field.as_str())).collect();
    assert_eq!(fields, [("STEPS", "max_bytes"), ("STEPS/router", "max_ack_pending")]);
    // Nothing was narrowed.
    assert_eq!(
        admin.stream_info("STEPS").await.unwrap().bytes_max,
        Some(crate::cell::shape().stream_bytes_max)
    );
}

#[tokio::test]
async fn values_of_a_state_bucket_go_some_time_after_they_were_last_written() {
    let cell = Cell::start().await;
    let (admin, router) = (cell.role(Role::Provisioner).await, cell.role(Role::Router).await);
    let topology = cell.topology();
    let of = |name: &str| topology.buckets.iter().find(|bucket| bucket.name == name).unwrap();
    let day = 24 * 3_600 * 1_000_000_000;
    assert_eq!(
        ["sessions", "reviews", "budgets", "breakers"].map(|name| of(name).max_age_ns / day),
        [90, 90, 2, 2]
    );
    assert!(["directory", "bundles", "flags", "release"].iter().all(|name| of(name).max_age_ns == 0));
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(5);
    router.kv_create("sessions", "acme.s1", "1").await.unwrap();
    router.kv_create("flags", "f", "1").await.unwrap();
    assert!(router.kv_get("sessions", "acme.s1").await.unwrap().unwrap().written > before);
    // A cell from before is brought to the age that it is to have; here a short one.
    let short = tidegate_bus::BucketSpec { max_age_ns: 200_000_000, ..of("sessions").clone() };
    admin.age_bucket(&short).await.unwrap();
    until("it goes", || async { router.kv_get("sessions", "acme.s1").await.unwrap().is_none() }).await;
    assert!(router.kv_get("flags", "f").await.unwrap().is_some(), "negative control");
    assert_eq!(router.bucket_info("sessions").await.unwrap().bytes_max, Some(short.max_bytes));
    // What differs otherwise is told, and stays.
    let smaller = tidegate_bus::BucketSpec { max_bytes: short.max_bytes / 2, ..of("flags").clone() };
    admin.age_bucket(&smaller).await.unwrap();
    assert_eq!(router.bucket_info("flags").await.unwrap().bytes_max, Some(of("flags").max_bytes));
}

#[tokio::test]
async fn a_role_refuses_a_stream_that_does_not_hold_what_it_relies_on() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let relied = ["RESULTS", "WORK_CLOUD", "TASKS_acme"].map(|name| topology::recorded_stream(name).unwrap());
    router.check_streams(&relied).await.unwrap();
    assert!(topology::recorded_stream("KV_flags").is_none() && topology::recorded_stream("OTHER").is_none());
    let local = cell.role(Role::Local).await;
    local.check_streams(&relied[..1]).await.unwrap();

    let raw = cell.raw(Role::Provisioner.into()).await;
    let change = async |stream: &str, fields: serde_json::Value| {
        let info = raw.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await.unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
        let mut config = info["config"].clone();
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let body = serde_json::to_vec(&config).unwrap();
        let done = raw.request(format!("$JS.API.STREAM.UPDATE.{stream}"), body.into()).await.unwrap();
        let done: serde_json::Value = serde_json::from_slice(&done.payload).unwrap();
        assert!(done.get("error").is_none(), "{done}");
    };
    let refused = async |bus: &Bus| match bus.check_streams(&relied).await {
        Err(CheckError::StreamDrift { stream, field, .. }) => (stream, field),
        other => panic!("expected a refusal, got {other:?}"),
    };
    let named = |stream: &str, field: &str| (stream.to_owned(), field.to_owned());
    // How large it is, is its operator's choice.
    change("RESULTS", serde_json::json!({ "max_bytes": 64 << 20 })).await;
    router.check_streams(&relied).await.unwrap();
    change("WORK_CLOUD", serde_json::json!({ "republish": { "src": ">", "dest": "elsewhere.>" } })).await;
    assert_eq!(refused(&router).await, named("WORK_CLOUD", "republish"));
    change("WORK_CLOUD", serde_json::json!({ "republish": null })).await;
    router.check_streams(&relied).await.unwrap();
    change("RESULTS", serde_json::json!({ "max_msgs_per_subject": 2 })).await;
    assert_eq!(refused(&router).await, named("RESULTS", "max_msgs_per_subject"));
    assert!(local.check_streams(&relied[..1]).await.is_err(), "a worker relies on it too");
}

#[tokio::test]
async fn a_connection_that_cannot_be_says_why() {
    let cell = Cell::start().await;
    let stranger = Identity::Operator(name("mallory"));
    let mut keys = cell.identities.clone();
    keys.ensure(&stranger).unwrap();
    let refused = Bus::connect(cell.config(stranger.clone())).await;
    assert!(
        matches!(refused, Err(ConnectError::Refused { ref identity, .. }) if identity == "operator.mallory")
    );
    let nobody = BusConfig::new("nats://127.0.0.1:1", Role::Router.into(), None);
    assert!(matches!(Bus::connect(nobody).await, Err(ConnectError::Unreachable { .. })));
    let file = cell.dir.path().join("not-a-seed");
    std::fs::write(&file, "hello").unwrap();
    let bad = BusConfig::new(cell.server.url(), Role::Router.into(), Some(file));
    let error = Bus::connect(bad).await.unwrap_err();
    assert!(matches!(error, ConnectError::Seed { .. }) && !error.to_string().contains("hello"), "{error}");
}

#[tokio::test]
async fn a_server_that_crashes_loses_nothing_that_was_acknowledged() {
    let mut cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let handled = Arc::new(AtomicU64::new(0));
    let counter = handled.clone();
    let handler = With(move |_: tidegate_bus::Inbound| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Verdict::Done }
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

    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for index in 0..100 {
            acknowledged.push(router.publish(work(round * 1_000 + index)).await.unwrap().sequence);
        }
        cell.server.kill().await;
        // This one is handed over while the server is away; its id makes it safe to go again.
        let waiting = tokio::spawn({
            let router = router.clone();
            async move { router.publish(work(round * 1_000 + 100)).await }
        });
        cell.server.restart().await.unwrap();
        let place = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        match place {
            Ok(place) => acknowledged.push(place.sequence),
            Err(PublishError::Timeout { .. } | PublishError::Interrupted { .. }) => {
                acknowledged.push(router.publish(work(round * 1_000 + 100)).await.unwrap().sequence);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(count(&router, "WORK_LOCAL").await, 303);
    for sequence in acknowledged {
        assert!(router.get("WORK_LOCAL", sequence).await.unwrap().is_some(), "{sequence} is gone");
    }
    until("everything is handled", || async {
        handled.load(Ordering::SeqCst) >= 303 && {
            let _ = router.stream_info("WORK_LOCAL").await;
            true
        }
    })
    .await;
    until("readiness is green again", || async {
        let _ = router.stream_info("WORK_LOCAL").await;
        state.report().ready
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Starts the server again with another limit of all streams together.
async fn file_store(cell: &mut Cell, from: &str, to: &str) {
    let path = cell.dir.path().join("nats/nats.conf");
    let (from, to) = (format!("max_file_store: {from}\n"), format!("max_file_store: {to}\n"));
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.contains(&from), "{config}");
    std::fs::write(&path, config.replace(&from, &to)).unwrap();
    cell.server.restart().await.unwrap();
}

#[tokio::test]
async fn a_server_without_room_takes_nothing_and_says_what_to_do() {
    let mut cell = Cell::start().await;
    let (router, admin) = (cell.role(Role::Router).await, cell.role(Role::Provisioner).await);
    let large = Outbound::new("work.local.default.batch.acme", vec![b'x'; 10_000]).with_id("large");
    router.publish(large).await.unwrap();
    cell.directory.tenants.insert(name("gamma"), tenant(&["helpdesk"]));
    let topology = cell.topology();

    file_store(&mut cell, "16TB", "1KB").await;
    until("the connections are back", || async {
        router.stream_info("WORK_LOCAL").await.is_ok() && admin.stream_info("WORK_LOCAL").await.is_ok()
    })
    .await;
    let refused = router.publish(work(1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Full { .. }) && refused.is_retryable(), "{refused:?}");
    assert!(refused.to_string().contains("raise `max_file_store`"), "{refused}");
    assert_eq!(count(&router, "WORK_LOCAL").await, 1, "it was not taken");
    let refused = provision(&admin, &topology).await.unwrap_err();
    let ProvisionError::Api { what, source: source @ ApiError::Full { .. } } = &refused else {
        panic!("{refused:?}")
    };
    assert!(what == "TASKS_gamma" && source.to_string().contains("raise `max_file_store`"), "{refused}");

    // Negative control: with room again both are taken.
    file_store(&mut cell, "1KB", "16TB").await;
    until("the connections are back", || async {
        router.stream_info("WORK_LOCAL").await.is_ok() && admin.stream_info("WORK_LOCAL").await.is_ok()
    })
    .await;
    assert_eq!(router.publish(work(1)).await.unwrap().sequence, 2);
    let report = provision(&admin, &topology).await.unwrap();
    assert!(report.created.contains(&"TASKS_gamma".to_owned()), "{report:?}");
}

#[tokio::test]
async fn a_tenant_is_added_while_roles_pull() {
    let mut cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let handled = Arc::new(AtomicU64::new(0));
    let counter = handled.clone();
    let handler = With(move |_: tidegate_bus::Inbound| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Verdict::Done }
    });
    let stop = CancellationToken::new();
    let bus = cell.role(Role::Local).await;
    let pull = options(&cell, "WORK_LOCAL", "default");
    let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), health(Role::Local)));
    router.publish(work(0)).await.unwrap();
    until("the first is handled", || async {
        router.consumer_info("WORK_LOCAL", "default").await.unwrap().ack_floor == 1
    })
    .await;

    cell.change(|directory| {
        directory.tenants.insert(name("gamma"), tenant(&["helpdesk"]));
    })
    .await;
    let gamma = cell.bus(agent("gamma", "helpdesk")).await;
    let place = gamma.publish(Outbound::new("task.helpdesk.chat", "{}")).await.unwrap();
    assert_eq!(place.stream, "TASKS_gamma");
    router.check(&[consumer(&cell, "TASKS_gamma", "router")]).await.unwrap();
    // Pull requests made before the reload still bring messages, or are made again.
    router.publish(work(1)).await.unwrap();
    until("the second is handled", || async {
        router.consumer_info("WORK_LOCAL", "default").await.unwrap().ack_floor == 2
    })
    .await;
    assert_eq!(handled.load(Ordering::SeqCst), 2);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_puller_that_vanishes_holds_nothing_up() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    {
        let gone = cell.raw(Role::Local.into()).await;
        let inbox = gone.new_inbox();
        let _deliveries = gone.subscribe(inbox.clone()).await.unwrap();
        let request = r#"{"batch":100,"expires":60000000000}"#;
        let next = "$JS.API.CONSUMER.MSG.NEXT.WORK_LOCAL.default";
        gone.publish_with_reply(next, inbox, request.into()).await.unwrap();
        gone.flush().await.unwrap();
        until("the request waits", || async {
            router.consumer_info("WORK_LOCAL", "default").await.unwrap().waiting == 1
        })
        .await;
    }
    let local = cell.role(Role::Local).await;
    let mut reader = local.reader(&consumer(&cell, "WORK_LOCAL", "default"), 10).await.unwrap();
    router.publish(work(0)).await.unwrap();
    let taken = tokio::time::timeout(Duration::from_secs(10), reader.take(1)).await;
    assert_eq!(taken.unwrap().unwrap()[0].message.sequence, 1);
}
