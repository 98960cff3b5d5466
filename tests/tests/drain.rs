//! Roles that are told to end while tasks flow, as at every deployment: each drains, and nothing is lost.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_schemas::header::Headers;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject::RESULTS;
use tidegate_tests::conservation::Ledger;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

/// In the order in which the load is taken from them.
const ROLES: [&str; 4] = ["router", "local", "cloud", "recorder"];
/// Tasks that come just before and just after a role is told to end, count.
const TASKS_EACH: usize = 25;
const TASKS: usize = 2 * TASKS_EACH * ROLES.len();
/// How long a role may take to drain.
const DRAINED: Duration = Duration::from_secs(10);
/// How long it may take to run again, and the cell to work everything off.
const SOON: Duration = Duration::from_secs(60);

/// Publishes some tasks. The last of them is for the cloud, which takes the longest.
async fn publish(agent: &Agent) -> Result<()> {
    for number in 1..=TASKS_EACH {
        let (kind, sensitivity, input) = if number == TASKS_EACH {
            let messages = json!([{ "role": "user", "content": "What is a tide?" }]);
            ("chat", "public", json!({ "messages": messages, "sampling": { "max_tokens": 8 } }))
        } else {
            ("embed", "internal", json!({ "texts": [format!("text {number}")] }))
        };
        let id = Uuid::now_v7().to_string();
        let body = json!({ "id": id, "labels": { "sensitivity": sensitivity }, "input": input });
        agent.publish(kind, Some(&id), Headers::new(), body.to_string().into_bytes()).await?;
    }
    Ok(())
}

/// How the processes of a role have ended so far, as their supervisor saw it.
fn ends(cell: &TestCell, role: &str) -> Result<Vec<String>> {
    let said = std::fs::read_to_string(cell.said())?;
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ends = lines.filter(|line| {
        let fields = &line["fields"];
        fields["role"] == role && fields["message"] == "A role ended; starting it again."
    });
    Ok(ends.filter_map(|line| line["fields"]["status"].as_str().map(str::to_owned)).collect())
}

/// Tells a role to end, and how it did.
async fn told_to_end(cell: &TestCell, role: &str) -> Result<String> {
    assert_eq!(ends(cell, role)?, Vec::<String>::new(), "it has not ended before");
    cell.signal(role, Signal::SIGTERM)?;
    let ended = until("it to drain", DRAINED, || async { Ok(ends(cell, role)?.pop()) });
    ended.await.with_context(|| format!("{role} was told to end"))
}

/// Waits until another process of the role can do its work.
async fn runs_again(cell: &TestCell, role: &str, before: u32) -> Result<()> {
    until("its next process", SOON, || async {
        if cell.pid(role).ok().is_none_or(|now| now == before) {
            return Ok(None);
        }
        Ok(cell.door(role, "/readyz").await.ok().filter(|(status, _)| *status == 200).map(drop))
    })
    .await
    .with_context(|| format!("{role} starts again"))
}

#[tokio::test]
async fn story_roles_that_are_told_to_end_under_load_drain_and_lose_nothing() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let operator = Operator::connect(&cell).await?;
    let ended = || async { anyhow::Ok(operator.bus().stream_info(RESULTS).await?.messages) };
    for (round, role) in ROLES.into_iter().enumerate() {
        let before = cell.pid(role)?;
        publish(&agent).await?;
        let accepted = (2 * round + 1) * TASKS_EACH;
        assert!(ended().await? < accepted as u64, "{role} is told to end while tasks are open");
        let (status, published) = tokio::join!(told_to_end(&cell, role), publish(&agent));
        published.context("publishing while a role drains")?;
        assert_eq!(status?, "exit status: 0", "{role}");
        let log = std::fs::read_to_string(cell.path().join("logs").join(format!("{role}.log")))?;
        assert!(log.contains("Drained and ended."), "{role}: {log}");
        runs_again(&cell, role, before).await?;
    }
    until("every task to end", SOON, || async { Ok((ended().await? >= TASKS as u64).then_some(())) }).await?;
    until("the record to have every result", SOON, || async {
        let status = cell.json(&["status"]).await.ok();
        let lag = status.as_ref().and_then(|status| status.pointer("/record/lag")).and_then(Value::as_u64);
        Ok((lag == Some(0)).then_some(()))
    })
    .await?;
    let ledger = Ledger::read(&operator).await?;
    assert_eq!((ledger.accepted.len(), ledger.breaches()), (TASKS, Vec::<String>::new()));
    let results = operator.messages(RESULTS).await?;
    for stored in results.values() {
        let result: TaskResult = serde_json::from_slice(&stored.payload)?;
        assert_eq!(result.state, State::Completed, "whom a drain costs its answer: {:?}", result.error);
    }
    assert_eq!(cell.json(&["dead", "list"]).await?, json!([]), "nothing was given up");
    cell.tidegate(&["audit", "verify"]).await.context("the record verifies")?;

    let first = results.keys().next().context("a result")?;
    operator.bus().delete(RESULTS, *first, false).await?;
    let lossy = Ledger::read(&operator).await?.breaches();
    assert_eq!(lossy.len(), 1, "negative control: one result that was lost is seen, {lossy:?}");
    // Negative control: a role that is killed does not end well.
    let before = cell.pid("router")?;
    cell.signal("router", Signal::SIGKILL)?;
    let killed = until("its end", SOON, || async { Ok(ends(&cell, "router")?.get(1).cloned()) }).await?;
    assert_ne!(killed, "exit status: 0");
    runs_again(&cell, "router", before).await
}
