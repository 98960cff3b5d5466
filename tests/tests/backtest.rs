//! An author of policies asks what a bundle would have decided of what is on record.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::result::State;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
const ANNA: &str = "customer-anna-4711";
const PLANTED: &str = "planted-7d2e";
const CARD: &str = "My card is 4111 1111 1111 1111, is it valid?";
const ROUTE: &str = "policies/10-route.cedar";

fn chat(id: &str, sensitivity: &str, text: &str) -> Value {
    json!({ "id": id, "labels": { "sensitivity": sensitivity }, "input": {
        "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 2 } } })
}

/// A copy of the cell's bundle with one text of one file exchanged by another, where there is one to exchange.
async fn bundle(cell: &TestCell, dir: &Path, changes: &[(&str, &str, &str)]) -> Result<String> {
    let path = dir.display().to_string();
    cell.json(&["policy", "new", &path]).await?;
    for (file, from, to) in changes {
        let text = std::fs::read_to_string(dir.join(file))?;
        anyhow::ensure!(text.contains(from), "`{file}` has no `{from}`");
        std::fs::write(dir.join(file), text.replacen(from, to, 1))?;
    }
    Ok(path)
}

/// What the command says, and its exit status.
async fn backtest(cell: &TestCell, dir: &str, more: &[&str]) -> Result<(Option<i32>, Value)> {
    let arguments = [&["policy", "backtest", "--bundle", dir, "--json"][..], more].concat();
    let output = cell.output(&arguments).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(!said.contains(PLANTED), "no text of a task is told");
    let error = String::from_utf8_lossy(&output.stderr);
    let told = serde_json::from_str(&said).with_context(|| format!("{arguments:?}: {said}{error}"))?;
    Ok((output.status.code(), told))
}

/// The row of a flip.
fn flip<'a>(told: &'a Value, name: &str) -> Option<&'a Value> {
    told["backtest"]["flips"].as_array()?.iter().find(|row| row["flip"] == name)
}

/// Tasks of every fate: two that leave, two that could not, one with a card, one that nobody may do, one of a person. Their
/// ids: the shorter that leaves, the shorter that stays.
async fn submitted(cell: &TestCell) -> Result<(String, String)> {
    let agent = Agent::connect(cell, "acme", "helpdesk").await?;
    let ids: Vec<String> = (0..6).map(|_| Uuid::now_v7().to_string()).collect();
    let long = format!("What is a tide, and why? {PLANTED}");
    let mut nowhere = chat(&ids[5], "public", "Where?");
    nowhere["labels"]["residency"] = json!(["ch"]);
    let tasks = [
        (chat(&ids[0], "public", &long), State::Completed),
        (chat(&ids[1], "public", "What is a tide?"), State::Completed),
        (chat(&ids[2], "internal", "What is a neap tide?"), State::Completed),
        (chat(&ids[3], "internal", &long), State::Completed),
        (chat(&ids[4], "public", CARD), State::Completed),
        (nowhere, State::Rejected),
    ];
    let count = tasks.len() + 1;
    for (task, state) in tasks {
        let result = agent.ask("chat", task).await?;
        assert_eq!(result.state, state, "{result:?}");
    }
    let labels = json!({ "sensitivity": "internal" });
    let of_anna = json!({ "labels": labels, "data_subjects": [ANNA], "input": { "texts": [PLANTED] } });
    assert_eq!(agent.ask("embed", of_anna).await?.state, State::Completed);
    until("all results on record", SOON, || async {
        let page = cell.json(&["audit", "query", "--kind", "result", "--limit", "100"]).await?;
        Ok((page["records"].as_array().map(Vec::len) == Some(count)).then_some(()))
    })
    .await?;
    Ok((ids[1].clone(), ids[2].clone()))
}

#[tokio::test]
async fn story_a_bundle_is_backtested_before_it_decides_anything() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    // Rules alone decide here, each task once.
    cell.tidegate(&["lane", "off", "--target", "scan", "--force", "--reason", "rules alone"]).await?;
    let (leaves, stays) = submitted(&cell).await?;
    let dir = tempfile::tempdir()?;

    // Negative control: the bundle that decided flips nothing, and says so by the same digest twice.
    let same = bundle(&cell, &dir.path().join("same"), &[]).await?;
    let gates = ["--fail-on", "any->any>0", "--max-unjudged", "0"];
    let (code, first) = backtest(&cell, &same, &gates).await?;
    assert_eq!((code, &first["verdict"]), (Some(0), &json!("within")), "{first}");
    let found = &first["backtest"];
    assert_eq!((&found["flips"], &found["moved"]), (&json!([]), &json!({})), "{first}");
    let decisions = found["decisions"].as_u64().context("decisions")?;
    assert!(decisions >= 7, "{first}");
    assert_eq!(found["unchanged"]["equal"], json!(decisions), "{first}");
    assert_eq!(found["deltas"]["cost"]["delta_usd_micros"], json!(0));
    assert_eq!(found["deltas"]["egress"]["before"], found["deltas"]["egress"]["after"]);
    let (_, again) = backtest(&cell, &same, &gates).await?;
    assert_eq!(again, first, "the same record by the same bundle");
    // Of nobody nothing is judged, and a gate that had nothing to look at is not passed.
    let (code, nothing) = backtest(&cell, &same, &["--tenant", "acmee"]).await?;
    assert_eq!((code, &nothing["nothing_judged"]), (Some(2), &json!(true)), "{nothing}");
    let (code, _) = backtest(&cell, &same, &["--tenant", "acmee", "--allow-empty"]).await?;
    assert_eq!(code, Some(0));

    the_permit_is_gone(&cell, dir.path(), &leaves, &first).await?;
    the_permit_is_wider(&cell, dir.path(), &stays).await?;
    the_recogniser_is_blind(&cell, dir.path()).await?;
    what_is_erased_is_not_judged(&cell, &same, decisions).await
}

async fn the_permit_is_gone(cell: &TestCell, dir: &Path, leaves: &str, same: &Value) -> Result<()> {
    let nothing = [(ROUTE, "context.findings == 0", "context.findings < 0")];
    let narrow = bundle(cell, &dir.join("narrow"), &nothing).await?;
    let (code, told) = backtest(cell, &narrow, &["--fail-on", "local->cloud>0"]).await?;
    assert_eq!(code, Some(0), "a task that no longer leaves breaches no such gate: {told}");
    let row = flip(&told, "cloud->local").context("a flip")?;
    assert_eq!((&row["decisions"], &row["wider"]), (&json!(2), &json!(false)), "{told}");
    let example = &row["example"];
    assert_eq!(
        (&example["task"], &example["agent"]),
        (&json!(leaves), &json!("helpdesk")),
        "the smaller one"
    );
    assert_eq!(example["input_bytes"], json!("What is a tide?".len()));
    assert!(example["before"]["policies"].to_string().contains("cloud-public"), "{example}");
    assert!(!example["after"]["policies"].to_string().contains("cloud-public"), "{example}");
    assert_eq!(told["backtest"]["flips"].as_array().map(Vec::len), Some(1), "{told}");
    let deltas = &told["backtest"]["deltas"];
    assert_eq!(
        (&deltas["egress"]["no_longer"]["decisions"], &deltas["egress"]["after"]["decisions"]),
        (&json!(2), &json!(0))
    );
    assert!(deltas["cost"]["delta_usd_micros"].as_i64().is_some_and(|delta| delta < 0), "{deltas}");
    let tally = &told["backtest"]["tenants"]["named"]["acme"]["flips"];
    assert_eq!(tally, &json!({ "cloud->local": 2 }));
    assert_eq!(told["backtest"]["classes"]["public"]["flips"], json!({ "cloud->local": 2 }));
    assert_ne!(told["backtest"]["digest"], same["backtest"]["digest"], "another judgement, another digest");
    let (code, _) = backtest(cell, &narrow, &["--fail-on", "cloud->local>1"]).await?;
    assert_eq!(code, Some(2));
    Ok(())
}

async fn the_permit_is_wider(cell: &TestCell, dir: &Path, stays: &str) -> Result<()> {
    let declared = "context.declared == Sensitivity::\"public\" &&\n";
    let counted = "context.sensitivity == Sensitivity::\"public\" &&\n";
    let scanned = "context.declared != Sensitivity::\"public\" && context.scan != Scan::\"model\"";
    let changes = [
        (ROUTE, declared, ""),
        (ROUTE, counted, ""),
        ("policies/20-sensitivity.cedar", scanned, "context.declared == Sensitivity::\"restricted\""),
    ];
    let wide = bundle(cell, &dir.join("wide"), &changes).await?;
    let gate = ["--fail-on", "local->cloud>0", "--fail-on", "deny->allow>0"];
    let (code, told) = backtest(cell, &wide, &gate).await?;
    assert_eq!((code, &told["verdict"]), (Some(2), &json!("beyond")), "{told}");
    assert_eq!(told["breached"], json!([{ "gate": "local->cloud>0", "decisions": 2 }]));
    let row = &told["backtest"]["flips"][0];
    assert_eq!((&row["flip"], &row["wider"]), (&json!("local->cloud"), &json!(true)), "it is on top: {told}");
    assert_eq!((&row["decisions"], &row["example"]["task"]), (&json!(2), &json!(stays)), "{told}");
    assert_eq!(row["example"]["after"]["destination"], json!("standin"));
    assert_eq!(told["backtest"]["deltas"]["egress"]["newly"]["decisions"], json!(2));
    let (code, _) = backtest(cell, &wide, &["--fail-on", "local->cloud>2"]).await?;
    assert_eq!(code, Some(0), "as many as are let");
    let (code, none) =
        backtest(cell, &wide, &["--until", "2020-01-01T00:00:00Z", "--since", "2019-01-01T00:00:00Z"])
            .await?;
    assert_eq!(
        (code, &none["nothing_judged"]),
        (Some(2), &json!(true)),
        "a gate that looks at nothing: {none}"
    );
    let long_ago = ["--until", "2020-01-01T00:00:00Z", "--since", "2019-01-01T00:00:00Z", "--allow-empty"];
    let (code, none) = backtest(cell, &wide, &long_ago).await?;
    assert_eq!((code, &none["backtest"]["decisions"]), (Some(0), &json!(0)), "{none}");
    let said = cell.output(&["policy", "backtest", "--bundle", &wide, "--fail-on", "local->cloud>0"]).await?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(2));
    assert!(text.contains("BREACHED local->cloud>0: 2 decisions") && !text.contains(PLANTED), "{text}");
    let wrong = cell.output(&["policy", "backtest", "--bundle", &wide, "--fail-on", "local=>cloud"]).await?;
    assert_eq!(wrong.status.code(), Some(2), "no gate is no pass");
    Ok(())
}

/// What was found stays found, unless the texts are looked at anew.
async fn the_recogniser_is_blind(cell: &TestCell, dir: &Path) -> Result<()> {
    let blind = bundle(cell, &dir.join("blind"), &[("taxonomy.toml", "{12,30}", "{28,30}")]).await?;
    let (code, told) = backtest(cell, &blind, &["--fail-on", "any->any>0"]).await?;
    assert_eq!(
        (code, &told["findings_unknown"]),
        (Some(2), &json!(true)),
        "nobody knows what it would find: {told}"
    );
    assert_eq!(told["backtest"]["other_recognisers"], told["backtest"]["judged"]);
    let (code, told) = backtest(cell, &blind, &["--fail-on", "any->any>0", "--labels", "recorded"]).await?;
    assert_eq!((code, &told["findings_unknown"]), (Some(0), &json!(false)), "as was asked for: {told}");
    let (code, told) = backtest(cell, &blind, &["--fail-on", "any->any>0", "--labels", "rescan"]).await?;
    assert_eq!(code, Some(2), "{told}");
    let row = flip(&told, "local->cloud").context("a flip")?;
    assert_eq!((&row["decisions"], &row["example"]["labels"]["findings"]), (&json!(1), &json!(0)), "{told}");
    assert_eq!(row["example"]["labels"]["before"], json!("restricted"));
    assert_eq!(told["backtest"]["relabelled"], json!(1));
    Ok(())
}

async fn what_is_erased_is_not_judged(cell: &TestCell, bundle: &str, decisions: u64) -> Result<()> {
    let erase = ["audit", "erase", "--subject", ANNA, "--tenant", "acme", "--reason", "asked for"];
    assert_eq!(cell.json(&erase).await?["state"], json!("erased"));
    let (code, told) = backtest(cell, bundle, &[]).await?;
    assert_eq!((code, &told["too_many_unjudged"]), (Some(2), &json!(true)), "none is let by default: {told}");
    let found = &told["backtest"];
    assert_eq!(found["unjudged"], json!({ "erased": 1 }), "{told}");
    assert_eq!((&found["decisions"], &found["judged"]), (&json!(decisions), &json!(decisions - 1)));
    assert_eq!(found["tenants"]["named"]["acme"]["unjudged"], json!(1));
    for most in ["1", "50%"] {
        let (code, _) = backtest(cell, bundle, &["--max-unjudged", most]).await?;
        assert_eq!(code, Some(0), "{most}");
    }
    // Without the key nothing can be judged, and that is said.
    let record = cell.path().join("record").display().to_string();
    let (code, sealed) = backtest(cell, bundle, &["--record", &record]).await?;
    assert_eq!(code, Some(2), "{sealed}");
    assert_eq!(sealed["backtest"]["judged"], json!(0), "{sealed}");
    let (code, _) = backtest(cell, bundle, &["--record", "no-such-record"]).await?;
    assert_eq!(code, Some(3), "a record that is not there cannot be read");
    Ok(())
}
