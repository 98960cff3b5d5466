//! `pii-leak-benchmark` (PyPI, Apache-2.0) asks a cell as it asks any gateway: does personal data reach the provider, and does it come
//! back to the client? It sends its values through a door of the OpenAI protocol whose requests are tasks, and is the provider too.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_gateway::{Asked, ChatError, ChatEvent, OpenaiConfig, Reach};
use tidegate_schemas::live::Delta;
use tidegate_schemas::result::{Finish, State, Usage};
use tidegate_tests::cell::root;
use tidegate_tests::{Agent, TestCell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::redact;

const SOON: Duration = Duration::from_secs(30);
/// The model that the benchmark names.
const MODEL: &str = "conformance-model";
/// How a stream of answers ends.
const DONE: &str = "data: [DONE]";
/// What the benchmark sends, and the default bundle lets nothing of leave, replaced or not.
const KEPT: [&str; 4] = ["card", "national_id", "credentials", "secret"];

/// The shipped bundles, where what the benchmark sends may leave once it is replaced.
fn lenient(dir: &Path) -> Result<PathBuf> {
    let copied =
        std::process::Command::new("cp").arg("-r").arg(root().join("policies/bundles")).arg(dir).status()?;
    anyhow::ensure!(copied.success(), "copying the bundles");
    let change = |file: &str, rows: &[(String, String)]| {
        let path = dir.join("bundles/default").join(file);
        let mut text = fs::read_to_string(&path)?;
        for (from, to) in rows {
            anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
            text = text.replace(from, to);
        }
        Ok(fs::write(path, text)?)
    };
    let confidential = |kind: &str| {
        let regulated = if kind == "card" { ", regulations = [\"pci\"]" } else { "" };
        (
            format!("{kind} = {{ sensitivity = \"restricted\"{regulated} }}"),
            format!("{kind} = {{ sensitivity = \"confidential\" }}"),
        )
    };
    change("taxonomy.toml", &KEPT.map(confidential))?;
    let more: String = KEPT.iter().map(|kind| format!(", Category::\"{kind}\"")).collect();
    let listed = "Category::\"network\"".to_owned();
    change("policies/25-redaction.cedar", &[(listed.clone(), format!("{listed}{more}"))])?;
    Ok(dir.join("bundles/demo"))
}

/// An address that nobody listens on.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Stands before the benchmark's provider, whose answers end without the finish reason that OpenAI's have: for a cell those have
/// broken off. What is sent goes on byte by byte; answers get what they lack. It ends when dropped.
async fn before(capture: SocketAddr) -> Result<(SocketAddr, DropGuard)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        while let Some(Ok((client, _))) = stopped.run_until_cancelled(listener.accept()).await {
            tokio::spawn(pass_on(client, capture));
        }
    });
    Ok((address, stop.drop_guard()))
}

async fn pass_on(client: TcpStream, capture: SocketAddr) -> Result<()> {
    let (mut provider_reads, mut provider_writes) = TcpStream::connect(capture).await?.into_split();
    let (mut client_reads, mut client_writes) = client.into_split();
    let sending = tokio::spawn(async move { tokio::io::copy(&mut client_reads, &mut provider_writes).await });
    let mut answer = String::new();
    provider_reads.read_to_string(&mut answer).await?;
    sending.abort();
    let end = format!(
        "data: {}\n\n{DONE}",
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })
    );
    client_writes.write_all(answer.replace(DONE, &end).as_bytes()).await?;
    Ok(client_writes.shutdown().await?)
}

/// A door of the OpenAI protocol: each request is a task of this agent's, its pieces are the answer. It closes when dropped.
async fn door(agent: Agent, name: &'static str) -> Result<(String, DropGuard)> {
    let listener = tidegate_gateway::bind("127.0.0.1:0".parse()?, Reach::Loopback).await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let stop = CancellationToken::new();
    let config =
        OpenaiConfig { models: vec![MODEL.to_owned()], key: None, stand_in: false, time_limit: SOON };
    let agent = Arc::new(agent);
    let answer = Arc::new(move |asked: Asked| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let agent = Arc::clone(&agent);
        tokio::spawn(async move {
            let end = match answered(&agent, name, asked, &sender).await {
                Ok(()) => ChatEvent::End { finish: Finish::Stop, usage: Usage::default() },
                Err(_) => ChatEvent::Failed(ChatError::Failed),
            };
            let _ = sender.send(end);
        });
        let events =
            futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        Ok(events.boxed())
    });
    tokio::spawn(tidegate_gateway::serve_openai(listener, config, answer, stop.clone()));
    Ok((url, stop.drop_guard()))
}

/// Asks, and passes on every piece as it comes.
async fn answered(
    agent: &Agent,
    name: &str,
    asked: Asked,
    to: &mpsc::UnboundedSender<ChatEvent>,
) -> Result<()> {
    let id = Uuid::now_v7();
    let mut pieces = agent.bus().subscribe_core(&format!("delta.{name}.{id}")).await?;
    agent.bus().flush().await?;
    let messages: Vec<Value> = asked
        .chat
        .messages
        .iter()
        .map(|message| json!({ "role": message.role.as_str(), "content": message.content.expose() }))
        .collect();
    let task = json!({ "id": id, "labels": { "sensitivity": "public", "purpose": "support" },
        "input": { "messages": messages, "stream": true, "sampling": { "max_tokens": 64 } } });
    let listen = async {
        loop {
            let piece = pieces.next().await.context("the pieces end")?;
            let piece: Delta<'_> = serde_json::from_slice(&piece.payload)?;
            let last = piece.last;
            let _ = to.send(ChatEvent::Fragment(piece.text.into_owned().into()));
            if last {
                return anyhow::Ok(());
            }
        }
    };
    let (result, heard) = tokio::join!(agent.ask("chat", task), tokio::time::timeout(SOON, listen));
    let result = result?;
    anyhow::ensure!(result.state == State::Completed, "the task did not complete: {:?}", result.error);
    heard?
}

/// What the benchmark says: its exit status, and its report.
async fn asks(target: &str, capture: SocketAddr) -> Result<(Output, Value)> {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report.json");
    let python = std::env::var_os("TIDEGATE_PYTHON")
        .context("TIDEGATE_PYTHON names the tests' Python; see tests/run")?;
    let output = Command::new(python)
        .args(["-c", "import sys; from pii_leak_benchmark.cli import main; sys.exit(main())", "selfcheck"])
        .args(["--target-base-url", target, "--target-model", MODEL, "--iterations", "3"])
        .args(["--capture-port", &capture.port().to_string(), "--json-out"])
        .arg(&report)
        .output()
        .await?;
    let report = fs::read(&report).unwrap_or_default();
    Ok((output, serde_json::from_slice(&report).unwrap_or_default()))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

#[tokio::test]
async fn leak_story_an_independent_benchmark_finds_none() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = lenient(dir.path())?.display().to_string();
    let cell = TestCell::start(&["--bundle", &bundle]).await?;
    let capture = free()?;
    let (provider, _stands) = before(capture).await?;
    redact::provider_at(&cell, &format!("http://{provider}/v1")).await?;
    cell.tidegate(&["agent", "add", "acme", "clerk", "--role", "redacted-cloud"]).await?;

    let (url, _open) = door(Agent::connect(&cell, "acme", "clerk").await?, "clerk").await?;
    let (output, report) = asks(&url, capture).await?;
    let told = said(&output);
    assert!(output.status.success() && told.contains("CLEAN"), "{told}\n{report:#}");
    for check in ["configured_upstream_boundary", "response_fidelity", "sse_validity"] {
        assert_eq!(
            report.pointer(&format!("/checks/{check}/passed")),
            Some(&json!(true)),
            "{check}: {report:#}"
        );
    }

    // An agent whose values may not be replaced: nothing of theirs is ever sent.
    let (url, _open) = door(Agent::connect(&cell, "acme", "helpdesk").await?, "helpdesk").await?;
    let (output, _) = asks(&url, capture).await?;
    assert!(output.status.code() == Some(2) && said(&output).contains("NOT MEASURED"), "{}", said(&output));

    // Negative control: with no cell between them it leaks.
    let (output, _) = asks("capture://self", free()?).await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("LEAK"), "{}", said(&output));
    Ok(())
}
