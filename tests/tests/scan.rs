//! Stories of a model's scan: what it lets leave, what it keeps, and that without it nothing leaves that did not before.

use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::{Lane, STEPS, WORK_LOCAL};
use tidegate_tests::cell::root;
use tidegate_tests::{Agent, Operator, TestCell};

const PLAIN: &str = "Summarise the release notes in three bullets.";
const NAMED: &str = "Please ask Maria Fernandez whether the parcel from Dublin has come.";
const FOREIGN: &str = "Меня зовут Анна Иванова";

fn internal(text: &str) -> Value {
    json!({ "labels": { "sensitivity": "internal" },
            "input": { "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 8 } } })
}

fn lane(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|destination| destination.lane)
}

/// Why work came back to the router, oldest first.
async fn steps(cell: &TestCell) -> Result<Vec<StepReason>> {
    let operator = Operator::connect(cell).await?;
    let messages = operator.messages(STEPS).await?;
    let reason = |stored: &tidegate_bus::Stored| {
        serde_json::from_slice::<Step>(&stored.payload).map(|step| step.reason).context("reading a step")
    };
    messages.values().map(reason).collect()
}

/// `policy explain` says of a task what the router did with it first, and what then where nothing is found.
async fn explained_as_it_went(cell: &TestCell, went: &TaskResult) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("task.json");
    std::fs::write(&file, internal(PLAIN).to_string())?;
    let file = file.display().to_string();
    let told = cell.json(&["policy", "explain", &file, "--tenant", "acme", "--agent", "helpdesk"]).await?;
    let work = Operator::connect(cell).await?.messages(WORK_LOCAL).await?;
    let first = work.values().next().context("the first work")?;
    let (lane, target) = (&told["destination"]["lane"], &told["destination"]["target"]);
    let wanted =
        format!("work.{}.{}.", lane.as_str().unwrap_or_default(), target.as_str().unwrap_or_default());
    assert!(first.subject.starts_with(&wanted), "{wanted}: {} {told}", first.subject);
    let then = &told["should_the_scan_find_nothing"];
    let place = went.destination.as_ref().context("a destination")?;
    assert_eq!(
        (&then["outcome"], &then["destination"]["name"]),
        (&json!("cloud"), &json!(place.name)),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn story_scan_lets_internal_text_leave_only_where_a_model_found_nothing() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let plain = agent.ask("chat", internal(PLAIN)).await?;
    assert_eq!((plain.state, lane(&plain)), (State::Completed, Some(Lane::Cloud)), "{plain:?}");
    explained_as_it_went(&cell, &plain).await?;
    let named = agent.ask("chat", internal(NAMED)).await?;
    assert_eq!((named.state, lane(&named)), (State::Completed, Some(Lane::Local)), "{named:?}");
    let foreign = agent.ask("chat", internal(FOREIGN)).await?;
    assert_eq!((foreign.state, lane(&foreign)), (State::Completed, Some(Lane::Local)), "{foreign:?}");
    let steps = steps(&cell).await?;
    let [
        StepReason::Scanned { findings: none, .. },
        StepReason::Scanned { findings, .. },
        StepReason::ScanFailed { .. },
    ] = steps.as_slice()
    else {
        anyhow::bail!("{steps:?}")
    };
    assert!(none.is_empty(), "{none:?}");
    assert!(findings.keys().any(|entity| entity.as_str() == "person"), "{findings:?}");
    Ok(())
}

#[tokio::test]
async fn story_scan_without_the_classifier_keeps_internal_text_local() -> Result<()> {
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| root().join(".models"), Into::into);
    let without = tempfile::tempdir()?;
    for name in ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"] {
        symlink(models.canonicalize()?.join(name), without.path().join(name))?;
    }
    let there = without.path().display().to_string();
    let cell = TestCell::start_with(&[("TIDEGATE_MODELS", &there)], &[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let plain = agent.ask("chat", internal(PLAIN)).await?;
    assert_eq!((plain.state, lane(&plain)), (State::Completed, Some(Lane::Local)), "{plain:?}");
    let steps = steps(&cell).await?;
    assert!(matches!(steps.as_slice(), [StepReason::ScanFailed { .. }]), "{steps:?}");
    Ok(())
}
