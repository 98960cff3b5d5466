//! End-to-end stories on a real server, real models and real processes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound};
use tidegate_schemas::code::Code;
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::result::{Output, State, TaskResult};
use tidegate_schemas::subject::{EVENTS, Lane, RESULTS, WORK_CLOUD, WORK_LOCAL};
use tidegate_tests::cell::root;
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
/// What a switch may take, from the operator's act to its effect.
const SWITCHED_MS: i128 = 1_000;

fn chat(sensitivity: &str, text: &str) -> Value {
    json!({ "labels": { "sensitivity": sensitivity },
            "input": { "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 8 } } })
}

fn code(result: &TaskResult) -> Option<Code> {
    result.error.as_ref().map(|error| error.code)
}

fn lane(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|destination| destination.lane)
}

#[tokio::test]
async fn story_data_decides_where_a_task_runs() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;

    let public = agent.ask("chat", chat("public", "What is a tide?")).await?;
    assert_eq!((public.state, lane(&public)), (State::Completed, Some(Lane::Cloud)), "{public:?}");
    let card = agent.ask("chat", chat("public", "My card is 4111 1111 1111 1111, is it valid?")).await?;
    assert_eq!((card.state, lane(&card)), (State::Completed, Some(Lane::Local)), "{card:?}");
    let confidential = agent.ask("chat", chat("confidential", "Summarise our plan")).await?;
    assert_eq!(lane(&confidential), Some(Lane::Local), "{confidential:?}");
    assert!(
        confidential.model.is_some_and(|model| model.sha256.is_some()),
        "local results name the model's hash"
    );

    // A task that goes on from a result is as restricted as that is, whatever it says of itself.
    for (parent, expected) in [(public.task, Lane::Cloud), (confidential.task, Lane::Local)] {
        let mut child = chat("public", "What is a tide?");
        child["parent_task"] = json!(parent);
        let child = agent.ask("chat", child).await?;
        assert_eq!((child.state, lane(&child)), (State::Completed, Some(expected)), "{child:?}");
    }

    let texts = json!({ "labels": { "sensitivity": "restricted" }, "input": { "texts": ["one", "two"] } });
    let embedded = agent.ask("embed", texts).await?;
    let Some(Output::Embeddings { vectors }) = embedded.output else {
        panic!("no vectors: {:?}", embedded.error)
    };
    assert_eq!((vectors.len(), vectors[0].len()), (2, 384));

    let extract = json!({ "labels": { "sensitivity": "confidential" }, "input": {
        "text": "Ada is 36 years old.", "max_tokens": 64,
        "schema": { "type": "object", "properties": { "age": { "type": "integer" } }, "required": ["age"],
                    "additionalProperties": false } } });
    let extracted = agent.ask("extract", extract).await?;
    let Some(Output::Json { value }) = extracted.output else { panic!("no JSON: {:?}", extracted.error) };
    assert!(value.expose()["age"].is_i64());

    let mut nowhere = chat("public", "What is a tide?");
    nowhere["labels"]["residency"] = json!(["ch"]);
    let rejected = agent.ask("chat", nowhere).await?;
    assert_eq!(rejected.state, State::Rejected);
    assert!(rejected.error.unwrap().message.contains("residency"), "the policy is named");

    for role in ["router", "local", "cloud", "recorder"] {
        assert_eq!(cell.door(role, "/livez").await?.0, 200, "{role}");
        assert_eq!(cell.door(role, "/readyz").await?.0, 200, "{role}");
        let (status, metrics) = cell.door(role, "/metrics").await?;
        assert!(status == 200 && metrics.contains("# TYPE tidegate_"), "{role}: {metrics}");
        assert_eq!(cell.door(role, "/nothing").await?.0, 404, "negative control");
    }
    Ok(())
}

#[tokio::test]
async fn story_bad_input_gets_a_clear_error_and_the_next_task_runs() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let embed = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    let mut other_tenant = embed.clone();
    other_tenant["tenant"] = json!("globex");
    let mut labelless = embed.clone();
    labelless.as_object_mut().unwrap().remove("labels");
    let deep = format!("{{\"input\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let table: Vec<(&str, Vec<u8>, Code)> = vec![
        ("embed", b"not json".to_vec(), Code::InvalidJson),
        ("embed", vec![b'"', 0xff, b'"'], Code::InvalidUtf8),
        ("embed", vec![b' '; 600 * 1024], Code::TooLarge),
        ("embed", deep.into_bytes(), Code::TooDeep),
        ("embed", br#"{"id":"a","id":"b"}"#.to_vec(), Code::InvalidJson),
        ("embed", other_tenant.to_string().into_bytes(), Code::IdentityMismatch),
        ("embed", labelless.to_string().into_bytes(), Code::LabelsMissing),
        ("paint", embed.to_string().into_bytes(), Code::UnknownKind),
        ("Embed", embed.to_string().into_bytes(), Code::UnknownKind),
    ];
    for (kind, payload, expected) in table {
        let result =
            agent.ask_raw(kind, Headers::new(), payload).await.with_context(|| format!("{expected}"))?;
        assert_eq!((result.state, code(&result)), (State::Rejected, Some(expected)));
    }
    let once = Headers::trusted([("ce-type".to_owned(), "x".to_owned())]);
    let fine = agent.ask_raw("embed", once, embed.to_string().into_bytes()).await?;
    assert_eq!(fine.state, State::Completed, "{fine:?}");

    let mut named = embed.clone();
    named["id"] = json!(Uuid::now_v7().to_string());
    let first = agent.ask("embed", named.clone()).await?;
    // The first body named a reply token of its own; where it is answered is no part of the task.
    let again = agent.ask_raw("embed", Headers::new(), named.to_string().into_bytes()).await?;
    assert_eq!((again.state, &again), (State::Completed, &first), "the first result again");
    named["input"]["texts"] = json!(["y"]);
    let other = agent.ask_raw("embed", Headers::new(), named.to_string().into_bytes()).await?;
    assert_eq!(code(&other), Some(Code::IdConflict), "another body, the same id");
    no_alarm(&cell, other.task).await?;
    a_traceparent_goes_through_every_hop(&cell, &agent, &embed).await
}

/// What a producer does wrong is its own affair: nobody is called for it.
async fn no_alarm(cell: &TestCell, last: TaskId) -> Result<()> {
    let id = last.to_string();
    until("the last on record", SOON, || async {
        let known = cell.output(&["audit", "task", &id, "--json"]).await?;
        Ok(known.status.success().then_some(()))
    })
    .await?;
    let screen = cell.screen().await?;
    assert_eq!(screen.pointer("/record/alarms"), Some(&json!(0)), "{screen}");
    Ok(())
}

async fn a_traceparent_goes_through_every_hop(cell: &TestCell, agent: &Agent, task: &Value) -> Result<()> {
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = Headers::new().with("traceparent", theirs);
    let result = agent.ask_raw("embed", traced, task.to_string().into_bytes()).await?;
    let (operator, task_id) = (Operator::connect(cell).await?, result.task.to_string());
    let mut hops = Vec::new();
    for stream in [WORK_LOCAL, EVENTS, RESULTS] {
        let messages = operator.messages(stream).await?;
        let of = |m: &&tidegate_bus::Stored| m.header("tidegate-task-id") == Some(task_id.as_str());
        let message = messages.values().find(of).with_context(|| format!("the task in {stream}"))?;
        hops.push(message.header("traceparent").context("a traceparent")?.to_owned());
    }
    let trace = |hop: &str| hop.get(..36).map(str::to_owned);
    assert!(hops.iter().all(|hop| trace(hop) == trace(theirs)), "{hops:?}");
    let [work, attempt, answer] = hops.as_slice() else { panic!("{hops:?}") };
    assert!(work != theirs && attempt != work && answer == attempt, "a span for each that worked: {hops:?}");
    Ok(())
}

#[tokio::test]
async fn story_an_operator_switches_the_cloud_off_and_a_person_decides() -> Result<()> {
    let cell = TestCell::start(&["--routers", "2"]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let mistyped = cell.output(&["lane", "off", "--target", "standinn", "--reason", "a drill"]).await?;
    assert_eq!(mistyped.status.code(), Some(1), "what covers nothing does not look as if it did");
    let nobody = cell.output(&["lane", "off", "cloud", "--tenant", "acmee", "--reason", "a drill"]).await?;
    assert_eq!(nobody.status.code(), Some(1), "nor does what is for nobody");
    let task = tempfile::NamedTempFile::new()?;
    std::fs::write(task.path(), chat("public", "What is a tide?").to_string())?;
    let explained = async || {
        let decision = cell.json(&["policy", "explain", &task.path().display().to_string()]).await?;
        anyhow::Ok(decision["outcome"].clone())
    };
    assert_eq!(explained().await?, json!("cloud"), "by the cell's bundle");
    let begun = Instant::now();
    cell.tidegate(&["lane", "off", "cloud", "--reason", "a drill"]).await?;
    let operator = Operator::connect(&cell).await?;
    let (act, took_ms) = switched(&operator).await?;
    assert!(took_ms < SWITCHED_MS, "the lane was off only {took_ms} ms after the act");
    for role in ["router", "router-2", "local", "cloud"] {
        let heard = until("the role to take it over", SOON, || async { heard_ms(&cell, role, act) }).await?;
        assert!((0..SWITCHED_MS).contains(&heard), "{role} took it over {heard} ms after the act");
    }
    assert_eq!(heard_ms(&cell, "vault", act)?, None, "negative control: who has no use for it says nothing");
    eprintln!(
        "the lane was off {took_ms} ms after the act, and {} ms after the command, the program's start included",
        begun.elapsed().as_millis()
    );
    let off = cell.screen().await?["off"].clone();
    assert_eq!(off, json!([{ "lane": "cloud" }]), "and the screen says so");
    assert_eq!(explained().await?, json!("local"), "and by what is switched off");
    let local = agent.ask("chat", chat("public", "What is a tide?")).await?;
    assert_eq!(lane(&local), Some(Lane::Local), "{local:?}");
    assert_eq!(operator.bus().stream_info(WORK_CLOUD).await?.messages, 0, "nothing went to the cloud lane");
    cell.tidegate(&["lane", "on", "cloud", "--reason", "the drill is over"]).await?;
    assert_eq!(cell.screen().await?["off"], json!([]), "negative control");
    let cloud = agent.ask("chat", chat("public", "What is a tide?")).await?;
    assert_eq!(lane(&cloud), Some(Lane::Cloud), "{cloud:?}");

    let mut held = chat("public", "May this person have a loan?");
    held["labels"]["stakes"] = json!("high");
    held["id"] = json!(Uuid::now_v7().to_string());
    let waiting = agent.ask("chat", held);
    let approve = async {
        let sequence = until("a review", SOON, || async {
            let reviews = cell.json(&["review", "list"]).await?;
            Ok(reviews.pointer("/held/0/review").or(reviews.pointer("/0/review")).and_then(Value::as_u64))
        })
        .await?;
        astray(&cell, sequence).await?;
        cell.tidegate(&["review", "approve", &sequence.to_string(), "--reason", "looked at it"]).await
    };
    let (result, approved) = tokio::join!(waiting, approve);
    approved.context("approving")?;
    assert_eq!(result?.state, State::Completed);
    Ok(())
}

/// When the last switch's act was published, and the milliseconds until every role finds it in force, by the server's own clock.
async fn switched(operator: &Operator) -> Result<(Timestamp, i128)> {
    let bus = operator.bus();
    let key = format!("$KV.{FLAGS_BUCKET}.{FLAGS_KEY}");
    let stored = bus.last_for_subject(&format!("KV_{FLAGS_BUCKET}"), &key).await?.context("the switches")?;
    let flags: Flags = serde_json::from_slice(&stored.payload)?;
    let act = bus.get(EVENTS, flags.event).await?.context("the act")?;
    assert_eq!(act.subject, "control.lane.admin");
    Ok((act.published, stored.published.duration_since(act.published).as_millis()))
}

/// Milliseconds from then until a role says that it goes by what changed since; nothing before it does.
fn heard_ms(cell: &TestCell, role: &str, since: Timestamp) -> Result<Option<i128>> {
    let log = std::fs::read_to_string(cell.path().join("logs").join(format!("{role}.log")))?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let heard = lines.filter(|line| {
        let fields = &line["fields"];
        fields["message"] == "The switches changed."
            || (fields["message"] == "Took over the active version." && fields["bucket"] == FLAGS_BUCKET)
    });
    let times = heard.filter_map(|line| line["timestamp"].as_str()?.parse::<Timestamp>().ok());
    Ok(times.map(|time| time.duration_since(since).as_millis()).find(|after| *after >= 0))
}

/// Verdicts that lead nowhere: one that is not sent, and one that becomes a dead letter. The task goes on waiting.
async fn astray(cell: &TestCell, sequence: u64) -> Result<()> {
    let (dir, review) = (tempfile::tempdir()?, sequence.to_string());
    let input = dir.path().join("input.json");
    std::fs::write(&input, r#"{ "texts": ["x"] }"#)?;
    let input = input.display().to_string();
    let edit = ["review", "edit", &review, "--input", &input, "--reason", "of another kind"];
    let edited = cell.output(&edit).await?;
    let said = String::from_utf8_lossy(&edited.stderr).into_owned();
    assert!(!edited.status.success() && said.contains("of kind chat"), "{said}");

    let shown = cell.json(&["review", "show", &review]).await?;
    let verdict = json!({ "schema_version": 1, "review": format!("{EVENTS}:{sequence}"), "reason": "by hand",
        "content": shown["review"]["content"], "action": { "action": "edit", "input": { "texts": ["x"] } } });
    let alice = connect(cell, Identity::Reviewer(Name::new("alice")?)).await?;
    alice.publish(Outbound::new("verdict.default.acme.alice", verdict.to_string())).await?;
    until("the dead letter", SOON, || async {
        let letters = cell.json(&["dead", "list"]).await?;
        Ok(letters.as_array().is_some_and(|letters| letters.len() == 1).then_some(()))
    })
    .await?;
    let waiting = cell.json(&["review", "list"]).await?;
    assert_eq!(waiting.pointer("/0/review").and_then(Value::as_u64), Some(sequence), "{waiting}");
    Ok(())
}

#[tokio::test]
async fn story_the_record_tells_what_happened_and_a_flipped_byte_is_found() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let result = agent.ask("chat", chat("public", "What is a tide?")).await?;
    let id = result.task.to_string();
    let timeline = until("the task's records", SOON, || async {
        let text = cell.tidegate(&["audit", "task", &id]).await?;
        Ok(text.contains("result").then_some(text))
    })
    .await?;
    for word in ["task", "work", "attempt", "result"] {
        assert!(timeline.contains(word), "{word} is missing in\n{timeline}");
    }
    cell.tidegate(&["audit", "verify"]).await.context("a record as it was written verifies")?;
    cell.stop().await?;
    let record = cell.path().join("record");
    let found = flip_in_copy(&cell, &record, None).await?;
    assert_eq!(found, Some(0), "negative control: the copy itself verifies");
    let found = flip_in_copy(&cell, &record, Some(id.as_bytes())).await?;
    assert!(matches!(found, Some(1 | 3)), "exit status {found:?}");
    Ok(())
}

/// Verifies a copy of the record in which one byte, where `needle` stands, was flipped.
async fn flip_in_copy(
    cell: &TestCell,
    record: &std::path::Path,
    needle: Option<&[u8]>,
) -> Result<Option<i32>> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(record)? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path)?;
        if let Some(needle) = needle {
            let places: Vec<usize> = bytes
                .windows(needle.len())
                .enumerate()
                .filter(|(_, w)| *w == needle)
                .map(|(at, _)| at)
                .collect();
            for at in places {
                bytes[at] ^= 1;
            }
        }
        std::fs::write(copy.path().join(path.file_name().context("a file")?), bytes)?;
    }
    let record = copy.path().display().to_string();
    let key = cell.path().join("keys/checkpoint.pub").display().to_string();
    let verify = ["audit", "--public-key", &key, "verify", "--record", &record];
    Ok(cell.output(&verify).await?.status.code())
}

#[tokio::test]
async fn story_a_python_agent_uses_the_official_client() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let python =
        std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| root().join(".venv/bin/python"), Into::into);
    assert!(python.exists(), "no Python with nats-py: run ./tests/run, or tests/python/setup");
    let output = Command::new(python)
        .arg(root().join("tests/python/story.py"))
        .env("NATS_URL", cell.url()?)
        .env("AGENT", "helpdesk")
        .env("NKEY_SEED_FILE", cell.path().join("identities/agent.acme.helpdesk.nk"))
        .output()
        .context("running the story")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout)?;
    let line = |begin: &str| told.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
    assert!(line("accepted (first): ").ends_with("duplicate: False"), "{told}");
    assert!(line("accepted (again): ").ends_with("duplicate: True"), "{told}");
    assert_eq!(line("state: "), "completed", "{told}");
    assert!(line("tokens streamed: ").parse::<u32>()? > 0, "{told}");
    assert_eq!(line("the first result again: "), "True and kept: True", "{told}");
    assert_eq!(line("something else under the same id: "), "rejected id_conflict", "{told}");

    // The README's envelope, as it stands.
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let envelope = readme.split("```json").nth(1).and_then(|rest| rest.split("```").next());
    let envelope = envelope.context("the README shows an envelope")?.as_bytes().to_vec();
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let mut replies = agent.bus().subscribe_core("reply.helpdesk.token").await?;
    let headers = Headers::new().with(header::REPLY, "token");
    agent.publish("chat", None, headers, envelope).await?;
    let reply = tokio::time::timeout(SOON, replies.next()).await?.context("the connection closed")?;
    let result: TaskResult = serde_json::from_slice(&reply.payload)?;
    assert_eq!(result.state, State::Completed, "{result:?}");
    Ok(())
}

#[tokio::test]
async fn story_a_new_tenant_is_served_and_cannot_see_another() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    cell.tidegate(&["tenant", "add", "globex", "--owner", "ops@globex.example"]).await?;
    cell.tidegate(&["agent", "add", "globex", "crawler", "--role", "agent"]).await?;
    let agent =
        until("the new agent", SOON, || async { Ok(Agent::connect(&cell, "globex", "crawler").await.ok()) })
            .await?;
    let texts = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    let result = agent.ask("embed", texts).await?;
    assert_eq!(result.tenant.as_str(), "globex");
    let operator = Operator::connect(&cell).await?;
    let acts = operator.messages(EVENTS).await?;
    let versions = acts.values().filter(|m| m.subject == "control.directory.admin").count();
    assert_eq!(versions, 3, "the first version, the tenant and the agent are on record");
    Ok(())
}
