//! The record's master key as a credential of systemd: from there, and from nowhere else while it is there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_audit::MasterKey;
use tidegate_schemas::result::State;
use tidegate_tests::cell::{program, root};
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(60);
/// Where systemd says that a service's credentials are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What is said of another key than the record's.
const REFUSED: &str = "the master key is not this record's";
const UNREADABLE: i32 = 3;

/// Runs an embedding, and waits until it is on record.
async fn recorded(cell: &TestCell, agent: &Agent) -> Result<()> {
    let task = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    let result = agent.ask("embed", task).await?;
    assert_eq!(result.state, State::Completed);
    let id = result.task.to_string();
    until("the task on record", SOON, || async {
        let told = cell.output(&["audit", "task", &id]).await?;
        Ok(String::from_utf8_lossy(&told.stdout).contains("completed").then_some(()))
    })
    .await
}

/// `tidegate audit rejudge`, which opens bodies, with these credentials: its exit code, and what it said.
fn rejudge(cell: &TestCell, credentials: Option<&Path>) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(program());
    command.current_dir(root()).args(["--cell", &cell.path().display().to_string(), "audit", "rejudge"]);
    command.env_remove(CREDENTIALS).envs(credentials.map(|dir| (CREDENTIALS, dir)));
    let output = command.output().context("running `tidegate audit rejudge`")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn story_the_master_key_is_a_credential_and_another_one_is_refused() -> Result<()> {
    let (given, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (key, kept) = (given.path().join("master.key"), given.path().join("kept"));
    let right = MasterKey::create(&key)?;
    MasterKey::create(&other.path().join("master.key"))?;
    let directory = given.path().display().to_string();
    let cell = TestCell::start_with(&[(CREDENTIALS, directory.as_str())], &[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    recorded(&cell, &agent).await?;
    let own = MasterKey::load(&cell.path().join("keys/master.key"))?;
    assert!(!own.is_same(&right), "the cell has a key of its own, which is not used");

    // Commands take it from there too; neither the cell's own key nor another credential opens the bodies.
    let (code, said) = rejudge(&cell, Some(given.path()))?;
    assert_eq!(code, Some(0), "{said}");
    for credentials in [None, Some(other.path())] {
        let (code, said) = rejudge(&cell, credentials)?;
        assert!(code == Some(UNREADABLE) && said.contains(REFUSED), "{credentials:?}, {code:?}: {said}");
    }

    // A recorder that is given another key does not begin, whatever lies in the cell.
    let log = cell.path().join("logs/recorder.log");
    assert!(!std::fs::read_to_string(&log)?.contains(REFUSED), "negative control");
    std::fs::rename(&key, &kept)?;
    std::fs::copy(other.path().join("master.key"), &key)?;
    cell.signal("recorder", Signal::SIGKILL)?;
    until("the key to be refused", SOON, || async {
        Ok(std::fs::read_to_string(&log)?.contains(REFUSED).then_some(()))
    })
    .await?;
    std::fs::rename(&kept, &key)?;
    recorded(&cell, &agent).await?;
    assert_eq!(cell.json(&["audit", "verify"]).await?["verdict"], json!("whole"));
    Ok(())
}
