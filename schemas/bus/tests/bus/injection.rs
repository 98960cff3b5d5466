//! Reply subjects: inside one account a producer can have an acknowledgement stored as work; across accounts it cannot.

use futures::StreamExt;
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{Bus, BusConfig, Identity, Outbound, Role, StreamSpec, Topology, provision};

use crate::cell::{Cell, PATIENCE, agent, count, until};

/// One account, where only allow-lists divide a producer from the router.
const ONE_ACCOUNT: &str = r#"
accounts { "ONE" {
  jetstream: enabled
  users [
    { nkey: PROVISIONER, permissions { publish { allow: ["$JS.API.>", "work.>"] }, subscribe { allow: ["_INBOX.provisioner.>"] } } }
    { nkey: PRODUCER, permissions { publish { allow: ["task.a.*"] }, subscribe { allow: ["_INBOX.agent.a.>"] } } }
    { nkey: PULLER, permissions { publish { allow: ["$JS.API.CONSUMER.MSG.NEXT.WORK_LOCAL.default"] }, subscribe { allow: ["_INBOX.local.>"] } } }
  ]
} }"#;

#[tokio::test]
async fn inside_one_account_a_reply_subject_is_a_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = tidegate_bus::accounts::Identities::open(dir.path().join("keys")).unwrap();
    let (provisioner, local) = (Identity::Role(Role::Provisioner), Identity::Role(Role::Local));
    let producer = agent("one", "a");
    let accounts = ONE_ACCOUNT
        .replace("PROVISIONER", &keys.ensure(&provisioner).unwrap())
        .replace("PRODUCER", &keys.ensure(&producer).unwrap())
        .replace("PULLER", &keys.ensure(&local).unwrap());
    let options = ServerOptions::new(find().unwrap(), dir.path().join("nats"));
    let server = NatsServer::start(options, &accounts).await.unwrap();
    let seed = keys.seed_file(&provisioner);
    let admin = Bus::connect(BusConfig::new(server.url(), provisioner, Some(seed))).await.unwrap();
    let bytes = 1 << 20;
    let streams = vec![
        StreamSpec::new("TASKS_a", &["task.>"], bytes),
        StreamSpec::new("WORK_LOCAL", &["work.local.>"], bytes),
        StreamSpec::new("WORK_CLOUD", &["work.cloud.>"], bytes),
    ];
    let consumers = vec![tidegate_bus::ConsumerSpec::new("WORK_LOCAL", "default", &["work.local.>"])];
    provision(&admin, &Topology { streams, consumers, buckets: vec![] }).await.unwrap();

    let seed_of = |identity| std::fs::read_to_string(keys.seed_file(identity)).unwrap().trim().to_owned();
    let raw = async_nats::ConnectOptions::with_nkey(seed_of(&producer)).connect(server.url()).await.unwrap();
    raw.publish_with_reply("task.a.chat", "work.local.default.batch.b", "x".into()).await.unwrap();
    raw.flush().await.unwrap();
    until("the acknowledgement is stored as work", || async { count(&admin, "WORK_LOCAL").await == 1 }).await;
    let raw = async_nats::ConnectOptions::with_nkey(seed_of(&local)).connect(server.url()).await.unwrap();
    let next = "$JS.API.CONSUMER.MSG.NEXT.WORK_LOCAL.default";
    raw.publish_with_reply(next, "work.cloud.openai.batch.b", "1".into()).await.unwrap();
    raw.flush().await.unwrap();
    until("local work is stored as cloud work", || async { count(&admin, "WORK_CLOUD").await == 1 }).await;
}

#[tokio::test]
async fn across_accounts_it_is_none() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let raw = cell.raw(agent("acme", "helpdesk")).await;
    let replies = [
        "work.local.default.batch.acme",
        "work.cloud.openai.batch.acme",
        "task.acme.billing.chat",
        "task.beta.helpdesk.chat",
        "cancel.beta.helpdesk.x",
        "result.acme.helpdesk.x",
        "verdict.stakes.acme.ann",
        "control.lane.olga",
        "$KV.flags.active",
    ];
    for reply in replies {
        raw.publish_with_reply("task.helpdesk.chat", reply, "x".into()).await.unwrap();
    }
    raw.flush().await.unwrap();
    until("the tasks are there", || async { count(&router, "TASKS_acme").await >= replies.len() as u64 })
        .await;

    // A puller names a subject of the cloud for its delivery.
    router.publish(Outbound::new("work.local.default.batch.acme", "secret")).await.unwrap();
    let puller = cell.raw(Identity::Role(Role::Local)).await;
    let next = "$JS.API.CONSUMER.MSG.NEXT.WORK_LOCAL.default";
    for reply in ["work.cloud.openai.batch.acme", "step.cloud.acme", "$KV.flags.active"] {
        puller.publish_with_reply(next, reply, "1".into()).await.unwrap();
    }
    puller.flush().await.unwrap();
    // The server takes one connection's requests in order: when an honest one is answered, the others were looked at.
    let inbox = puller.new_inbox();
    let mut deliveries = puller.subscribe(inbox.clone()).await.unwrap();
    puller.publish_with_reply(next, inbox, "1".into()).await.unwrap();
    let delivery = tokio::time::timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap();
    assert_eq!(delivery.payload, "secret");

    for (stream, expected) in [
        ("WORK_LOCAL", 1),
        ("WORK_CLOUD", 0),
        ("STEPS", 0),
        ("RESULTS", 0),
        ("EVENTS", 0),
        ("TASKS_beta", 0),
        ("KV_flags", 0),
    ] {
        assert_eq!(count(&router, stream).await, expected, "{stream}");
    }
    // What came in are the tasks, all under the agent's own name.
    for stored in router.last_per_subject("TASKS_acme", "task.>").await.unwrap() {
        assert!(stored.subject.starts_with("task.acme.helpdesk."), "{}", stored.subject);
    }
}
