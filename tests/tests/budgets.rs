//! Budgets and breakers on a whole cell: what is spent or keeps failing is a fact of the decision, and work goes elsewhere only by a
//! new one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject::Lane;
use tidegate_tests::capture::Capture;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);
/// A breaker is open for 15 s at first.
const AGAIN: Duration = Duration::from_secs(60);

/// A cell whose provider is ours.
async fn cell() -> Result<(TestCell, Capture, Agent)> {
    let cell = TestCell::start(&[]).await?;
    let capture = Capture::start().await?;
    let file = cell.path().join("cell.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    let provider =
        config["cloud"]["providers"]["standin"]["endpoints"].as_table_mut().context("endpoints")?;
    for (_, endpoint) in provider.iter_mut() {
        endpoint.as_table_mut().context("an endpoint")?.insert("url".into(), capture.url().into());
    }
    fs::write(&file, config.to_string())?;
    cell.kill_and_wait("cloud").await?;
    until("the role", SOON, || async {
        Ok(cell.door("cloud", "/readyz").await.ok().filter(|(status, _)| *status == 200).map(drop))
    })
    .await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    Ok((cell, capture, agent))
}

fn public() -> Value {
    json!({ "labels": { "sensitivity": "public" },
            "input": { "messages": [{ "role": "user", "content": "What is a tide?" }], "sampling": { "max_tokens": 4 } } })
}

fn lane(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|destination| destination.lane)
}

async fn kept(cell: &TestCell, what: &str) -> Result<Vec<Value>> {
    let screen = cell.screen().await?;
    let told = screen.pointer(&format!("/kept/{what}")).and_then(Value::as_array);
    Ok(told.context("what is kept back")?.clone())
}

#[tokio::test]
async fn story_budget_that_is_spent_keeps_work_inside_and_is_never_passed() -> Result<()> {
    let (cell, capture, agent) = cell().await?;
    let first = agent.ask("chat", public()).await?;
    assert_eq!((first.state, lane(&first)), (State::Completed, Some(Lane::Cloud)), "{first:?}");
    let before = capture.bodies().len();
    let set = ["budget", "set", "--tenant", "acme", "--window", "day", "--reason", "by contract"];
    let shown = cell.json(&[&set[..], &["--requests", "4"]].concat()).await?;
    assert_eq!((&shown["budgets"][0]["max"], &shown["budgets"][0]["unit"]), (&json!(4), &json!("requests")));

    // More than there is room for, at once: the rest runs inside, by a decision that knows why.
    let all = futures::future::join_all((0..12).map(|_| agent.ask("chat", public()))).await;
    let all: Vec<TaskResult> = all.into_iter().collect::<Result<_>>()?;
    assert!(all.iter().all(|result| result.state == State::Completed), "{all:?}");
    let outside = all.iter().filter(|result| lane(result) == Some(Lane::Cloud)).count();
    assert_eq!((outside, capture.bodies().len() - before), (4, 4));
    let shown = cell.json(&["budget", "show"]).await?;
    assert_eq!(shown["budgets"][0]["counts"], json!(4), "{shown}");
    assert_eq!(kept(&cell, "spent").await?.len(), 1);
    let inside = all.iter().find(|result| lane(result) == Some(Lane::Local)).unwrap();
    cell.recorded(SOON).await?;
    let told = cell.json(&["audit", "task", &inside.task.to_string()]).await?.to_string();
    assert!(told.contains("\"spent\""), "{told}");

    // Where nothing is left inside it is rejected by the budget's name.
    cell.tidegate(&["lane", "off", "local", "--reason", "a test"]).await?;
    let rejected = until("the switch", SOON, || async {
        let result = agent.ask("chat", public()).await?;
        Ok((result.state == State::Rejected).then_some(result))
    })
    .await?;
    let error = rejected.error.context("an error")?;
    assert_eq!(error.code, Code::BudgetSpent);
    assert!(error.message.contains("requests a day of tenant `acme`"), "{}", error.message);
    assert!(error.retry_after_ms.is_some_and(|ms| ms <= 86_400_000));

    // An operator has it count anew, on record.
    let reset = ["budget", "reset", "--tenant", "acme", "--reason", "a test"];
    assert_eq!(cell.json(&reset).await?["budgets"][0]["counts"], json!(0));
    until("room", SOON, || async {
        Ok((lane(&agent.ask("chat", public()).await?) == Some(Lane::Cloud)).then_some(()))
    })
    .await?;

    // Negative control: with the limit taken away it leaves.
    cell.tidegate(&set).await?;
    let again = until("the limit to be gone", SOON, || async {
        let result = agent.ask("chat", public()).await?;
        Ok((lane(&result) == Some(Lane::Cloud)).then_some(result))
    })
    .await?;
    assert_eq!(again.state, State::Completed);
    Ok(())
}

#[tokio::test]
async fn story_breaker_opens_work_goes_on_by_new_decisions_and_a_probe_closes_it() -> Result<()> {
    let (cell, capture, agent) = cell().await?;
    let first = agent.ask("chat", public()).await?;
    assert_eq!(lane(&first), Some(Lane::Cloud), "{first:?}");
    capture.fail(true);
    let broken = until("the breaker to open", AGAIN, || async {
        let result = agent.ask("chat", public()).await?;
        assert_eq!((result.state, lane(&result)), (State::Completed, Some(Lane::Local)), "{result:?}");
        Ok(kept(&cell, "broken").await?.into_iter().next())
    })
    .await?;
    assert_eq!(broken["place"]["provider"], json!("standin"), "{broken}");
    // While it is open nothing is sent there, and the decision says so from the start.
    let (sent, result) = (capture.bodies().len(), agent.ask("chat", public()).await?);
    assert_eq!(lane(&result), Some(Lane::Local));
    assert_eq!(capture.bodies().len(), sent);
    // It answers again: a probe finds out, and all is as before.
    capture.fail(false);
    until("a probe", AGAIN, || async {
        let result = agent.ask("chat", public()).await?;
        assert_eq!(result.state, State::Completed, "no task is lost meanwhile: {result:?}");
        Ok((lane(&result) == Some(Lane::Cloud)).then_some(()))
    })
    .await?;
    until("the breaker to close", SOON, || async {
        Ok(kept(&cell, "broken").await?.is_empty().then_some(()))
    })
    .await?;
    let after = agent.ask("chat", public()).await?;
    assert_eq!(lane(&after), Some(Lane::Cloud), "{after:?}");
    Ok(())
}
