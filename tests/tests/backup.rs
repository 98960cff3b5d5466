//! Stories of a record that is lost: its backup, the streams, and an operator bring it back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::result::State;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(60);

async fn ask(agent: &Agent, times: u32) -> Result<String> {
    let mut last = String::new();
    for _ in 0..times {
        let input = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["a tide"] } });
        let result = agent.ask("embed", input).await?;
        anyhow::ensure!(result.state == State::Completed, "{:?}", result.state);
        last = result.task.to_string();
    }
    Ok(last)
}

/// Waits until a task's end is on record.
async fn on_record(cell: &TestCell, task: &str) -> Result<()> {
    until("the task on record", SOON, || async {
        let told = cell.output(&["audit", "task", task]).await?;
        Ok(String::from_utf8_lossy(&told.stdout).contains("completed").then_some(()))
    })
    .await
}

async fn ready(cell: &TestCell) -> Result<()> {
    until("the recorder", SOON, || async {
        Ok(cell.door("recorder", "/readyz").await.ok().filter(|(status, _)| *status == 200).map(drop))
    })
    .await
}

/// The record is whole and complete; the origin of its newest checkpoint.
async fn whole(cell: &TestCell) -> Result<String> {
    let verified = cell.json(&["audit", "verify"]).await?;
    assert_eq!(verified["verdict"], json!("whole"), "{verified}");
    let proven = cell.json(&["audit", "prove", "completeness"]).await?;
    assert_eq!((&proven["complete"], &proven["explained"]), (&json!(true), &json!(true)), "{proven}");
    let note = proven["checkpoint"].as_str().context("a note")?;
    Ok(note.lines().next().unwrap_or_default().to_owned())
}

fn destroy(cell: &TestCell) -> Result<()> {
    std::fs::remove_dir_all(cell.path().join("record")).context("destroying the record")
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[tokio::test]
async fn story_a_lost_record_comes_back_from_its_backup_and_the_streams() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let files = tempfile::tempdir()?;
    let backup = files.path().join("backup").display().to_string();
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    on_record(&cell, &ask(&agent, 2).await?).await?;
    let first = cell.json(&["audit", "backup", &backup]).await?;
    on_record(&cell, &ask(&agent, 2).await?).await?;
    let second = cell.json(&["audit", "backup", &backup]).await?;
    assert!(count(&second["added"]) > 0, "{second}");
    assert_eq!(
        count(&second["records"]),
        count(&first["records"]) + count(&second["added"]),
        "only what is new"
    );
    let checked = cell.json(&["audit", "restore", &backup, "--check"]).await?;
    assert_eq!(checked["records"], second["records"]);
    let over = cell.output(&["audit", "restore", &backup]).await?;
    assert!(!over.status.success() && String::from_utf8_lossy(&over.stderr).contains("there already"));

    // More tasks run and are signed; then the disk is gone.
    let lost = ask(&agent, 3).await?;
    on_record(&cell, &lost).await?;
    drop(agent);
    cell.stop().await?;
    destroy(&cell)?;
    cell.json(&["audit", "restore", &backup]).await?;
    cell.start_again(&[]).await?;
    let (status, _) = cell.door("router", "/readyz").await?;
    assert_ne!(status, 200, "without a record nothing leaves");
    cell.tidegate(&["audit", "accept-break", "--reason", "the disk failed"]).await?;
    ready(&cell).await?;
    on_record(&cell, &lost).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    on_record(&cell, &ask(&agent, 1).await?).await?;
    let origin = whole(&cell).await?;
    assert!(origin.ends_with("/2"), "{origin}");
    let acts = cell.json(&["audit", "query", "--kind", "control"]).await?;
    assert!(acts.to_string().contains("record_break"), "the break is on record");

    // Nothing was signed since the next backup: the history goes on.
    drop(agent);
    cell.stop().await?;
    cell.json(&["audit", "backup", &backup]).await?;
    destroy(&cell)?;
    cell.json(&["audit", "restore", &backup]).await?;
    cell.start_again(&[]).await?;
    ready(&cell).await?;
    assert_eq!(whole(&cell).await?, origin, "no break is needed");
    rebuilt(&cell, files.path()).await
}

/// An export with bodies gives the same record, which opens with the same keys.
async fn rebuilt(cell: &TestCell, files: &Path) -> Result<()> {
    let (export, record) = (files.join("export"), files.join("rebuilt"));
    let (export, record) = (export.display().to_string(), record.display().to_string());
    let path = |name: &str| cell.path().join(name).display().to_string();
    let (key_file, key, public) =
        (path("record/keys.bin"), path("keys/master.key"), path("keys/checkpoint.pub"));
    let exported = cell.json(&["audit", "export", &export, "--bodies"]).await?;
    let arguments = ["audit", "rebuild", "--from", &export, "--key-file", &key_file, "--record", &record];
    let made = cell.json(&[arguments.as_slice(), &["--public-key", &public]].concat()).await?;
    assert_eq!((&made["records"], &made["bodies_missing"]), (&exported["records"], &json!(0)), "{made}");
    let arguments = ["audit", "--record", &record, "--public-key", &public, "verify"];
    assert_eq!(cell.json(&arguments).await?["verdict"], json!("whole"));
    let judged = cell.json(&["audit", "--record", &record, "--key", &key, "rejudge"]).await?;
    assert!(judged.to_string().contains("\"differ\":0") || count(&judged["differ"]) == 0, "{judged}");
    Ok(())
}
