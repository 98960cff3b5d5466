//! Feature flags on a real cell: set for a tenant and for a share, in force in under a second and on record; what cannot be meant is
//! refused; what is not known closes the cloud.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tidegate_bus::{Bus, Identity, Outbound, Role};
use tidegate_schemas::control::{Act, Control, FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::flag::Portion;
use tidegate_schemas::header;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::State;
use tidegate_schemas::subject::{EVENTS, Lane, WORK_LOCAL};
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);
/// How long routers may go on by what was set before.
const SWAP: SignedDuration = SignedDuration::from_secs(1);
/// Workflows that are asked, so many that a share of them is neither none nor all.
const FLOWS: u32 = 14;

fn chat(workflow: u32) -> Value {
    json!({ "labels": { "sensitivity": "public" }, "workflow": format!("flow-{workflow}"),
            "input": { "messages": [{ "role": "user", "content": "What is a tide?" }], "sampling": { "max_tokens": 4 } } })
}

/// Where a task of a workflow runs.
async fn lane(agent: &Agent, workflow: u32) -> Result<Lane> {
    let result = agent.ask("chat", chat(workflow)).await?;
    assert_eq!(result.state, State::Completed, "{result:?}");
    Ok(result.destination.context("a destination")?.lane)
}

async fn local_flows(agent: &Agent) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for workflow in 0..FLOWS {
        if lane(agent, workflow).await? == Lane::Local {
            found.insert(workflow);
        }
    }
    Ok(found)
}

/// What the cell says when it does not do something.
async fn refusal(cell: &TestCell, arguments: &[&str]) -> Result<String> {
    let output = cell.output(arguments).await?;
    assert!(!output.status.success(), "{arguments:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// How long the last act on flags took to be in force, by the server's own clock.
async fn took(bus: &Bus) -> Result<SignedDuration> {
    let key = format!("$KV.{FLAGS_BUCKET}.{FLAGS_KEY}");
    let stored = bus.last_for_subject(&format!("KV_{FLAGS_BUCKET}"), &key).await?.context("the flags")?;
    let flags: Flags = serde_json::from_slice(&stored.payload)?;
    let act = bus.get(EVENTS, flags.event).await?.context("the act")?;
    assert_eq!(act.subject, "control.flag.admin");
    Ok(stored.published.duration_since(act.published))
}

/// The decision behind the newest local work.
async fn newest_local(bus: &Bus) -> Result<Decision> {
    let work = bus.last_for_subject(WORK_LOCAL, "work.local.*.*.acme").await?.context("local work")?;
    let headers = work.trusted_headers();
    Ok(serde_json::from_str(headers.get(header::DECISION).context("a decision")?)?)
}

#[tokio::test]
async fn flag_story_a_flag_is_set_for_a_tenant_and_a_share_and_every_decision_says_so() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let bus = connect(&cell, Role::Provisioner.into()).await?;
    assert_eq!(lane(&agent, 0).await?, Lane::Cloud, "negative control");
    let list = cell.json(&["flag", "list"]).await?;
    let line = list["flags"].as_array().context("flags")?.iter().find(|line| line["flag"] == "stay-local");
    let line = line.context("the flag")?;
    assert_eq!((&line["declared_by"], &line["on"]), (&json!(["active"]), &Value::Null), "{line}");

    let event = cell.json(&["flag", "on", "stay-local", "--tenant", "acme", "--reason", "an audit"]).await?;
    assert_eq!(lane(&agent, 0).await?, Lane::Local);
    let swap = took(&bus).await?;
    assert!(swap < SWAP, "{swap}");
    let decision = newest_local(&bus).await?;
    assert!(decision.facts.flags.contains(&Name::new("stay-local")?), "{decision:?}");
    assert_eq!(Some(decision.facts.flags_revision), event["event"].as_u64());
    let release = cell.json(&["bundle", "status"]).await?["event"].as_u64();
    assert_eq!(Some(decision.facts.release_revision), release);
    assert!(cell.tidegate(&["status"]).await?.contains("flags    stay-local (acme)"));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("task.json");
    std::fs::write(&file, chat(0).to_string())?;
    let file = file.display().to_string();
    let told =
        cell.tidegate(&["policy", "explain", &file, "--tenant", "acme", "--agent", "helpdesk"]).await?;
    assert!(told.contains("flag         stay-local:") && told.contains("flag-stay-local"), "{told}");

    cell.tidegate(&["flag", "share", "stay-local", "--share", "40", "--reason", "a part of it"]).await?;
    let few = local_flows(&agent).await?;
    assert_eq!(few, local_flows(&agent).await?, "a workflow goes one way");
    cell.tidegate(&["flag", "share", "stay-local", "--share", "70", "--reason", "more of it"]).await?;
    let many = local_flows(&agent).await?;
    assert!(few.is_subset(&many) && few.len() < many.len(), "{few:?} {many:?}");
    assert!(!few.is_empty() && many.len() < FLOWS as usize, "{few:?} {many:?}");
    cell.tidegate(&["flag", "off", "stay-local", "--reason", "seen enough"]).await?;
    assert!(local_flows(&agent).await?.is_empty());
    assert!(cell.tidegate(&["status"]).await?.contains("flags    none is on"));

    cell.recorded(SOON).await?;
    let acts = cell.json(&["audit", "query", "--kind", "control"]).await?;
    let acts = acts["records"].as_array().context("records")?;
    let flagged = acts.iter().filter(|act| act["detail"]["control"]["flag"] == "stay-local").count();
    assert_eq!(flagged, 4, "each act is on record");
    let own = cell.json(&["audit", "rejudge"]).await?;
    let found = |name: &str| own["rejudged"][name].as_u64();
    assert_eq!((found("differ"), found("equal")), (Some(0), found("decisions")), "{own}");
    Ok(())
}

#[tokio::test]
async fn flag_story_what_is_not_declared_is_refused_and_what_cannot_be_read_closes_the_cloud() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let said = refusal(&cell, &["flag", "on", "stay-locl", "--reason", "mistyped"]).await?;
    assert!(said.contains("declares the flag `stay-locl`; they declare stay-local"), "{said}");
    let nobody = ["flag", "on", "stay-local", "--tenant", "acmee", "--reason", "mistyped"];
    assert!(refusal(&cell, &nobody).await?.contains("knows no tenant `acmee`"));
    let said = refusal(&cell, &["flag", "on", "stay-local", "--reason", " "]).await?;
    assert!(said.contains("give a reason"), "{said}");

    // A router does not take the command's word for it.
    let admin = connect(&cell, Identity::Operator(Name::new("admin")?)).await?;
    let (flag, tenants) = (Name::new("stay-locl")?, BTreeSet::new());
    let act = Act::FlagSet { flag, tenants, portion: Portion::ALL };
    let control = Control { schema_version: 1, act, reason: "by hand".to_owned() };
    let act = Outbound::new("control.flag.admin", serde_json::to_vec(&control)?);
    let event = format!("EVENTS:{}", admin.publish(act).await?.sequence);
    let letter = until("the refusal", SOON, || async {
        let list = cell.json(&["dead", "list"]).await?;
        let found = list.as_array().and_then(|all| all.iter().find(|letter| letter["message"] == event));
        Ok(found.map(|letter| letter["sequence"].to_string()))
    })
    .await?;
    let shown = cell.json(&["dead", "show", &letter]).await?;
    let said = shown["content"]["sentence"].as_str().context("a sentence")?;
    assert!(said.contains("no bundle that is released declares this flag"), "{said}");
    assert_eq!(lane(&agent, 0).await?, Lane::Cloud, "negative control: nothing was set");

    // Nobody knows what is off or flagged: nothing leaves, and local work goes on.
    let bus = connect(&cell, Role::Provisioner.into()).await?;
    bus.kv_put(FLAGS_BUCKET, FLAGS_KEY, "no flags").await?;
    until("the routers to know", SOON, || async {
        Ok((lane(&agent, 0).await? == Lane::Local).then_some(()))
    })
    .await?;
    let said = refusal(&cell, &["flag", "list"]).await?;
    assert!(said.contains("tidegate lane off cloud"), "{said}");
    // Written anew, by an act that knows no more than that.
    drop(cell.output(&["lane", "off", "cloud", "--reason", "what was off is not known"]).await?);
    until("the switches", SOON, || async {
        Ok(cell.output(&["flag", "list"]).await?.status.success().then_some(()))
    })
    .await?;
    assert_eq!(lane(&agent, 0).await?, Lane::Local);
    cell.tidegate(&["lane", "on", "cloud", "--reason", "nothing was"]).await?;
    assert_eq!(lane(&agent, 0).await?, Lane::Cloud);
    Ok(())
}
