//! What was found in a task leaves as tokens only, and comes back as it was; without the vault nothing leaves.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_schemas::live::Delta;
use tidegate_schemas::redact::{Token, tokens_in};
use tidegate_schemas::result::{Output, State, TaskResult};
use tidegate_schemas::subject::Lane;
use tidegate_tests::capture::Capture;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
const ADDRESS: &str = "jane.doe@example.org";
const FOREIGN: &str = "<EMAIL_zzzzzzzz>";

/// A cell whose provider keeps what it is sent, and an agent whose contacts may be replaced.
async fn cell() -> Result<(TestCell, Capture, Agent)> {
    cell_with(&[]).await
}

/// The same, with these variables in the environment of its processes.
pub(crate) async fn cell_with(environment: &[(&str, &str)]) -> Result<(TestCell, Capture, Agent)> {
    let cell = TestCell::start_with(environment, &[]).await?;
    cell.tidegate(&["agent", "add", "acme", "clerk", "--role", "redacted-cloud"]).await?;
    let capture = Capture::start().await?;
    provider_at(&cell, &capture.url()).await?;
    let agent = Agent::connect(&cell, "acme", "clerk").await?;
    Ok((cell, capture, agent))
}

/// Has the cell's stand-in be somebody else.
pub(crate) async fn provider_at(cell: &TestCell, url: &str) -> Result<()> {
    let file = cell.path().join("cell.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    let provider =
        config["cloud"]["providers"]["standin"]["endpoints"].as_table_mut().context("endpoints")?;
    for (_, endpoint) in provider.iter_mut() {
        endpoint.as_table_mut().context("an endpoint")?.insert("url".into(), url.into());
    }
    fs::write(&file, config.to_string())?;
    cell.kill_and_wait("cloud").await?;
    ready(cell, "cloud").await
}

async fn ready(cell: &TestCell, role: &str) -> Result<()> {
    until("the role", SOON, || async {
        Ok(cell.door(role, "/readyz").await.ok().filter(|(status, _)| *status == 200).map(drop))
    })
    .await
}

fn chat(session: Option<&str>, text: &str) -> Value {
    let mut task = json!({ "labels": { "sensitivity": "public", "purpose": "support" },
        "input": { "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 16 } } });
    if let Some(session) = session {
        task["session"] = json!(session);
    }
    task
}

fn text(result: &TaskResult) -> &str {
    match &result.output {
        Some(Output::Text { text, .. }) => text.expose(),
        _ => panic!("no text: {result:?}"),
    }
}

fn lane(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|destination| destination.lane)
}

/// The one token of the last request.
fn token(capture: &Capture) -> Token {
    let bodies = capture.bodies();
    let tokens = tokens_in(bodies.last().unwrap());
    tokens.into_iter().find(|token| token.as_str() != FOREIGN).unwrap()
}

#[tokio::test]
async fn story_redact_an_address_leaves_as_a_token_and_comes_back() -> Result<()> {
    let (cell, capture, agent) = cell().await?;
    let asked = format!("Write to {ADDRESS}, not to {FOREIGN}.");
    let result = agent.ask("chat", chat(Some("s1"), &asked)).await?;
    assert_eq!((result.state, lane(&result)), (State::Completed, Some(Lane::Cloud)), "{result:?}");
    assert_eq!(text(&result), asked, "the value is back, the token of nobody stays as it is");
    let counts = result.redaction.context("what became of the tokens")?;
    assert_eq!((counts.restored, counts.foreign, counts.dropped, counts.mangled), (1, 1, 0, 0));
    let first = token(&capture);

    // The same value in the same session has the same token, in another session or another agent's another one.
    agent.ask("chat", chat(Some("s1"), &format!("Again: {ADDRESS}"))).await?;
    assert_eq!(token(&capture), first, "later turns");
    agent.ask("chat", chat(Some("s2"), &format!("Again: {ADDRESS}"))).await?;
    assert_ne!(token(&capture), first, "another session");
    // A token of another session means nothing in this one.
    let stolen = agent.ask("chat", chat(Some("s2"), &format!("Who is {first}? Not {ADDRESS}"))).await?;
    assert!(text(&stolen).contains(first.as_str()), "a foreign token stays literal: {stolen:?}");

    // Negative control: an agent without the role keeps it inside.
    let plain = Agent::connect(&cell, "acme", "helpdesk").await?;
    let before = capture.bodies().len();
    let local = plain.ask("chat", chat(None, &asked)).await?;
    assert_eq!((lane(&local), capture.bodies().len()), (Some(Lane::Local), before), "{local:?}");
    let left = capture.bodies().concat();
    assert!(!left.contains("jane") && left.contains("<EMAIL_"), "{left}");

    let id = result.task.to_string();
    cell.recorded(SOON).await?;
    let told = cell.tidegate(&["audit", "task", &id]).await?;
    assert!(told.contains("redact") && !told.contains("jane"), "{told}");
    Ok(())
}

#[tokio::test]
async fn story_redact_a_name_and_an_address_in_internal_text_leave_as_tokens() -> Result<()> {
    let (cell, capture, agent) = cell().await?;
    let asked = "Please ask Maria Fernandez at 12 Harbour Street, Dublin, whether the parcel has come.";
    let mut task = chat(None, asked);
    task["labels"]["sensitivity"] = json!("internal");

    // Negative control: an agent without the role keeps it inside.
    let plain = Agent::connect(&cell, "acme", "helpdesk").await?;
    let local = plain.ask("chat", task.clone()).await?;
    assert_eq!((local.state, lane(&local)), (State::Completed, Some(Lane::Local)), "{local:?}");
    assert!(capture.bodies().is_empty(), "not a byte");

    let result = agent.ask("chat", task).await?;
    assert_eq!((result.state, lane(&result)), (State::Completed, Some(Lane::Cloud)), "{result:?}");
    assert_eq!(text(&result), asked, "the values are back");
    let left = capture.bodies().concat();
    for value in ["Maria", "Fernandez", "Harbour", "12 "] {
        assert!(!left.contains(value), "{value}: {left}");
    }
    let tokens = tokens_in(&left);
    let of = |kind: &str| tokens.iter().filter(|token| token.as_str().starts_with(kind)).count();
    assert_eq!((of("<PERSON_"), of("<ADDRESS_") + of("<STREET_ADDRESS_")), (1, 1), "{left}");

    // A bank account beside it is restricted: nothing is replaced so that the rest could leave.
    let mut account = chat(None, &format!("{asked} IBAN DE89 3704 0044 0532 0130 00"));
    account["labels"]["sensitivity"] = json!("internal");
    let kept = agent.ask("chat", account).await?;
    assert_eq!((lane(&kept), capture.bodies().len()), (Some(Lane::Local), 1), "{kept:?}");
    Ok(())
}

#[tokio::test]
async fn story_redact_streams_values_while_tokens_come() -> Result<()> {
    let (_cell, capture, agent) = cell().await?;
    let id = Uuid::now_v7();
    let mut pieces = agent.bus().subscribe_core(&format!("delta.clerk.{id}")).await?;
    agent.bus().flush().await?;
    let asked = format!("Write to {ADDRESS} — and to {ADDRESS} again.");
    let mut task = chat(None, &asked);
    task["id"] = json!(id);
    task["input"]["stream"] = json!(true);
    let result = agent.ask("chat", task).await?;
    assert_eq!((lane(&result), text(&result)), (Some(Lane::Cloud), asked.as_str()), "{result:?}");
    let (mut whole, mut count) = (String::new(), 0);
    loop {
        let piece = tokio::time::timeout(SOON, pieces.next()).await?.context("pieces")?;
        let piece: Delta<'_> = serde_json::from_slice(&piece.payload)?;
        whole.push_str(&piece.text);
        count += 1;
        if piece.last {
            break;
        }
    }
    assert_eq!(whole, asked, "the pieces are the answer");
    assert!(count > 4, "and they came as pieces: {count}");
    assert!(!capture.bodies().concat().contains("jane"));
    Ok(())
}

#[tokio::test]
async fn story_redact_without_a_vault_nothing_leaves() -> Result<()> {
    let (cell, capture, agent) = cell().await?;
    let ask = async |what: &str| {
        let result =
            agent.ask("chat", chat(None, &format!("{what}: {ADDRESS}"))).await.context("a result")?;
        anyhow::Ok((result.state, lane(&result), capture.bodies().len()))
    };
    assert_eq!(ask("well").await?, (State::Completed, Some(Lane::Cloud), 1), "negative control");

    cell.signal("vault", Signal::SIGSTOP)?;
    assert_eq!(ask("hung").await?, (State::Completed, Some(Lane::Local), 1), "not a byte");
    cell.signal("vault", Signal::SIGCONT)?;
    assert_eq!(ask("well again").await?, (State::Completed, Some(Lane::Cloud), 2), "negative control");

    // A vault that may not start: its key is open to others.
    let key = cell.path().join("keys/vault.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    cell.signal("vault", Signal::SIGKILL)?;
    assert_eq!(ask("killed").await?, (State::Completed, Some(Lane::Local), 2), "not a byte");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    ready(&cell, "vault").await?;
    assert_eq!(ask("back").await?, (State::Completed, Some(Lane::Cloud), 3), "negative control");

    assert!(!capture.bodies().concat().contains("jane"));
    Ok(())
}
