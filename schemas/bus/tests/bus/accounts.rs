//! What each identity may do, and what it may not, on the accounts that ship.

use std::time::Duration;

use futures::StreamExt;
use tidegate_bus::accounts::{identities_of, render};
use tidegate_bus::server::{CONFIG, find};
use tidegate_bus::{ApiError, Bus, Identity, Outbound, PublishError, Role};

use crate::cell::{Cell, PATIENCE, agent, consumer, count, directory, name, shape, tool};

#[tokio::test]
async fn the_shipped_configuration_parses() {
    let dir = tempfile::tempdir().unwrap();
    let mut identities = tidegate_bus::accounts::Identities::open(dir.path().join("keys")).unwrap();
    identities.ensure_all(&directory()).unwrap();
    std::fs::write(dir.path().join("nats.conf"), CONFIG).unwrap();
    std::fs::write(dir.path().join("tls.conf"), "").unwrap();
    let key = "key: \"k0123456789012345678901234567890\"";
    std::fs::write(dir.path().join("encryption.conf"), key).unwrap();
    let accounts = render(&shape(), &directory(), &identities).unwrap();
    let parses = |accounts: &str| {
        std::fs::write(dir.path().join("accounts.conf"), accounts).unwrap();
        let mut command = std::process::Command::new(find().unwrap());
        command.arg("-t").arg("-c").arg(dir.path().join("nats.conf"));
        for (variable, value) in [
            ("PORT", "4222"),
            ("MONITOR_PORT", "\"127.0.0.1:8222\""),
            ("DIR", "\"/var/lib/tidegate\""),
            ("LOG", "\"/var/lib/tidegate/log\""),
            ("STORE", "\"/var/lib/tidegate/streams\""),
        ] {
            command.env(format!("TIDEGATE_NATS_{variable}"), value);
        }
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(parses(&accounts).0, "{}", parses(&accounts).1);
    // Negative control: an import that nobody exports is refused.
    let broken =
        accounts.replace("imports [", "imports [ { service: { account: \"APP\", subject: \"no.such\" } }");
    assert!(!parses(&broken).0);
}

#[test]
fn no_operator_gets_a_name_under_which_a_role_acts() {
    let dir = tempfile::tempdir().unwrap();
    let mut identities = tidegate_bus::accounts::Identities::open(dir.path().join("keys")).unwrap();
    let mut directory = directory();
    directory.operators.extend([name("recorder"), name("recorder-2"), name("router")]);
    identities.ensure_all(&directory).unwrap();
    let operators: Vec<String> = identities_of(&directory)
        .iter()
        .map(ToString::to_string)
        .filter(|one| one.starts_with("operator."))
        .collect();
    for role in ["operator.recorder", "operator.router"] {
        assert!(!operators.contains(&role.to_owned()), "{operators:?}");
    }
    let accounts = render(&shape(), &directory, &identities).unwrap();
    // Only the recorder's own user has what is published under its name.
    let lines =
        |of: &str| accounts.lines().filter(|line| line.contains(&format!("control.*.{of}\""))).count();
    assert_eq!((lines("recorder"), lines("router")), (0, 0), "{accounts}");
    assert!(
        lines("recorder-2") > 0 && operators.contains(&"operator.recorder-2".to_owned()),
        "negative control"
    );
}

#[tokio::test]
async fn every_role_passes_its_start_up_checks() {
    let cell = Cell::start().await;
    for identity in cell.everybody() {
        let bus = cell.bus(identity.clone()).await;
        let mine: Vec<_> = match identity {
            Identity::Role(Role::Router) => {
                vec![("TASKS_acme", "router"), ("STEPS", "router"), ("EVENTS", "router")]
            }
            Identity::Role(Role::Recorder) => vec![("TASKS_beta", "recorder"), ("RESULTS", "recorder")],
            Identity::Role(Role::Local) => vec![("WORK_LOCAL", "default"), ("WORK_LOCAL", "embed")],
            Identity::Role(Role::Cloud) => vec![("WORK_CLOUD", "openai")],
            Identity::Tool { .. } => vec![("RESULTS", "tool=acme=desk")],
            _ => vec![],
        };
        let specs: Vec<_> = mine.iter().map(|(stream, durable)| consumer(&cell, stream, durable)).collect();
        if specs.is_empty() {
            continue;
        }
        bus.check(&specs).await.unwrap_or_else(|error| panic!("{identity}: {error}"));
    }
    // Negative controls: somebody else's consumer, and one that is not as asked.
    let cloud = cell.role(Role::Cloud).await;
    let other = cloud.check(&[consumer(&cell, "WORK_LOCAL", "default")]).await;
    assert!(matches!(other, Err(tidegate_bus::CheckError::Consumer { .. })), "{other:?}");
    let mut wrong = consumer(&cell, "WORK_CLOUD", "openai");
    wrong.filter_subjects = vec!["work.cloud.openai.batch.>".to_owned()];
    let drifted = cloud.check(&[wrong]).await;
    assert!(
        matches!(drifted, Err(tidegate_bus::CheckError::Drift { ref field, .. }) if field == "filter_subjects")
    );
}

#[tokio::test]
async fn a_task_carries_its_tenant_and_a_result_finds_its_agent() {
    let cell = Cell::start().await;
    let helpdesk = cell.bus(agent("acme", "helpdesk")).await;
    let published = helpdesk.publish(Outbound::new("task.helpdesk.chat", "{}").with_id("1")).await.unwrap();
    assert_eq!(
        (published.stream.as_str(), published.sequence, published.duplicate),
        ("TASKS_acme", 1, false)
    );
    let again = helpdesk.publish(Outbound::new("task.helpdesk.chat", "{}").with_id("1")).await.unwrap();
    assert!(again.duplicate && again.sequence == 1);
    // The same id of another tenant is another task.
    let beta = cell.bus(agent("beta", "helpdesk")).await;
    assert!(!beta.publish(Outbound::new("task.helpdesk.chat", "{}").with_id("1")).await.unwrap().duplicate);
    let router = cell.role(Role::Router).await;
    assert_eq!(router.get("TASKS_acme", 1).await.unwrap().unwrap().subject, "task.acme.helpdesk.chat");

    // The worker answers: durable result, then tokens and the reply on core.
    let local = cell.role(Role::Local).await;
    let task = "018f4c1e-0000-7000-8000-000000000001";
    assert!(helpdesk.own_result("helpdesk", task).await.unwrap().is_none());
    let mut told = helpdesk.subscribe_core("delta.helpdesk.>").await.unwrap();
    let mut replies = helpdesk.subscribe_core("reply.helpdesk.>").await.unwrap();
    helpdesk.flush().await.unwrap();
    assert!(!local.subject_exists("RESULTS", &format!("result.acme.helpdesk.{task}")).await.unwrap());
    local.publish(Outbound::new(format!("result.acme.helpdesk.{task}"), "done")).await.unwrap();
    assert!(local.subject_exists("RESULTS", &format!("result.acme.helpdesk.{task}")).await.unwrap());
    let none = tidegate_schemas::header::Headers::new();
    local.publish_core(&format!("delta.acme.helpdesk.{task}"), &none, "tok".into()).await.unwrap();
    local.publish_core("reply.acme.helpdesk.mine", &none, "done".into()).await.unwrap();
    assert_eq!(helpdesk.own_result("helpdesk", task).await.unwrap().unwrap().payload, "done");
    let delta = tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap();
    assert_eq!(
        (delta.subject.as_str(), &delta.payload[..]),
        (&*format!("delta.helpdesk.{task}"), &b"tok"[..])
    );
    let reply = tokio::time::timeout(PATIENCE, replies.next()).await.unwrap().unwrap();
    assert_eq!(reply.subject, "reply.helpdesk.mine");

    // The support tool sees that there is a result, not what it says.
    let desk = cell.bus(tool("acme", "desk")).await;
    let mut reader = desk.reader(&consumer(&cell, "RESULTS", "tool=acme=desk"), 10).await.unwrap();
    let seen = tokio::time::timeout(PATIENCE, reader.take(1)).await.unwrap().unwrap();
    assert_eq!(seen[0].message.subject, format!("result.acme.helpdesk.{task}"));
    assert!(seen[0].message.payload.is_empty());
    reader.done(seen).await;
}

/// What an identity tries.
enum Try {
    Publish(&'static str),
    Ask(&'static str),
}
use Try::{Ask, Publish};

async fn is_refused(bus: &Bus, attempt: &Try) -> bool {
    match attempt {
        Publish(subject) => {
            let result = bus.publish(Outbound::new(*subject, "x")).await;
            matches!(result, Err(PublishError::Denied { .. } | PublishError::NoStream { .. }))
        }
        Ask(subject) => {
            let result = bus.request(subject, "{}".into(), Duration::from_secs(2)).await;
            matches!(result, Err(ApiError::Denied { .. } | ApiError::NoResponder { .. }))
        }
    }
}

#[tokio::test]
async fn nobody_does_what_is_not_theirs() {
    let cell = Cell::start().await;
    let helpdesk = agent("acme", "helpdesk");
    let local = Identity::Role(Role::Local);
    let cloud = Identity::Role(Role::Cloud);
    let rows: Vec<(Identity, Vec<Try>)> = vec![
        (
            helpdesk,
            vec![
                Publish("task.billing.chat"),
                Publish("task.beta.helpdesk.chat"),
                Publish("task.acme.helpdesk.chat"),
                Publish("work.local.default.batch.acme"),
                Publish("result.helpdesk.x"),
                Publish("cancel.billing.x"),
                Publish("$KV.flags.active"),
                Publish("notice.kv.flags"),
                Ask("$JS.API.CONSUMER.MSG.NEXT.RESULTS.tool=acme=desk"),
                Ask("$JS.API.DIRECT.GET.RESULTS.result.billing.x"),
                Ask("$JS.API.DIRECT.GET.RESULTS.result.beta.helpdesk.x"),
                Ask("$JS.API.CONSUMER.CREATE.TASKS_acme.evil"),
                Ask("$JS.API.STREAM.INFO.TASKS_acme"),
            ],
        ),
        (
            local,
            vec![
                Publish("work.local.default.batch.acme"),
                Publish("work.cloud.openai.batch.acme"),
                Publish("step.cloud.acme"),
                Publish("attempt.cloud.acme"),
                Publish("task.acme.helpdesk.chat"),
                Publish("verdict.stakes.acme.ann"),
                Publish("control.lane.olga"),
                Publish("$KV.flags.active"),
                Ask("$JS.API.CONSUMER.MSG.NEXT.WORK_CLOUD.openai"),
                Ask("$JS.API.CONSUMER.CREATE.WORK_LOCAL.evil"),
                Ask("$JS.API.CONSUMER.DURABLE.CREATE.WORK_LOCAL.evil"),
                Ask("$JS.API.DIRECT.GET.TASKS_acme"),
            ],
        ),
        (
            cloud,
            vec![
                Publish("work.cloud.openai.batch.acme"),
                Publish("step.local.acme"),
                Ask("$JS.API.CONSUMER.MSG.NEXT.WORK_LOCAL.default"),
                Ask("$JS.API.CONSUMER.INFO.WORK_LOCAL.default"),
                Ask("$JS.API.DIRECT.GET.WORK_LOCAL"),
                Ask("$JS.API.DIRECT.GET.RESULTS.result.acme.helpdesk.x"),
                Ask("$JS.API.STREAM.MSG.GET.WORK_LOCAL"),
                Ask("$JS.API.CONSUMER.CREATE.WORK_CLOUD.evil"),
                Ask("$JS.API.DIRECT.GET.KV_directory.$KV.directory.active"),
            ],
        ),
        (
            Identity::Reviewer(name("ann")),
            vec![
                Publish("verdict.stakes.acme.bob"),
                Publish("verdict.money.acme.ann"),
                Publish("control.lane.ann"),
                Publish("$KV.flags.active"),
            ],
        ),
        (
            Identity::Operator(name("olga")),
            vec![
                Publish("control.lane.oscar"),
                Publish("replay.x.task"),
                Publish("task.acme.helpdesk.chat"),
                Ask("query.replay.oscar"),
                Ask("query.erase.oscar"),
                Publish("control.erase.recorder"),
                Publish("$KV.flags.active"),
                Publish("verdict.stakes.acme.ann"),
                Publish("work.local.default.batch.acme"),
            ],
        ),
        (
            Identity::Role(Role::Router),
            vec![
                Publish("task.acme.helpdesk.chat"),
                Publish("checkpoint"),
                Publish("control.lane.olga"),
                Ask("$JS.API.CONSUMER.CREATE.STEPS.evil"),
            ],
        ),
        (
            Identity::Role(Role::Recorder),
            vec![
                Publish("work.cloud.openai.batch.acme"),
                Publish("control.lane.olga"),
                Publish("control.lane.recorder"),
                Publish("control.erase.olga"),
                Ask("$JS.API.STREAM.DELETE.STEPS"),
            ],
        ),
    ];
    for (identity, attempts) in rows {
        let bus = cell.bus(identity.clone()).await;
        for attempt in attempts {
            let (Publish(subject) | Ask(subject)) = attempt;
            assert!(is_refused(&bus, &attempt).await, "{identity} was not refused `{subject}`");
        }
    }
}

#[tokio::test]
async fn everybody_does_what_is_theirs() {
    let cell = Cell::start().await;
    let rows: Vec<(Identity, Vec<(&str, &str)>)> = vec![
        (
            agent("acme", "helpdesk"),
            vec![("task.helpdesk.chat", "TASKS_acme"), ("cancel.helpdesk.x", "TASKS_acme")],
        ),
        (
            Identity::Role(Role::Router),
            vec![
                ("work.local.default.batch.acme", "WORK_LOCAL"),
                ("work.cloud.openai.batch.acme", "WORK_CLOUD"),
                ("review.stakes.acme", "EVENTS"),
                ("result.acme.helpdesk.r", "RESULTS"),
                ("dead.router.acme", "EVENTS"),
            ],
        ),
        (
            Identity::Role(Role::Local),
            vec![
                ("step.local.acme", "STEPS"),
                ("attempt.local.acme", "EVENTS"),
                ("result.acme.helpdesk.l", "RESULTS"),
            ],
        ),
        (
            Identity::Role(Role::Cloud),
            vec![
                ("step.cloud.acme", "STEPS"),
                ("attempt.cloud.acme", "EVENTS"),
                ("result.acme.helpdesk.c", "RESULTS"),
            ],
        ),
        (
            Identity::Role(Role::Recorder),
            vec![
                ("checkpoint", "EVENTS"),
                ("result.acme.helpdesk.d", "RESULTS"),
                ("replay.x.task", "REPLAY"),
                ("control.replay.recorder", "EVENTS"),
                ("control.record.recorder", "EVENTS"),
                ("control.bundle.recorder", "EVENTS"),
                ("task.acme.helpdesk.chat", "TASKS_acme"),
            ],
        ),
        (Identity::Role(Role::Gateway), vec![("task.beta.helpdesk.chat", "TASKS_beta")]),
        (Identity::Reviewer(name("ann")), vec![("verdict.stakes.acme.ann", "EVENTS")]),
        (Identity::Operator(name("olga")), vec![("control.lane.olga", "EVENTS")]),
    ];
    for (identity, subjects) in rows {
        let bus = cell.bus(identity.clone()).await;
        for (subject, stream) in subjects {
            let published = bus.publish(Outbound::new(subject, "x")).await;
            let published = published.unwrap_or_else(|error| panic!("{identity} `{subject}`: {error}"));
            assert_eq!(published.stream, stream, "{identity} `{subject}`");
        }
    }
}

#[tokio::test]
async fn operations_see_every_role() {
    let cell = Cell::start().await;
    let mut answered = Vec::new();
    let mut services = Vec::new();
    for role in [Role::Router, Role::Recorder, Role::Local, Role::Cloud, Role::Gateway] {
        let bus = cell.role(role).await;
        let health = crate::cell::health(role);
        health.ready("bus");
        services.push((bus.discovery(&health, "0.1.0").await.unwrap(), bus.clone()));
        bus.flush().await.unwrap();
    }
    let ops = cell.raw(Identity::Operator(name("olga"))).await;
    let inbox = ops.new_inbox();
    let mut answers = ops.subscribe(inbox.clone()).await.unwrap();
    ops.publish_with_reply("$SRV.PING", inbox, "".into()).await.unwrap();
    while answered.len() < 5 {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
        let ping: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        answered.push(ping["name"].as_str().unwrap().to_owned());
    }
    answered.sort();
    let expected = ["gateway", "local", "recorder", "router", "cloud"].map(|role| format!("tidegate-{role}"));
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(answered, expected);
    let olga = cell.bus(Identity::Operator(name("olga"))).await;
    let health = olga.request("health.local", "".into(), PATIENCE).await.unwrap();
    let health: serde_json::Value = serde_json::from_slice(&health.payload).unwrap();
    assert_eq!((health["role"].as_str(), health["ready"].as_bool()), (Some("local"), Some(true)));
    assert_eq!(count(&olga, "RESULTS").await, 0);
}
