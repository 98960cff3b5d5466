//! The past, published again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::header::Headers;
use tidegate_schemas::result::State;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);

fn embed() -> Value {
    json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } })
}

/// Records of a kind.
async fn recorded(cell: &TestCell, kind: &str) -> Result<usize> {
    let page = cell.json(&["audit", "query", "--kind", kind, "--limit", "1000"]).await?;
    Ok(page["records"].as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn story_the_past_is_replayed_and_a_killed_recorder_goes_on() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    for _ in 0..40 {
        agent.publish("embed", None, Headers::new(), embed().to_string().into_bytes()).await?;
    }
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed);
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    until("all results on record", SOON, || async {
        Ok((recorded(&cell, "result").await? == 41).then_some(()))
    })
    .await?;

    // A support tool that came late gets them on its own subject; the recorder dies on the way.
    let plan = file("results.json");
    cell.json(&["replay", "plan", "--kind", "result", "--tenant", "acme", "--out", &plan]).await?;
    let to_tool =
        ["replay", "run", "--plan", &plan, "--tool", "acme/desk", "--rate", "10", "--reason", "late"];
    let begun = cell.json(&[&to_tool[..], &["--detach"]].concat()).await?;
    let id = begun["replay"].as_str().context("an id")?.to_owned();
    let status = || async {
        Ok::<_, anyhow::Error>(cell.json(&["replay", "status", &id]).await?["replays"][0].clone())
    };
    until("some to be published", SOON, || async {
        Ok((status().await?["done"].as_u64() > Some(5)).then_some(()))
    })
    .await?;
    cell.kill_and_wait("recorder").await?;
    let run = cell.json(&to_tool).await?;
    assert_eq!((&run["published"], &run["state"]), (&json!(41), &json!("done")), "{run}");
    let read =
        cell.tidegate(&["results", "--tool", "desk", "--replayed", "--limit", "100", "--json"]).await?;
    let tasks: std::collections::BTreeSet<String> = read
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["task"].to_string()))
        .collect::<Result<_>>()?;
    assert_eq!((read.lines().count(), tasks.len()), (41, 41), "each once");

    // One at a hundredth of its original pace is cancelled.
    let plan = file("tasks.json");
    cell.json(&["replay", "plan", "--kind", "task", "--out", &plan]).await?;
    let slow = ["replay", "run", "--plan", &plan, "--speed", "0.01", "--reason", "slowly", "--detach"];
    let id = cell.json(&slow).await?["replay"].as_str().context("an id")?.to_owned();
    let cancelled = cell.json(&["replay", "cancel", &id, "--reason", "enough"]).await?;
    assert_eq!(cancelled["state"], json!("cancelled"), "{cancelled}");

    // A task is submitted again, and runs as a new one.
    let plan = file("one.json");
    let before = recorded(&cell, "task").await?;
    let first = cell.json(&["audit", "query", "--kind", "task", "--limit", "1"]).await?;
    let time = first["records"][0]["time"].as_str().context("a time")?;
    let to: jiff::Timestamp = time.parse::<jiff::Timestamp>()? + jiff::SignedDuration::from_nanos(1);
    let to = to.to_string();
    cell.json(&["replay", "plan", "--kind", "task", "--to", &to, "--out", &plan]).await?;
    let run = cell.json(&["replay", "run", "--plan", &plan, "--as-original", "--reason", "again"]).await?;
    assert_eq!(run["published"], json!(1), "{run}");
    until("the new task's result", SOON, || async {
        Ok((recorded(&cell, "result").await? == 42).then_some(()))
    })
    .await?;
    assert_eq!(recorded(&cell, "task").await?, before + 1);
    let all = cell.json(&["audit", "query", "--kind", "task", "--limit", "1000"]).await?;
    let of = all["records"][before]["detail"]["task"]["replay_of"].clone();
    assert_eq!(of, first["records"][0]["task"], "it names the first one");
    Ok(())
}

#[tokio::test]
async fn story_a_late_tool_gets_the_results_of_a_span_and_no_others() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    for _ in 0..6 {
        assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed);
    }
    until("all results on record", SOON, || async {
        Ok((recorded(&cell, "result").await? == 6).then_some(()))
    })
    .await?;
    let page = cell.json(&["audit", "query", "--kind", "result", "--limit", "1000"]).await?;
    let results = page["records"].as_array().context("records")?;
    let time = |at: usize| results[at]["time"].as_str().context("a time");
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name).display().to_string();

    // From the third on, and before the fifth.
    let plan = file("span.json");
    let of = ["replay", "plan", "--kind", "result", "--tenant", "acme"];
    let span = ["--from", time(2)?, "--to", time(4)?, "--out", &plan];
    let made = cell.json(&[&of[..], &span].concat()).await?;
    assert_eq!(made["records"], json!(2), "{made}");
    let all = cell.json(&[&of[..], &["--out", &file("all.json")]].concat()).await?;
    assert_eq!(all["records"], json!(6), "negative control: without a span it would be all of them");

    let run = ["replay", "run", "--plan", &plan, "--tool", "acme/desk", "--rate", "1000", "--reason", "late"];
    let run = cell.json(&run).await?;
    assert_eq!((&run["published"], &run["state"]), (&json!(2), &json!("done")), "{run}");
    assert_eq!(run["before"], json!(false), "negative control");
    let again = ["replay", "run", "--plan", &plan, "--tool", "acme/desk", "--reason", "once more"];
    let said = cell.tidegate(&again).await?;
    assert!(said.contains("was run already") && said.contains("nothing was published now"), "{said}");
    assert_eq!(cell.json(&again).await?["before"], json!(true));
    let read =
        cell.tidegate(&["results", "--tool", "desk", "--replayed", "--limit", "100", "--json"]).await?;
    let tasks: Vec<Value> = read
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["task"].clone()))
        .collect::<Result<_>>()?;
    let wanted: Vec<Value> = results[2..4].iter().map(|result| result["task"].clone()).collect();
    assert_eq!(tasks, wanted, "in their order, and nothing of another time");
    Ok(())
}
