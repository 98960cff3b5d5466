//! Canaries: values of ten types in nine forms each go through what can happen to a task. Afterwards no byte of them stands where
//! it may not: not at a provider, in a log, a metric, a file of the record, of the vault or of the broker, nor with another agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_bus::{Outbound, Role};
use tidegate_schemas::header::Headers;
use tidegate_schemas::result::{Output, State, TaskResult};
use tidegate_schemas::subject::Lane;
use tidegate_tests::capture::Capture;
use tidegate_tests::client::connect;
use tidegate_tests::secret::{Hunt, Secret};
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use uuid::Uuid;

use crate::redact;
use crate::secrets::places;

const SOON: Duration = Duration::from_secs(60);
const ROLES: [&str; 7] = ["router", "local", "vault", "cloud", "recorder", "model", "nats"];
/// A name, the value that nobody may see, and a sentence that says it. None is anybody's: reserved names, test numbers.
const TYPES: [(&str, &str, &str); 10] = [
    ("email", "quoll.zephyr@heron.example", "Write to {} today."),
    ("phone", "+41 44 668 18 00", "Call {} tomorrow."),
    ("card", "4539 1488 0343 6467", "Charge the card {} once."),
    ("iban", "DE89 3704 0044 0532 0130 00", "The account is {} at our bank."),
    ("us_ssn", "536-22-8467", "His social security number is {} he says."),
    ("api_key", "sk-proj-quollzephyrheronabcdefghij", "The key is {} for now."),
    ("aws_key", "AKIAQUOLLZEPHYRHERON", "The access key is {} for now."),
    ("password", "Quoll7zephyr!heron", "password: {}"),
    ("date_of_birth", "1987-03-14", "Date of birth: {} in Bern."),
    (
        "private_key",
        "MC4CAQAwBQYDK2VwBCIEIQuollZephyrHeronQuollZephyrHeron",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    ),
];

struct Canary {
    name: String,
    text: String,
}

/// Each value in each form.
fn canaries() -> Vec<Canary> {
    let mut all = Vec::new();
    for (kind, value, sentence) in TYPES {
        let said = sentence.replace("{}", value);
        let each =
            |dress: fn(char) -> String| sentence.replace("{}", &value.chars().map(dress).collect::<String>());
        let forms = [
            ("plain", said.clone()),
            ("full_width", each(full_width)),
            ("zero_width", each(|character| format!("{character}\u{200b}"))),
            ("confusable", each(confusable)),
            ("percent", said.bytes().map(|byte| format!("%{byte:02X}")).collect()),
            ("escapes", said.chars().map(|character| format!("\\u{:04x}", u32::from(character))).collect()),
            ("hex", hex::encode(&said)),
            ("base64", STANDARD.encode(&said)),
            ("base64_twice", STANDARD.encode(STANDARD.encode(&said))),
        ];
        all.extend(forms.map(|(form, text)| Canary { name: format!("{kind} as {form}"), text }));
    }
    all
}

fn full_width(character: char) -> String {
    let wide = u32::from(character).checked_add(0xfee0).filter(|_| character.is_ascii_graphic());
    wide.and_then(char::from_u32).unwrap_or(character).to_string()
}

/// What looks the same: Cyrillic letters, mathematical digits.
fn confusable(character: char) -> String {
    let other = match character {
        'a' => 'а',
        'c' => 'с',
        'e' => 'е',
        'o' => 'о',
        'p' => 'р',
        'x' => 'х',
        'A' => 'А',
        'E' => 'Е',
        'K' => 'К',
        'O' => 'О',
        digit => digit.to_digit(10).and_then(|digit| char::from_u32(0x1d7ce + digit)).unwrap_or(character),
    };
    other.to_string()
}

/// What to look for: every value in every form that bytes have, and every text as it was sent.
fn planted() -> Vec<Secret> {
    let values = TYPES.iter().map(|(kind, value, _)| Secret::new(kind, value));
    let texts = canaries().into_iter().map(|canary| Secret { forms: vec![canary.text], name: canary.name });
    values.chain(texts).collect()
}

fn chat(text: &str) -> Value {
    let messages = json!([{ "role": "user", "content": text }]);
    json!({ "labels": { "sensitivity": "public", "purpose": "support" },
            "input": { "messages": messages, "sampling": { "max_tokens": 4 } } })
}

fn lane(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|destination| destination.lane)
}

/// Every text alone, with no place but the cloud open: none goes.
async fn alone(cell: &TestCell, agent: &Agent, capture: &Capture) -> Result<()> {
    cell.tidegate(&["lane", "off", "local", "--reason", "only the cloud is open"]).await?;
    let plain = agent.ask("chat", chat("Where do birds sleep?")).await?;
    assert_eq!((lane(&plain), capture.bodies().len()), (Some(Lane::Cloud), 1), "negative control: {plain:?}");
    let asked = canaries();
    let asks =
        asked.iter().map(|canary| async move { (canary, agent.ask("chat", chat(&canary.text)).await) });
    let results: Vec<_> = futures::stream::iter(asks).buffer_unordered(16).collect().await;
    for (canary, result) in results {
        let result = result.with_context(|| canary.name.clone())?;
        assert_eq!(result.state, State::Rejected, "{}: {:?}", canary.name, result.error);
    }
    assert_eq!(capture.bodies().len(), 1, "none of them left");
    cell.tidegate(&["lane", "on", "local", "--reason", "as before"]).await?;
    Ok(())
}

/// All texts, as tasks that run, fail, are refused, come too late, and that no role can read.
async fn ends(cell: &TestCell, agent: &Agent) -> Result<String> {
    let texts: Vec<String> = canaries().into_iter().map(|canary| canary.text).collect();
    let all = texts.join("\n");
    // What the embedding model reads at once.
    let short: Vec<&String> = texts.iter().filter(|text| text.len() < 200).collect();
    let embed = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": short } }).to_string();
    let mut odd = serde_json::from_str::<Value>(&embed)?;
    odd["class"] = json!(all);
    let late = Headers::new().with("ce-expirytime", "2020-01-01T00:00:00Z");
    let extract = json!({ "labels": { "sensitivity": "confidential" },
        "input": { "text": all, "max_tokens": 4, "schema": { "type": TYPES[0].1, "title": TYPES[1].1 } } });
    let rows = [
        ("embed", Headers::new(), embed.clone(), State::Completed),
        ("embed", Headers::new(), format!("not json: {all}"), State::Rejected),
        ("embed", Headers::new(), odd.to_string(), State::Rejected),
        ("embed", late, embed, State::Failed),
        ("extract", Headers::new(), extract.to_string(), State::Failed),
    ];
    for (kind, headers, body, state) in rows {
        let result = agent.ask_raw(kind, headers, body.into_bytes()).await?;
        assert_eq!(result.state, state, "{kind}: {:?}", result.error);
    }
    let mut long = chat(&texts[..9].join("\n"));
    long["input"]["sampling"]["max_tokens"] = json!(2_000);
    long["id"] = json!(Uuid::now_v7());
    assert_eq!(agent.ask_and_withdraw(cell, "chat", long).await?.state, State::Canceled);

    let worker = connect(cell, Role::Local.into()).await?;
    worker.publish(Outbound::new("step.local.acme", all)).await?;
    let letter = until("the dead letter", SOON, || async {
        let letters = cell.json(&["dead", "list"]).await?;
        Ok(letters.pointer("/0/sequence").and_then(Value::as_u64))
    });
    Ok(letter.await?.to_string())
}

/// A task that a person looks at and turns down; what they saw.
async fn held(cell: &TestCell, agent: &Agent) -> Result<String> {
    let mut body = chat(&canaries().into_iter().map(|canary| canary.text).collect::<Vec<_>>().join("\n"));
    body["labels"]["stakes"] = json!("high");
    let decide = async {
        let review = until("a review", SOON, || async {
            let reviews = cell.json(&["review", "list"]).await?;
            Ok(reviews.pointer("/0/review").and_then(Value::as_u64))
        })
        .await?
        .to_string();
        let shown = cell.tidegate(&["review", "show", &review]).await?;
        let reason = format!("not with {}", TYPES[0].1);
        cell.tidegate(&["review", "reject", &review, "--reason", &reason]).await?;
        anyhow::Ok(shown)
    };
    let (result, shown) = tokio::join!(agent.ask("chat", body), decide);
    assert_eq!(result?.state, State::Rejected);
    shown
}

/// An address leaves as a token: at once, after an error of the provider's, and not at all where the provider stays away.
async fn replaced(clerk: &Agent, capture: &Capture) -> Result<()> {
    let address = TYPES[0].1;
    let asked = format!("Write to {address}.");
    for refusals in [0, 1] {
        let before = capture.bodies().len();
        capture.refuse(refusals);
        let result = clerk.ask("chat", chat(&asked)).await?;
        assert_eq!(
            (result.state, lane(&result)),
            (State::Completed, Some(Lane::Cloud)),
            "{:?}",
            result.error
        );
        let Some(Output::Text { text, .. }) = &result.output else { anyhow::bail!("no text") };
        assert_eq!(text.expose(), asked.as_str(), "who asked has it back");
        assert_eq!(capture.bodies().len() - before, refusals + 1, "each request was seen");
    }
    Ok(())
}

/// What the past shows when it is published again, to another subject.
async fn replayed(cell: &TestCell) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let plan = dir.path().join("plan.json").display().to_string();
    cell.tidegate(&["replay", "plan", "--kind", "result", "--tenant", "acme", "--out", &plan]).await?;
    let plan_text = fs::read_to_string(&plan)?;
    cell.tidegate(&["replay", "run", "--plan", &plan, "--tool", "acme/desk", "--reason", "late"]).await?;
    cell.tidegate(&["results", "--tool", "desk", "--replayed", "--limit", "1000", "--json"])
        .await
        .map(|read| format!("{plan_text}{read}"))
}

/// No process may leave a core file; one that dies by a signal that makes them leaves none, and is there again.
async fn no_cores(cell: &TestCell) -> Result<()> {
    for role in ROLES {
        let limits = fs::read_to_string(format!("/proc/{}/limits", cell.pid(role)?))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a limit")?;
        let words: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(words, ["0", "0"], "{role}: soft and hard");
    }
    // What is not dumpable belongs to root, whoever started it.
    for role in ["router", "local", "vault", "cloud", "recorder", "model"] {
        let owner = fs::metadata(format!("/proc/{}/environ", cell.pid(role)?))?.uid();
        assert_eq!(owner, 0, "{role}");
    }
    let before = cell.pid("router")?;
    cell.signal("router", Signal::SIGABRT)?;
    until("another router", SOON, || async { Ok(cell.pid("router").ok().filter(|now| *now != before)) })
        .await?;
    until("it to be ready", SOON, || async {
        Ok(cell.door("router", "/readyz").await.ok().filter(|(status, _)| *status == 200))
    })
    .await?;
    Ok(())
}

/// What the operators' and auditors' commands print.
async fn told(cell: &TestCell, task: &str, dir: &str) -> Result<Vec<(String, String)>> {
    let commands: [&[&str]; 8] = [
        &["audit", "query", "--limit", "1000", "--json"],
        &["audit", "query", "--limit", "1000"],
        &["audit", "task", task],
        &["audit", "egress", "--json"],
        &["audit", "verify"],
        &["audit", "export", dir],
        &["results", "--tenant", "acme", "--limit", "1"],
        &["review", "list", "--json"],
    ];
    let mut said = Vec::new();
    for command in commands {
        let output = cell.output(command).await?;
        let text = [output.stdout, output.stderr].concat();
        said.push((format!("{command:?}"), String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(said)
}

#[tokio::test]
async fn canary_story_no_value_stands_where_it_may_not() -> Result<()> {
    let (cell, capture, clerk) = redact::cell_with(&[("TIDEGATE_LOG", "debug")]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    // Somebody else, who listens to all that they may.
    cell.tidegate(&["tenant", "add", "globex", "--owner", "globex@example.com"]).await?;
    cell.tidegate(&["agent", "add", "globex", "other"]).await?;
    let other = Agent::connect(&cell, "globex", "other").await?;
    let mut heard = Vec::new();
    for subject in ["reply.other.>", "delta.other.>", "_INBOX.agent.other.>"] {
        heard.push(other.bus().subscribe_core(subject).await?);
    }
    other.bus().flush().await?;

    alone(&cell, &agent, &capture).await?;
    let letter = ends(&cell, &agent).await?;
    let shown = held(&cell, &agent).await?;
    replaced(&clerk, &capture).await?;
    cell.recorded(SOON).await?;
    let again = replayed(&cell).await?;
    no_cores(&cell).await?;
    cell.recorded(SOON).await?;

    let planted = planted();
    let hunt = Hunt::new(&planted)?;
    assert!(hunt.shown(shown.as_bytes()).is_some(), "negative control: who decides does read it");
    assert_eq!(
        hunt.shown(again.as_bytes()),
        Some("email"),
        "negative control: a tool of the tenant's reads its results"
    );
    for request in [capture.heads(), capture.bodies()].concat() {
        assert_eq!(hunt.shown(request.as_bytes()), None, "a provider was sent it");
    }
    let task = cell.json(&["audit", "query", "--kind", "task", "--limit", "1"]).await?;
    let task = task.pointer("/records/0/task").and_then(Value::as_str).context("a task")?.to_owned();
    let dir = tempfile::tempdir()?;
    let export = dir.path().join("export");
    let said = told(&cell, &task, &export.display().to_string()).await?;
    for (place, text) in places(&cell, &letter).await?.into_iter().chain(said) {
        assert_eq!(hunt.shown(text.as_bytes()), None, "{place}");
    }
    for (exported, least) in [(cell.path(), 1 << 20), (export, 1 << 10)] {
        let (shown, bytes) = hunt.files(&exported)?;
        assert!(bytes > least, "{} was read: {bytes} bytes", exported.display());
        assert_eq!(shown, Vec::<String>::new());
    }
    for mut messages in heard {
        use futures::FutureExt as _;
        while let Some(Some(message)) = messages.next().now_or_never() {
            assert_eq!(hunt.shown(&message.payload), None, "another tenant hears it");
        }
    }
    assert!(
        !fs::read_dir(tidegate_tests::cell::root())?.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("core"))
        })
    );

    // Negative control: a file that shows one, in whatever form, is found.
    let loose = dir.path().join("loose");
    fs::create_dir(&loose)?;
    for secret in &planted {
        for form in &secret.forms {
            fs::write(loose.join("file"), format!("before {form} after"))?;
            assert_eq!(hunt.files(&loose)?.0.len(), 1, "{}", secret.name);
        }
    }
    Ok(())
}
