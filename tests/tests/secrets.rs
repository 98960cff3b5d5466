//! What nobody may read where anybody may look: content, and the cell's own keys, are in no log, metric or status.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidegate_bus::{Outbound, Role};
use tidegate_schemas::header::Headers;
use tidegate_schemas::json;
use tidegate_schemas::result::State;
use tidegate_schemas::subject::Lane;
use tidegate_tests::client::connect;
use tidegate_tests::secret::{Secret, encoded, found};
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use uuid::Uuid;

/// Longest line of a log, bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
const SOON: Duration = Duration::from_secs(30);
/// Words that stand nowhere else, and that no recogniser finds anything in: they may go to the cloud.
const CANARY: &str = "quollzephyr heron";
/// What a recogniser knows as a key; nobody's.
const KEY: &str = "sk-proj-quollzephyrheronabcdefghij";
/// Roles with a door of their own.
const ROLES: [&str; 5] = ["router", "local", "vault", "cloud", "recorder"];

/// Seeds and keys of the cell: as they stand in their files, and what they say.
fn keys(cell: &TestCell) -> Result<Vec<Secret>> {
    let mut keys = Vec::new();
    for folder in ["identities", "keys", "nats"] {
        for entry in std::fs::read_dir(cell.path().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "nk" || extension == "key") {
                let text = std::fs::read_to_string(&path).context("reading a key")?;
                // A ticket key stands behind its id.
                let text = text.split_whitespace().last().context("an empty key")?;
                let mut secret = Secret::new(&path.display().to_string(), text);
                secret.forms.extend(hex::decode(text).iter().flat_map(|bytes| encoded(bytes)));
                keys.push(secret);
            }
        }
    }
    Ok(keys)
}

fn secret() -> String {
    format!("The key of the {CANARY} is {KEY}.")
}

fn task(sensitivity: &str, input: Value) -> Value {
    json!({ "labels": { "sensitivity": sensitivity }, "input": input })
}

fn chat(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 8 } })
}

/// Tasks that run here and in the cloud.
async fn completed(agent: &Agent) -> Result<()> {
    let rows = [
        ("embed", task("internal", json!({ "texts": [secret()] })), Lane::Local),
        ("chat", task("public", chat(&secret())), Lane::Local),
        ("chat", task("public", chat(&format!("Where does the {CANARY} sleep?"))), Lane::Cloud),
    ];
    for (kind, body, lane) in rows {
        let result = agent.ask(kind, body).await?;
        let ran = result.destination.as_ref().map(|destination| destination.lane);
        assert_eq!((result.state, ran), (State::Completed, Some(lane)), "{:?}", result.error);
    }
    Ok(())
}

/// Tasks that are refused or fail, for each reason that has something to quote.
async fn refused(agent: &Agent) -> Result<()> {
    let embed = || task("internal", json!({ "texts": [secret()] }));
    let with = |field: &str, value: Value| {
        let mut body = embed();
        body[field] = value;
        body.to_string()
    };
    let header = |value: &str| Headers::new().with("ce-expirytime", value);
    let strange = json!({ "text": secret(), "max_tokens": 16, "schema": { "type": CANARY, "title": KEY } });
    let ends = [
        ("embed", Headers::new(), format!("not json: {}", secret()), State::Rejected),
        ("embed", Headers::new(), with(CANARY, json!(KEY)), State::Rejected),
        (
            "embed",
            Headers::new(),
            with("input", json!({ "texts": [secret()], CANARY: KEY })),
            State::Rejected,
        ),
        // A word that is not known is the strictest one.
        ("embed", Headers::new(), with("labels", json!({ "sensitivity": CANARY })), State::Completed),
        ("embed", Headers::new(), with("class", json!(KEY)), State::Rejected),
        ("embed", Headers::new(), with("id", json!(CANARY)), State::Rejected),
        ("embed", Headers::new(), with("tenant", json!(CANARY)), State::Rejected),
        ("embed", header(CANARY), embed().to_string(), State::Rejected),
        (
            "embed",
            Headers::new(),
            with("labels", json!({ "sensitivity": "internal", "residency": ["ch"] })),
            State::Rejected,
        ),
        ("embed", header("2020-01-01T00:00:00Z"), embed().to_string(), State::Failed),
        ("extract", Headers::new(), task("confidential", strange).to_string(), State::Failed),
    ];
    for (kind, headers, body, state) in ends {
        let result = agent.ask_raw(kind, headers, body.clone().into_bytes()).await?;
        assert_eq!(result.state, state, "{body}: {:?}", result.error);
    }
    Ok(())
}

/// A task that is withdrawn while it runs.
async fn withdrawn(cell: &TestCell, agent: &Agent) -> Result<()> {
    // Where the answer would stop: it does not come so far.
    let sampling = json!({ "max_tokens": 2000, "stop": [secret()] });
    let messages = json!([{ "role": "user", "content": "Count as far as you can." }]);
    let mut long = task("confidential", json!({ "messages": messages, "sampling": sampling }));
    long["id"] = json!(Uuid::now_v7());
    assert_eq!(agent.ask_and_withdraw(cell, "chat", long).await?.state, State::Canceled);
    Ok(())
}

/// A task that is held, and that a person turns down; what that person was shown.
async fn held(cell: &TestCell, agent: &Agent) -> Result<String> {
    let mut body = task("public", chat(&secret()));
    body["labels"]["stakes"] = json!("high");
    let decide = async {
        let review = until("a review", SOON, || async {
            let reviews = cell.json(&["review", "list"]).await?;
            Ok(reviews.pointer("/0/review").and_then(Value::as_u64))
        })
        .await?
        .to_string();
        let shown = cell.tidegate(&["review", "show", &review]).await?;
        cell.tidegate(&["review", "reject", &review, "--reason", &secret()]).await?;
        anyhow::Ok(shown)
    };
    let (result, shown) = tokio::join!(agent.ask("chat", body), decide);
    assert_eq!(result?.state, State::Rejected);
    shown
}

/// A message that no role can read; the number of its dead letter.
async fn dead(cell: &TestCell) -> Result<String> {
    let worker = connect(cell, Role::Local.into()).await?;
    worker.publish(Outbound::new("step.local.acme", secret())).await?;
    let letter = until("the dead letter", SOON, || async {
        let letters = cell.json(&["dead", "list"]).await?;
        Ok(letters.pointer("/0/sequence").and_then(Value::as_u64))
    });
    Ok(letter.await?.to_string())
}

/// Where whoever runs the cell looks: a name, and what stands there.
pub(crate) async fn places(cell: &TestCell, letter: &str) -> Result<Vec<(String, String)>> {
    let mut files = vec![cell.said(), cell.path().join("nats/nats-server.log")];
    for entry in std::fs::read_dir(cell.path().join("logs"))? {
        files.push(entry?.path());
    }
    let mut places = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).with_context(|| format!("reading `{}`", file.display()))?;
        places.push((file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    for role in ROLES {
        for path in ["/metrics", "/readyz"] {
            places.push((format!("{role}{path}"), cell.door(role, path).await?.1));
        }
    }
    let commands: [&[&str]; 6] = [
        &["status"],
        &["status", "--json"],
        &["dead", "list", "--json"],
        &["dead", "show", letter],
        &["lane", "status", "--json"],
        &["doctor", "--json"],
    ];
    for command in commands {
        let output = cell.output(command).await?;
        let said = [output.stdout, output.stderr].concat();
        places.push((format!("{command:?}"), String::from_utf8_lossy(&said).into_owned()));
    }
    Ok(places)
}

#[tokio::test]
async fn story_nothing_secret_shows_in_logs_metrics_or_status() -> Result<()> {
    let cell = TestCell::start_with(&[("TIDEGATE_LOG", "debug")], &[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let planted = [Secret::new("canary", CANARY), Secret::new("key", KEY)];
    completed(&agent).await?;
    refused(&agent).await?;
    withdrawn(&cell, &agent).await?;
    let shown = held(&cell, &agent).await?;
    let letter = dead(&cell).await?;
    until("all of it on record", SOON, || async {
        let status = cell.json(&["status"]).await.ok();
        let lag = status.as_ref().and_then(|status| status.pointer("/record/lag")).and_then(Value::as_u64);
        Ok((lag == Some(0)).then_some(()))
    })
    .await?;
    assert_eq!(found(&planted, &shown), ["canary", "key"], "negative control: who decides does read it");

    let keys = keys(&cell)?;
    assert!(keys.len() > ROLES.len(), "seeds of every role, and keys");
    let places = places(&cell, &letter).await?;
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty");
        assert_eq!(found(&planted, text), Vec::<&str>::new(), "{place}");
        assert_eq!(found(&keys, text), Vec::<&str>::new(), "{place}");
    }
    for role in ROLES {
        let log = cell.path().join("logs").join(format!("{role}.log"));
        let log = std::fs::read_to_string(log)?;
        assert!(log.contains("Logging started."), "negative control: {role} tells what only debugging tells");
        // A reader keeps one of two values under the same key.
        for line in log.lines().filter(|line| line.starts_with('{')) {
            assert_eq!(json::check(line.as_bytes(), LINE_BYTES_MAX), Ok(()), "{role}: {line}");
        }
    }
    assert!(json::check(br#"{"message":"a","message":"b"}"#, LINE_BYTES_MAX).is_err(), "negative control");

    assert_eq!(place_of_the_public(&cell).await?, json!("standin"), "without a provider's key");

    // Negative control: a line that was planted in a copy of a log is seen, in whatever form.
    let log = std::fs::read_to_string(cell.path().join("logs/router.log"))?;
    assert_eq!(found(&planted, &format!("{log}{}\n", secret())), ["canary", "key"]);
    let line = log.lines().last().context("a line")?;
    for secret in planted.iter().chain(&keys) {
        for form in &secret.forms {
            let only = std::slice::from_ref(secret);
            assert_eq!(found(only, &format!("{line}\n{form}\n")), [secret.name.as_str()]);
        }
    }
    for before in ["", "a", "ab"] {
        let text = format!("{before}{} And on.", secret());
        for text in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text), hex::encode(&text)] {
            assert_eq!(found(&planted, &text), ["canary", "key"], "{text}");
        }
    }
    Ok(())
}

/// Whether a process was started with a text in its environment.
fn environment_has(pid: u64, text: &str) -> Result<bool> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).context("reading an environment")?;
    Ok(String::from_utf8_lossy(&environ).contains(text))
}

#[tokio::test]
async fn story_a_provider_s_key_is_in_its_file_and_in_no_role_s_environment() -> Result<()> {
    let cell = TestCell::start_with(&[("OPENAI_API_KEY", KEY)], &[]).await?;
    let file = cell.path().join("keys/openai.key");
    assert_eq!(std::fs::read_to_string(&file)?.trim(), KEY);
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let running = cell.running()?;
    let roles = running["roles"].as_object().context("roles")?;
    assert!(!roles.contains_key("model"), "no stand-in beside a real provider: {running}");
    for (role, process) in roles.iter().chain([(&"nats".to_owned(), &json!({ "pid": running["nats"] }))]) {
        let pid = process["pid"].as_u64().context("a process")?;
        assert!(!environment_has(pid, KEY)?, "{role} has the key in its environment");
        if role != "nats" {
            let log = std::fs::read_to_string(cell.path().join("logs").join(format!("{role}.log")))?;
            assert!(!log.contains(KEY), "{role} logs the key");
        }
    }
    let supervisor = running["supervisor"].as_u64().context("a supervisor")?;
    assert!(environment_has(supervisor, KEY)?, "negative control: who started the cell gave it");

    // The real provider is where public work would go; those without a key are off. Nothing is submitted.
    let off = cell.screen().await?["off"].to_string();
    assert!(off.contains("anthropic") && !off.contains("\"openai\""), "{off}");
    let told = place_of_the_public(&cell).await?;
    assert_eq!(told, json!("openai"));
    Ok(())
}

/// What anybody on the host may read of a process: its arguments; and what its owner may: its environment.
fn told_of(pid: u64) -> Result<String> {
    let [arguments, environment] =
        ["cmdline", "environ"].map(|file| std::fs::read(format!("/proc/{pid}/{file}")));
    let bytes =
        [arguments.context("reading arguments")?, environment.context("reading an environment")?].concat();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn story_no_process_of_a_cell_has_a_secret_in_its_arguments_or_environment() -> Result<()> {
    let cell = TestCell::start(&["--routers", "2"]).await?;
    let (keys, running) = (keys(&cell)?, cell.running()?);
    assert!(keys.iter().any(|key| key.name.ends_with("jetstream.key")), "the streams' own key is one");
    let roles = running["roles"].as_object().context("roles")?;
    let roles = roles.iter().map(|(role, process)| (role.as_str(), process["pid"].as_u64()));
    let others = ["supervisor", "nats"].map(|name| (name, running[name].as_u64()));
    let mut seen = 0;
    for (name, pid) in roles.chain(others) {
        let told = told_of(pid.context("a process")?)?;
        assert!(told.contains("PATH=") || name == "nats", "{name}: its environment was read");
        assert_eq!(found(&keys, &told), Vec::<&str>::new(), "{name}");
        seen += 1;
    }
    assert!(seen >= 7, "two routers, recorder, both workers, server, supervisor: {seen}");
    // Negative control: a process that is given a seed, one way or the other, is found.
    let seed = std::fs::read_to_string(cell.path().join("identities/role.router.nk"))?;
    for given in [vec!["60".to_owned(), seed.trim().to_owned()], vec!["60".to_owned()]] {
        let mut child = std::process::Command::new("sleep").args(&given).env("SEED", seed.trim()).spawn()?;
        // A process that has just begun shows nothing for a moment: the kernel names its arguments last.
        let pid = u64::from(child.id());
        let told = until("the child to show its environment", Duration::from_secs(10), || async {
            Ok(Some(told_of(pid)?).filter(|told| told.contains("SEED=")))
        })
        .await;
        child.kill()?;
        child.wait()?;
        assert_eq!(found(&keys, &told?).len(), 1);
    }
    Ok(())
}

/// Where public work would go.
async fn place_of_the_public(cell: &TestCell) -> Result<Value> {
    let file = cell.path().join("task.json");
    std::fs::write(&file, task("public", chat("Where do birds sleep?")).to_string())?;
    let file = file.display().to_string();
    let told = cell.json(&["policy", "explain", &file, "--tenant", "acme", "--agent", "helpdesk"]).await?;
    told.pointer("/destination/target").cloned().with_context(|| told.to_string())
}
