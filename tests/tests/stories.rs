//! End-to-end stories on a real server, real models and real processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound};
use tidegate_schemas::code::Code;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::{Output, State, TaskResult};
use tidegate_schemas::subject::{EVENTS, Lane, WORK_CLOUD};
use tidegate_tests::cell::root;
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

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
    assert!(confidential.model.unwrap().sha256.is_some(), "local results name the model's hash");

    let texts = json!({ "labels": { "sensitivity": "restricted" }, "input": { "texts": ["one", "two"] } });
    let embedded = agent.ask("embed", texts).await?;
    let Some(Output::Embeddings { vectors }) = embedded.output else {
        panic!("no vectors: {:?}", embedded.error)
    };
    assert_eq!((vectors.len(), vectors[0].len()), (2, 384));

    let extract = json!({ "labels": { "sensitivity": "internal" }, "input": {
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
    ];
    for (kind, payload, expected) in table {
        let result =
            agent.ask_raw(kind, Headers::new(), payload).await.with_context(|| format!("{expected}"))?;
        assert_eq!((result.state, code(&result)), (State::Rejected, Some(expected)));
    }
    let twice = Headers::trusted([("ce-type".to_owned(), "x".to_owned())]);
    let fine = agent.ask_raw("embed", twice, embed.to_string().into_bytes()).await?;
    assert_eq!(fine.state, State::Completed, "{fine:?}");

    let mut named = embed.clone();
    named["id"] = json!(Uuid::now_v7().to_string());
    let first = agent.ask("embed", named.clone()).await?;
    // The first body named a reply token of its own, so this one is another.
    let again = agent.ask_raw("embed", Headers::new(), named.to_string().into_bytes()).await?;
    assert_eq!(
        (first.state, code(&again)),
        (State::Completed, Some(Code::IdConflict)),
        "another body, the same id"
    );
    Ok(())
}

#[tokio::test]
async fn story_an_operator_switches_the_cloud_off_and_a_person_decides() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    cell.tidegate(&["lane", "off", "cloud", "--reason", "a drill"]).await?;
    let local = agent.ask("chat", chat("public", "What is a tide?")).await?;
    assert_eq!(lane(&local), Some(Lane::Local), "{local:?}");
    let operator = Operator::connect(&cell).await?;
    assert_eq!(operator.bus().stream_info(WORK_CLOUD).await?.messages, 0, "nothing went to the cloud lane");
    cell.tidegate(&["lane", "on", "cloud", "--reason", "the drill is over"]).await?;
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
    Ok(cell.output(&["audit", "verify", "--record", &record]).await?.status.code())
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
    assert!(acts.values().any(|m| m.subject == "control.directory.admin"), "the change is on record");
    Ok(())
}
