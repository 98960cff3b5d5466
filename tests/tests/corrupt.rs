//! A message that the server's disk lost a bit of: the record names it, and its account is not taken for a whole one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_schemas::header::Headers;
use tidegate_schemas::subject::RESULTS;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};

const SOON: Duration = Duration::from_secs(60);
const STREAM: &str = "TASKS_acme";
/// From the end of a stored message: the checksum's eight bytes, and some of the payload.
const FROM_END: u64 = 20;
const WHOLE: i32 = 0;
const ODD: i32 = 2;

/// Publishes tasks that no destination may have: no model has to run.
async fn publish(agent: &Agent, times: u32) -> Result<()> {
    let labels = json!({ "sensitivity": "internal", "residency": ["ch"] });
    let task = json!({ "labels": labels, "input": { "texts": ["x"] } }).to_string().into_bytes();
    for _ in 0..times {
        agent.publish("embed", None, Headers::new(), task.clone()).await?;
    }
    Ok(())
}

/// The one block of the stream.
fn block(dir: &Path) -> Result<PathBuf> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.ends_with(format!("{STREAM}/msgs/1.blk")) {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("no block of {STREAM}")
}

/// The stream's account once it is proven up to a sequence, and the command's exit code.
async fn account(cell: &TestCell, last: u64) -> Result<(Option<i32>, Value)> {
    until("the stream's account", SOON, || async {
        let output = cell.output(&["audit", "prove", "completeness", "--json"]).await?;
        // Until it is signed there is nothing to prove.
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let accounts = said["streams"].as_array().cloned().unwrap_or_default();
        let account = accounts.into_iter().find(|account| account["stream"] == STREAM);
        let account = account.filter(|account| account["last"].as_u64() == Some(last));
        Ok(account.map(|account| (output.status.code(), account)))
    })
    .await
}

#[tokio::test]
async fn corrupt_story_a_message_that_the_broker_lost_is_named_and_not_explained() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let operator = Operator::connect(&cell).await?;
    publish(&agent, 4).await?;
    let (code, whole) = account(&cell, 4).await?;
    assert_eq!((code, &whole["gaps"]), (Some(WHOLE), &json!([])), "negative control: {whole}");

    // What comes now is in the streams, and not on record when the server's disk loses a bit.
    cell.signal("recorder", Signal::SIGSTOP)?;
    publish(&agent, 1).await?;
    let before = operator.bus().stream_info(STREAM).await?.bytes;
    publish(&agent, 1).await?;
    let after = operator.bus().stream_info(STREAM).await?.bytes;
    publish(&agent, 2).await?;
    let all = operator.bus().stream_info(STREAM).await?.bytes;
    until("all to be rejected", SOON, || async {
        Ok((operator.bus().stream_info(RESULTS).await?.last == 8).then_some(()))
    })
    .await?;
    drop((agent, operator));
    cell.stop().await?;
    let path = block(&cell.path().join("nats/streams"))?;
    let mut bytes = fs::read(&path)?;
    assert_eq!(bytes.len() as u64, all, "the block holds the messages and nothing else");
    assert!(after - FROM_END > before, "within the sixth message");
    // A bit of the block is the same bit of the message: its cipher is one of streams.
    let byte = bytes.get_mut(usize::try_from(after - FROM_END)?).context("a byte of it")?;
    *byte ^= 1;
    fs::write(&path, bytes)?;

    cell.start_again(&[]).await?;
    let (code, found) = account(&cell, 8).await?;
    assert_eq!(code, Some(ODD), "{found}");
    assert_eq!(
        (&found["messages"], &found["missing"], &found["unexplained"]),
        (&json!(7), &json!(1), &json!(1))
    );
    let gap = &found["gaps"][0];
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["reason"]),
        (&json!(6), &json!(6), &json!("deleted")),
        "{gap}"
    );
    let told = cell.output(&["audit", "prove", "completeness"]).await?;
    let said = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(ODD), "{said}");
    assert!(
        said.contains("TASKS_acme 6 to 6: not explained") && said.contains("gaps are unexplained"),
        "{said}"
    );
    let odd = cell.json(&["audit", "query", "--anomalies"]).await?;
    assert!(odd.to_string().contains("\"unexplained\""), "an alarm: {odd}");
    Ok(())
}
