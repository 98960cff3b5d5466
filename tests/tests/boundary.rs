//! The boundary as a cell keeps it: what left and by which permission, keys that change while work goes on, and TLS between all
//! parts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tidegate_bus::{Bus, BusConfig, ConnectError, Identity, Role};
use tidegate_schemas::result::State;
use tidegate_schemas::subject::Lane;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SOON: Duration = Duration::from_secs(60);

/// A task that goes to the provider, asked until it does: a cell that has just begun keeps work inside at first.
async fn asked_outside(agent: &Agent) -> Result<String> {
    until("a task that leaves", SOON, || async {
        let messages = json!([{ "role": "user", "content": "What is a tide?" }]);
        let body = json!({ "labels": { "sensitivity": "public" },
            "input": { "messages": messages, "sampling": { "max_tokens": 4 } } });
        let result = agent.ask("chat", body).await?;
        ensure!(result.state == State::Completed, "{:?}", result.error);
        let outside = result.destination.is_some_and(|destination| destination.lane == Lane::Cloud);
        Ok(outside.then(|| result.task.to_string()))
    })
    .await
}

/// The ledger's lines of a task, once they are proven and ended.
async fn ledger(cell: &TestCell, task: &str) -> Result<Vec<Value>> {
    until("the ledger's lines", SOON, || async {
        let told = cell.tidegate(&["audit", "egress", "--task", task, "--json"]).await?;
        let lines: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let whole = |line: &Value| line["proof"].is_string() && line["end"].is_object();
        Ok((!lines.is_empty() && lines.iter().all(whole)).then_some(lines))
    })
    .await
}

/// Checks a line by the public key alone, as anybody could on another machine.
async fn verified(cell: &TestCell, line: &Value, leaf: &str) -> Result<bool> {
    let files =
        ["line.proof", "line.leaf"].map(|name| cell.path().with_file_name(name).display().to_string());
    std::fs::write(&files[0], line["proof"].as_str().context("a proof")?)?;
    std::fs::write(&files[1], leaf)?;
    let key = cell.path().join("keys/checkpoint.pub").display().to_string();
    let arguments = ["audit", "verify", "--proof", &files[0], "--leaf", &files[1], "--public-key", &key];
    Ok(cell.output(&arguments).await?.status.success())
}

#[tokio::test]
async fn story_ticket_keys_change_while_work_goes_on_and_each_request_is_in_the_ledger() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let before = asked_outside(&agent).await?;

    let rotated = cell.json(&["ticket", "rotate", "--reason", "a drill"]).await?;
    assert_eq!((&rotated["before"], &rotated["key"]), (&json!("ticket-1"), &json!("ticket-2")));
    let after = asked_outside(&agent).await?;
    let keys = cell.json(&["ticket", "keys"]).await?;
    let keys = keys["keys"].as_array().context("keys")?;
    let of = |id: &str| keys.iter().find(|key| key["key"] == id).cloned().unwrap_or_default();
    let (old, new) = (of("ticket-1"), of("ticket-2"));
    assert_eq!((&old["signs"], &old["counts"], &new["signs"]), (&json!(false), &json!(true), &json!(true)));
    assert!(
        old["until"].is_string() && new["until"].is_null(),
        "both count now, the old one to its end: {keys:?}"
    );

    // A key that was lost ends at once, and work goes on by the next one.
    cell.json(&["ticket", "rotate", "--at-once", "--reason", "lost"]).await?;
    let last = asked_outside(&agent).await?;
    let keys = cell.json(&["ticket", "keys"]).await?;
    let counts: Vec<&Value> =
        keys["keys"].as_array().context("keys")?.iter().map(|key| &key["counts"]).collect();
    assert_eq!(counts, [&json!(false), &json!(false), &json!(true)], "{keys}");
    cell.recorded(SOON).await?;
    let acts = cell.json(&["audit", "query", "--kind", "control"]).await?.to_string();
    assert_eq!(acts.matches("ticket_key_rotate").count(), 2, "{acts}");

    let mut tickets = std::collections::BTreeSet::new();
    for task in [&before, &after, &last] {
        let lines = ledger(&cell, task).await?;
        let [line] = lines.as_slice() else { anyhow::bail!("one request: {lines:?}") };
        assert_eq!((&line["provider"], &line["end"]["how"]), (&json!("standin"), &json!("completed")));
        assert_eq!((&line["task"], &line["attempt"]), (&json!(task), &json!(1)));
        assert!(line["host"].as_str().is_some_and(|host| host.contains("127.0.0.1")), "{line}");
        assert!(line["bytes"].as_u64().is_some_and(|bytes| bytes > 50), "{line}");
        assert!(line["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{line}");
        assert!(line["began"].as_str() < line["end"]["at"].as_str(), "{line}");
        tickets.insert(line["ticket"].as_str().context("a ticket")?.to_owned());
        let leaf = line["leaf"].as_str().context("a leaf")?;
        assert!(verified(&cell, line, leaf).await?, "{line}");
        // Negative control: the same line with another host is not what was signed.
        let other = leaf.replace("127.0.0.1", "127.0.0.2");
        assert!(other != leaf && !verified(&cell, line, &other).await?, "{line}");
    }
    assert_eq!(tickets.len(), 3, "each request has a ticket of its own");
    let shown = cell.tidegate(&["audit", "egress", "--tenant", "acme"]).await?;
    assert!(shown.lines().count() >= 3 && shown.contains("proven"), "{shown}");
    assert_eq!(cell.json(&["audit", "verify"]).await?["verdict"], json!("whole"));
    Ok(())
}

/// An authority, and a certificate of it for the server on this host.
fn certify(dir: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let names = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
    std::fs::write(dir.join("server.pem"), CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem())?;
    std::fs::write(dir.join("server.key"), key.serialize_pem())?;
    Ok(())
}

/// What the server answers to a client that goes on in plain text.
async fn in_plain_text(url: &str) -> Result<String> {
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("nats://")).await?;
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await?;
    let mut answer = Vec::new();
    // It may also cut the connection.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.context("still open")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn story_tls_between_all_parts_and_nothing_in_plain_text() -> Result<()> {
    let (certificates, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    certify(certificates.path())?;
    certify(other.path())?;
    let directory = certificates.path().display().to_string();
    let cell = TestCell::start(&["--tls", &directory]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    asked_outside(&agent).await?;
    cell.recorded(SOON).await?;
    assert_eq!(cell.json(&["audit", "verify"]).await?["verdict"], json!("whole"), "commands speak it too");

    let url = cell.url()?;
    let told = in_plain_text(&url).await?;
    assert!(told.contains("\"tls_required\":true") && !told.contains("PONG"), "{told}");
    let identity = Identity::Role(Role::Router);
    let seed = cell.path().join("identities").join(identity.seed_file_name());
    let with = |ca: Option<&Path>| {
        let mut config = BusConfig::new(url.clone(), identity.clone(), Some(seed.clone()));
        config.ca_file = ca.map(Path::to_owned);
        Bus::connect(config)
    };
    let refused = with(Some(&other.path().join("ca.pem"))).await;
    assert!(
        matches!(refused, Err(ConnectError::Tls { .. } | ConnectError::Unreachable { .. })),
        "another authority"
    );
    assert!(with(None).await.is_err(), "no authority");
    assert!(with(Some(&certificates.path().join("ca.pem"))).await.is_ok(), "negative control");
    Ok(())
}
