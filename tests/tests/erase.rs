//! A person asks what is held, and to be forgotten.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Name;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);
const ANNA: &str = "customer-anna-4711";
const TEXT: &str = "planted-5b1c";

fn embed(who: &str, text: &str) -> Vec<u8> {
    json!({ "labels": { "sensitivity": "internal" }, "data_subjects": [who], "input": { "texts": [text] } })
        .to_string()
        .into_bytes()
}

async fn results(cell: &TestCell, count: usize) -> Result<()> {
    until("all results on record", SOON, || async {
        let page = cell.json(&["audit", "query", "--kind", "result", "--limit", "100"]).await?;
        Ok((page["records"].as_array().context("records")?.len() >= count).then_some(()))
    })
    .await
}

#[tokio::test]
async fn erase_story_a_person_sees_what_is_held_and_is_forgotten() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    for (who, text) in [(ANNA, TEXT), (ANNA, TEXT), ("customer-bert", "another")] {
        agent.publish("embed", None, Headers::new(), embed(who, text)).await?;
    }
    results(&cell, 3).await?;
    let who = ["--subject", ANNA, "--tenant", "acme"];
    let access = |more: &[&'static str]| [&["audit", "access"][..], &who, more].concat();

    let held = cell.json(&access(&["--open"])).await?;
    assert_eq!(held["tasks"].as_array().context("tasks")?.len(), 2, "{held}");
    let readable = held["bodies"]["readable"].clone();
    assert_eq!((&held["records"], &held["bodies"]), (&readable, &json!({ "readable": readable })), "{held}");
    assert!(held["opened"].to_string().contains(TEXT), "negative control: it can be read");
    assert!(held["tasks"][0]["reached"].to_string().contains("local"), "{held}");
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("answer").display().to_string();
    let told = cell.tidegate(&[&["audit", "access"][..], &who, &["--open", &out]].concat()).await?;
    assert!(told.contains("2 tasks"), "{told}");
    let files = std::fs::read_dir(&out)?.count() as u64;
    assert_eq!(json!(files), held["records"]);

    let erase = |more: &[&'static str]| [&["audit", "erase"][..], &who, more].concat();
    let plan = cell.json(&erase(&["--plan"])).await?;
    assert_eq!((&plan["records"], &plan["tasks"], &plan["open"]), (&held["records"], &json!(2), &json!(0)));
    let before = cell.json(&["audit", "rejudge"]).await?;
    assert_eq!(before["rejudged"]["unjudged"], json!({}), "{before}");
    let done = cell.json(&erase(&["--reason", "asked for"])).await?;
    assert_eq!((&done["state"], &done["records"]), (&json!("erased"), &held["records"]), "{done}");

    let again = cell.json(&erase(&["--reason", "asked for"])).await?;
    assert_eq!(again["state"], "nothing_held");
    let held = cell.json(&access(&[])).await?;
    assert_eq!(held["records"], 0);
    cell.tidegate(&["audit", "verify"]).await?;
    let first = done["subjects"][0].as_str().context("a name")?.to_owned();
    let records = cell.json(&["audit", "query", "--kind", "task", "--limit", "100"]).await?;
    let task = records["records"].as_array().context("records")?.iter();
    let task =
        task.filter(|leaf| leaf["subjects"][0] == json!(first)).map(|leaf| leaf["task"].clone()).next();
    let told = cell.tidegate(&["audit", "task", task.context("a task")?.as_str().unwrap()]).await?;
    assert!(told.contains("erased by EVENTS:"), "{told}");
    programs_are_told(&cell, &records).await?;
    until("its end to be signed", SOON, || async {
        let proof = cell.json(&["audit", "prove", "completeness"]).await?;
        let erased =
            proof["streams"].as_array().context("streams")?.iter().map(|s| s["erased"].as_u64().unwrap());
        Ok((erased.sum::<u64>() > 0 && proof["explained"] == json!(true)).then_some(()))
    })
    .await?;
    let told = cell.output(&["audit", "rejudge", "--json"]).await?;
    let judged: Value = serde_json::from_slice(&told.stdout)?;
    let judged = &judged["rejudged"];
    assert_eq!((&judged["unjudged"], &judged["differ"]), (&json!({ "erased": 2 }), &json!(0)), "{judged}");

    // Another master key, while all runs: what is held stays readable, and the old key is refused.
    let key = cell.path().join("keys/master.key");
    let old = dir.path().join("old.key");
    std::fs::copy(&key, &old)?;
    let rotated = cell.json(&["audit", "rotate-key", "--reason", "a drill"]).await?;
    assert_eq!(rotated["rotated"], true, "{rotated}");
    agent.publish("embed", None, Headers::new(), embed("customer-bert", "later")).await?;
    results(&cell, 4).await?;
    let bert = cell.json(&["audit", "access", "--subject", "customer-bert", "--tenant", "acme"]).await?;
    assert_eq!(
        (&bert["bodies"], bert["tasks"].as_array().unwrap().len()),
        (&json!({ "readable": bert["records"] }), 2)
    );
    let record = cell.path().join("record").display().to_string();
    let old = old.display().to_string();
    let refused =
        cell.output(&["audit", "--record", &record, "--key", &old, "query", "--workflow", "x"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("or not any more"), "{said}");
    cell.tidegate(&["audit", "verify"]).await?;
    a_hold_is_told_before_anything_is_asked_for(&cell).await
}

/// What a command says as it fails.
async fn refusal(cell: &TestCell, arguments: &[&str]) -> Result<String> {
    let output = cell.output(arguments).await?;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A hold that is removed begins no erasure that nobody sees.
async fn a_hold_is_told_before_anything_is_asked_for(cell: &TestCell) -> Result<()> {
    let who = ["--subject", "customer-bert", "--tenant", "acme"];
    let why = ["--reason", "case 4711"];
    let erase = [&["audit", "erase"][..], &who, &why].concat();
    let plan = [&erase[..], &["--plan"]].concat();
    let subjects = cell.json(&plan).await?;
    assert_eq!(subjects["holds"], json!([]), "negative control: {subjects}");
    let add = [&["audit", "hold", "add"][..], &who, &why].concat();
    let said = cell.tidegate(&add).await?;
    assert!(said.contains(" --reason "), "a line that can be typed: {said}");
    let list = cell.json(&["audit", "hold", "list"]).await?;
    let hold = list["holds"][0]["id"].as_str().context("an id")?.to_owned();
    let again = refusal(cell, &add).await?;
    assert!(again.contains(&hold) && again.contains("--another"), "{again}");
    let second = cell.json(&[&add[..], &["--another"]].concat()).await?["hold"].clone();
    let second = second.as_str().context("an id")?;
    cell.tidegate(&[&["audit", "hold", "remove", second][..], &why].concat()).await?;

    let acts = async || {
        let all = cell.json(&["audit", "query", "--kind", "control", "--limit", "100"]).await?;
        let all = all["records"].as_array().context("records")?.clone();
        anyhow::Ok(all.iter().filter(|leaf| leaf["detail"]["control"]["act"] == "erase").count())
    };
    let before = acts().await?;
    let (said, told) = (refusal(cell, &erase).await?, cell.tidegate(&plan).await?);
    assert!(
        said.contains(&hold) && said.contains("nothing is erased") && told.contains(&hold),
        "{said}{told}"
    );
    assert_eq!((before > 0, acts().await?), (true, before), "and no act is on record");

    // An act that is there all the same, as an older program leaves it.
    let admin = tidegate_tests::client::connect(cell, Identity::Operator(Name::new("admin")?)).await?;
    let named = serde_json::from_value(subjects["subjects"].clone())?;
    let act = Act::Erase { tenant: Name::new("acme")?, subjects: named };
    let control = Control { schema_version: 1, act, reason: "by hand".to_owned() };
    let act = Outbound::new("control.erase.admin", serde_json::to_vec(&control)?);
    let event = format!("EVENTS:{}", admin.publish(act).await?.sequence);
    until("what waits to be named", SOON, || async {
        Ok(cell.tidegate(&["audit", "hold", "list"]).await?.contains(&event).then_some(()))
    })
    .await?;
    let remove = [&["audit", "hold", "remove", &hold][..], &why].concat();
    let said = refusal(cell, &remove).await?;
    assert!(said.contains(&event) && said.contains("--and-erase"), "{said}");
    assert_eq!(cell.json(&plan).await?["records"], subjects["records"], "nothing is gone");
    let said = cell.tidegate(&[&remove[..], &["--and-erase"]].concat()).await?;
    assert!(said.contains(&event), "{said}");
    until("the erasure", SOON, || async {
        Ok((cell.json(&plan).await?["state"] == "nothing_held").then_some(()))
    })
    .await
}

/// Programs get leaves as they are stored, and beside them whose message was erased: from the recorder and from the file; and a
/// plan counts what it cannot publish.
async fn programs_are_told(cell: &TestCell, tasks: &Value) -> Result<()> {
    let record = cell.path().join("record").display().to_string();
    let all = tasks["records"].as_array().context("records")?;
    let (anna, bert): (Vec<&Value>, Vec<_>) =
        all.iter().partition(|leaf| leaf["subjects"] != all[2]["subjects"]);
    assert_eq!((anna.len(), bert.len()), (2, 1), "{tasks}");
    let event = tasks["erased"][anna[0]["index"].to_string()].as_u64().context("an event")?;
    let erased = json!({ anna[0]["index"].to_string(): event, anna[1]["index"].to_string(): event });
    let query = ["audit", "query", "--kind", "task", "--limit", "100"];
    for of in [&[][..], &["--record", record.as_str()]] {
        let told = cell.json(&[&query[..], of].concat()).await?;
        assert_eq!((&told["erased"], &told["records"]), (&erased, &tasks["records"]), "{told}");
        for (leaf, is_erased) in [(anna[0], true), (bert[0], false)] {
            let id = leaf["task"].as_str().context("a task")?;
            let told = cell.json(&[&["audit", "task", id], of].concat()).await?;
            let index = leaf["index"].to_string();
            assert_eq!(told[0]["erased"][&index].as_u64(), is_erased.then_some(event), "{told}");
            assert_eq!(told[0].get("erased").is_some(), is_erased, "negative control: {told}");
        }
    }
    let plan = cell.path().join("tasks.json").display().to_string();
    let planned = cell.json(&["replay", "plan", "--kind", "task", "--out", &plan]).await?;
    let counts = (&planned["records"], &planned["erased"], &planned["pruned"]);
    assert_eq!(counts, (&json!(3), &json!(2), &json!(0)), "{planned}");
    Ok(())
}
