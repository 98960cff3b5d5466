//! Connections between the roles and their server that are cut, slow, or forgotten by the other end: work waits, and then goes
//! on; nothing is lost and nothing doubled.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_schemas::header::Headers;
use tidegate_schemas::subject::RESULTS;
use tidegate_tests::conservation::Ledger;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, Proxy, TestCell};
use uuid::Uuid;

const ROLES: [&str; 5] = ["recorder", "local", "cloud", "router", "router-2"];
/// Tasks that come while a line is bad, count.
const TASKS_EACH: usize = 40;
/// How long nothing may happen to them while there is no line at all.
const NOTHING: Duration = Duration::from_secs(2);
/// How long each piece waits on a slow line.
const SLOW: Duration = Duration::from_millis(150);
/// Liveness: the backlog drains this soon after a line is well, or is as bad as it stays.
const SOON: Duration = Duration::from_secs(60);

/// A cell whose roles reach their server by a proxy only; who talks to it directly was connected before.
async fn behind_a_proxy() -> Result<(TestCell, Agent, Operator, Proxy)> {
    let cell = TestCell::start(&["--routers", "2"]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let operator = Operator::connect(&cell).await?;
    let direct = cell.url()?;
    let address: SocketAddr = direct.trim_start_matches("nats://").parse().context("an address")?;
    let proxy = Proxy::start(address).await?;
    let file = cell.path().join("cell.toml");
    let config = std::fs::read_to_string(&file)?;
    std::fs::write(&file, config.replace(&direct, &format!("nats://{}", proxy.address())))?;
    for role in ROLES {
        let made = proxy.made();
        cell.kill_and_wait(role).await?;
        until("the role to come by the proxy", SOON, || async { Ok((proxy.made() > made).then_some(())) })
            .await?;
    }
    Ok((cell, agent, operator, proxy))
}

async fn publish(agent: &Agent) -> Result<()> {
    for number in 0..TASKS_EACH {
        let (kind, labels, input) = match number {
            0 => {
                let messages = json!([{ "role": "user", "content": "What is a tide?" }]);
                ("chat", "public", json!({ "messages": messages, "sampling": { "max_tokens": 4 } }))
            }
            _ => ("embed", "internal", json!({ "texts": [format!("text {number}")] })),
        };
        let id = Uuid::now_v7().to_string();
        let body = json!({ "id": id, "labels": { "sensitivity": labels }, "input": input,
            "limits": { "deadline_ms": 600_000 } });
        agent.publish(kind, Some(&id), Headers::new(), body.to_string().into_bytes()).await?;
    }
    Ok(())
}

async fn ended(operator: &Operator, count: usize) -> Result<()> {
    until("every task to end", SOON, || async {
        let ended = operator.bus().stream_info(RESULTS).await?.messages;
        Ok((ended >= count as u64).then_some(()))
    })
    .await
}

#[tokio::test]
async fn long_crash_story_lines_that_are_cut_slow_or_forgotten_lose_and_double_nothing() -> Result<()> {
    let (mut cell, agent, operator, proxy) = behind_a_proxy().await?;
    publish(&agent).await?;
    ended(&operator, TASKS_EACH).await.context("all is well")?;

    proxy.cut();
    publish(&agent).await?;
    let early = tokio::time::timeout(NOTHING, ended(&operator, TASKS_EACH + 1)).await;
    assert!(early.is_err(), "negative control: without a line no role does anything");
    proxy.mend();
    ended(&operator, 2 * TASKS_EACH).await.context("after the cut")?;

    proxy.slow(SLOW);
    publish(&agent).await?;
    ended(&operator, 3 * TASKS_EACH).await.context("on a slow line")?;
    proxy.mend();

    // Work is on its way in both directions when the other ends forget it; nobody is told.
    publish(&agent).await?;
    proxy.forget();
    publish(&agent).await?;
    ended(&operator, 5 * TASKS_EACH).await.context("after every connection was forgotten")?;

    let ledger = Ledger::read(&operator).await?;
    assert_eq!(ledger.accepted.len(), 5 * TASKS_EACH);
    assert_eq!(ledger.breaches(), Vec::<String>::new());
    cell.recorded(SOON).await?;
    until("every role to be ready", SOON, || async {
        Ok(cell.output(&["status"]).await?.status.success().then_some(()))
    })
    .await?;
    drop((agent, operator));
    cell.stop().await
}
