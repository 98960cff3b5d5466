//! Retention and legal holds, as an operator sees them: what is held stays, what is not goes, and every proof stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidegate_bus::{Identity, Role};
use tidegate_schemas::header::Headers;
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(60);
/// Tasks that are refused: two records each, and no model has to run. More than one tile of 256.
const TASKS: usize = 140;
const TILE: u64 = 256;

/// A task that no destination may have.
fn refused() -> Vec<u8> {
    let labels = json!({ "sensitivity": "internal", "residency": ["ch"] });
    json!({ "labels": labels, "input": { "texts": ["x"] } }).to_string().into_bytes()
}

/// Has everything be past its retention, and in a segment at once.
fn keep_nothing(cell: &TestCell) -> Result<()> {
    let path = cell.path().join("cell.toml");
    let mut config: toml::Table = std::fs::read_to_string(&path)?.parse()?;
    let record = config.entry("record").or_insert_with(|| toml::Table::new().into());
    let record = record.as_table_mut().context("a table")?;
    for key in ["body_retention_days", "record_retention_days", "segment_age_hours"] {
        record.insert(key.to_owned(), 0.into());
    }
    Ok(std::fs::write(&path, config.to_string())?)
}

/// What an auditor has from before: the first record's line, and the proof that it is in the record.
struct Kept {
    line: String,
    proof: String,
    key: String,
}

impl Kept {
    async fn of(cell: &TestCell, dir: &Path) -> Result<Self> {
        let path = |name: &str| dir.join(name).display().to_string();
        let (bundle, line, proof) = (path("bundle"), path("0.json"), path("0.tlog-proof"));
        cell.tidegate(&["audit", "export", &bundle]).await?;
        let lines = std::fs::read_to_string(dir.join("bundle/records.jsonl"))?;
        std::fs::write(&line, lines.lines().next().context("a line")?)?;
        cell.tidegate(&["audit", "prove", "inclusion", "0", "--out", &proof]).await?;
        Ok(Self { line, proof, key: cell.path().join("keys/checkpoint.pub").display().to_string() })
    }

    async fn verify(&self, cell: &TestCell) -> Result<Option<i32>> {
        let arguments =
            ["audit", "verify", "--proof", &self.proof, "--leaf", &self.line, "--public-key", &self.key];
        Ok(cell.output(&arguments).await?.status.code())
    }
}

/// What prune says of the first segment.
async fn due(cell: &TestCell, more: &[&str]) -> Result<Value> {
    Ok(cell.json(&[&["audit", "prune"], more].concat()).await?["due"][0].clone())
}

/// Takes their messages out of the streams that keep the first segment, as trimming does a day or a week later. Returns which
/// those were.
async fn emptied(cell: &TestCell) -> Result<BTreeSet<String>> {
    let recorder = connect(cell, Identity::Role(Role::Recorder)).await?;
    let mut streams = BTreeSet::new();
    while let Some(stream) = due(cell, &["--plan"]).await?["block"]["stream"].as_str() {
        ensure!(streams.insert(stream.to_owned()), "{stream} is empty, and keeps it all the same");
        let last = recorder.stream_info(stream).await?.last;
        recorder.purge_before(stream, last + 1).await?;
    }
    Ok(streams)
}

#[tokio::test]
async fn retain_story_what_is_held_stays_and_what_is_pruned_stays_proven() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    for _ in 0..TASKS {
        agent.publish("embed", None, Headers::new(), refused()).await?;
    }
    until("all on record, and signed", SOON, || async {
        let told = cell.json(&["audit", "verify"]).await?;
        Ok((told["report"]["signed"].as_u64() >= Some(2 * TASKS as u64)).then_some(()))
    })
    .await?;
    assert_eq!(cell.json(&["audit", "prune", "--plan"]).await?, json!({ "plan": true, "due": [] }));
    assert!(cell.tidegate(&["audit", "prune"]).await?.contains("nothing is past its retention"));
    let dir = tempfile::tempdir()?;
    let kept = Kept::of(&cell, dir.path()).await?;

    let add = ["audit", "hold", "add", "--tenant", "acme", "--reason", "case 4711"];
    let held = cell.json(&add).await?;
    let hold = held["hold"].as_str().context("an id")?.to_owned();
    let list = cell.json(&["audit", "hold", "list"]).await?;
    assert_eq!(
        (&list["holds"][0]["id"], list["holds"].as_array().map(Vec::len)),
        (&json!(hold), Some(1)),
        "{list}"
    );
    assert!(cell.tidegate(&["audit", "hold", "list"]).await?.contains("tenant acme"));

    cell.stop().await?;
    keep_nothing(&cell)?;
    cell.start_again(&[]).await?;
    let blocked = |due: &Value| (due["block"]["by"].clone(), due["block"]["hold"].clone());
    let plan = until("a segment past its retention", SOON, || async {
        Ok(Some(due(&cell, &["--plan"]).await?).filter(Value::is_object))
    })
    .await?;
    assert_eq!((&plan["first"], &plan["part"]), (&json!(0), &json!("records")), "{plan}");
    assert!(plan["records"].as_u64() >= Some(TILE), "{plan}");
    for more in [&["--plan"][..], &[]] {
        assert_eq!(blocked(&due(&cell, more).await?), (json!("hold"), json!(hold)), "{more:?}");
    }
    assert!(cell.tidegate(&["audit", "prune"]).await?.contains(&format!("stays: hold {hold}")));
    let pruned = || async { anyhow::Ok(cell.json(&["audit", "verify"]).await?["report"]["pruned"].clone()) };
    let file = cell.path().join("record/segments/seg-0.redb");
    assert_eq!((pruned().await?, file.exists()), (json!(0), true), "nothing of it went");

    // Negative control: without the hold the same command prunes the same segment.
    cell.tidegate(&["audit", "hold", "remove", &hold, "--reason", "case closed"]).await?;
    let streams = emptied(&cell).await?;
    assert!(streams.contains("TASKS_acme") && streams.contains("RESULTS"), "{streams:?}");
    assert_eq!(due(&cell, &["--plan"]).await?["block"], Value::Null);
    assert_eq!((pruned().await?, file.exists()), (json!(0), true), "a plan changes nothing");
    let gone = due(&cell, &[]).await?;
    assert_eq!((&gone["first"], &gone["block"]), (&json!(0), &Value::Null), "{gone}");
    assert_eq!(pruned().await?, gone["records"], "and the rest verifies");
    until("the file to go", SOON, || async { Ok((!file.exists()).then_some(())) }).await?;

    assert_eq!(kept.verify(&cell).await?, Some(0), "what an auditor kept is proven as before");
    let gone = cell.output(&["audit", "prove", "inclusion", "TASKS_acme:1"]).await?;
    assert!(
        String::from_utf8_lossy(&gone.stderr).contains("was pruned by retention"),
        "the line is gone here"
    );
    let proof = cell.json(&["audit", "prove", "completeness"]).await?;
    assert_eq!((&proof["complete"], &proof["explained"]), (&json!(true), &json!(true)), "{proof}");
    let pruned: u64 = proof["streams"]
        .as_array()
        .context("streams")?
        .iter()
        .filter_map(|stream| stream["pruned"].as_u64())
        .sum();
    assert!(pruned >= TILE, "{proof}");
    // Negative control: another line than the one that was recorded is not.
    let line = std::fs::read_to_string(&kept.line)?;
    let other = line.replacen("\"index\":0", "\"index\":1", 1);
    assert_ne!(line, other);
    std::fs::write(&kept.line, other)?;
    assert_eq!(kept.verify(&cell).await?, Some(1));

    let record = cell.path().join("record").display().to_string();
    for (arguments, code, says) in [
        (vec!["audit", "hold", "remove", &hold, "--reason", "again"], 1, "no such hold"),
        (vec!["audit", "hold", "add", "--reason", "of nobody"], 2, "--tenant"),
        (
            vec![
                "audit",
                "hold",
                "add",
                "--tenant",
                "acme",
                "--until",
                "2020-01-01T00:00:00Z",
                "--reason",
                "late",
            ],
            1,
            "a time to come",
        ),
        (vec!["audit", "--record", &record, "prune"], 1, "only the recorder prunes"),
    ] {
        let output = cell.output(&arguments).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(says), "{:?}: {said}", output.status);
    }
    Ok(())
}
