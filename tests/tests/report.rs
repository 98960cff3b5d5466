//! Stories of the month's report, made from a real cell's record while the recorder writes it.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_schemas::result::State;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn report_story_a_month_is_told_and_a_claim_that_does_not_hold_is_named() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let chat = |labels: Value| {
        json!({ "labels": labels,
        "input": { "messages": [{ "role": "user", "content": "canary-7f3a" }], "sampling": { "max_tokens": 4 } } })
    };
    let public = agent.ask("chat", chat(json!({ "sensitivity": "public" }))).await?;
    let confidential = agent.ask("chat", chat(json!({ "sensitivity": "confidential" }))).await?;
    assert_eq!((public.state, confidential.state), (State::Completed, State::Completed));
    let refused = agent.ask("chat", chat(json!({ "sensitivity": "public", "residency": ["ch"] }))).await?;
    assert_eq!(refused.state, State::Rejected);

    // The server's clock is this machine's.
    let month = jiff::Timestamp::now().to_string().chars().take(7).collect::<String>();
    let report = |within: &'static str| {
        let arguments =
            ["audit", "report", "--tenant", "acme", "--month", month.as_str(), "--within", within];
        let arguments = arguments.map(str::to_owned);
        let cell = &cell;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--json"]).collect();
            let output = cell.output(&arguments).await?;
            anyhow::Ok((output.status.code(), serde_json::from_slice::<Value>(&output.stdout)?))
        }
    };
    let (code, told) = until("all three on record", SOON, || async {
        let (code, told) = report("confidential=eu").await?;
        // Signed a second after the last record; until then no claim is shown.
        let shown = told["residency"][2]["verdict"] != "not_shown";
        Ok((told["tasks"]["ended"] == 3 && shown).then_some((code, told)))
    })
    .await?;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&told["left"]["attempts"], &told["unattributed"]["count"]), (&json!(1), &json!(0)), "{told}");
    assert!(told["left"]["bytes"].as_u64() > Some(0), "{told}");
    assert_eq!(told["rejections"][0]["code"], "policy_denied");
    assert_eq!(
        (&told["residency"][2]["verdict"], &told["residency"][0]["verdict"]),
        (&json!("holds"), &json!("told"))
    );

    // Of the directory alone, without the key that says whose signature it must be, nobody vouches for it.
    let record = cell.path().join("record").display().to_string();
    let key = cell.path().join("keys/checkpoint.pub").display().to_string();
    let alone = [
        "audit",
        "--record",
        &record,
        "report",
        "--tenant",
        "acme",
        "--month",
        &month,
        "--within",
        "confidential=eu",
    ];
    for (more, code, verdict, claims) in
        [(vec![], 2, "not_shown", false), (vec!["--public-key", key.as_str()], 0, "holds", true)]
    {
        let arguments = [&alone[..], &more].concat();
        let told = cell.output(&[&arguments[..], &["--json"]].concat()).await?;
        let json: Value = serde_json::from_slice(&told.stdout)?;
        assert_eq!(
            (told.status.code(), &json["residency"][2]["verdict"]),
            (Some(code), &json!(verdict)),
            "{json}"
        );
        assert_eq!(json["record"]["signed"].is_object(), claims, "{json}");
        let page = cell.output(&arguments).await?;
        assert_eq!(page.status.code(), Some(code));
        let page = String::from_utf8(page.stdout)?;
        assert_eq!((page.contains("claim holds"), page.contains("not shown")), (claims, !claims));
    }

    let (code, told) = report("public=ch").await?;
    assert_eq!((code, &told["residency"][0]["verdict"]), (Some(2), &json!("broken")), "{told}");
    let index = told["residency"][0]["offences"][0]["index"].as_u64();
    let page = cell.json(&["audit", "query", "--kind", "work", "--outcome", "cloud"]).await?;
    assert_eq!(page["records"][0]["index"].as_u64(), index, "the record that did it is named");

    let file = cell.path().join("report.html").display().to_string();
    cell.tidegate(&["audit", "report", "--tenant", "all", "--month", &month, "--out", &file]).await?;
    let page = std::fs::read_to_string(&file)?;
    assert!(page.contains("SmolLM2-135M-Instruct") && page.ends_with("</html>\n"));
    assert!(!page.contains("canary-7f3a"), "nothing that a person wrote stands in it");
    for (within, says) in [("public=ch", Some("of class public reached")), ("confidential=eu", None)] {
        let arguments = ["audit", "report", "--tenant", "all", "--month", &month, "--out", &file, "--within"];
        let output = cell.output(&[&arguments[..], &[within]].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let told = said.lines().find(|line| line.starts_with("tidegate: "));
        assert_eq!(told.is_some(), says.is_some(), "{said}");
        assert!(told.is_none_or(|told| told.contains(says.unwrap_or_default())), "{said}");
        let holds = said.contains("No record of class confidential reached");
        assert_eq!(holds, says.is_none(), "what holds is said too: {said}");
        assert!(said.contains("in the place of what was there"), "{said}");
    }

    backed(&cell, &month).await?;
    for (arguments, says) in [
        (["--tenant", "initech", "--month", &month], "no tenant `initech`"),
        (["--tenant", "acme", "--month", "2099-01"], "has not begun"),
        (["--tenant", "acme", "--month", "november"], "YYYY-MM"),
    ] {
        let output = cell.output(&[&["audit", "report"], &arguments[..]].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{said}");
    }
    Ok(())
}

/// The report names the checkpoint that its records give, and the bundle that backs it holds for who has only the key.
async fn backed(cell: &TestCell, month: &str) -> Result<()> {
    let path = |name: &str| cell.path().join(name).display().to_string();
    let (proof, file, key) = (path("proof"), path("backed.html"), path("keys/checkpoint.pub"));
    let report = ["audit", "report", "--tenant", "all", "--month", month, "--within", "confidential=eu"];
    let with_proof = [&report[..], &["--out", &file, "--proof", &proof]].concat();
    // Signed a second after the last record.
    until("the record to be signed", SOON, || async {
        let told = serde_json::from_slice::<Value>(
            &cell.output(&[&report[..], &["--json"]].concat()).await?.stdout,
        )?;
        Ok((told["record"]["signed"]["proven"] == true).then_some(()))
    })
    .await?;
    cell.tidegate(&with_proof).await?;
    let told: Value = serde_json::from_slice(&std::fs::read(cell.path().join("proof/report.json"))?)?;
    let (signed, page) = (&told["record"]["signed"], std::fs::read_to_string(&file)?);
    let root = signed["root"].as_str().unwrap_or_default();
    assert!(root.len() == 64 && page.contains(root) && page.contains("records.jsonl"), "{signed}");
    assert_eq!(
        (&signed["proven"], &told["residency"][2]["verdict"]),
        (&json!(true), &json!("holds")),
        "{told}"
    );
    let verify = ["audit", "verify", "--bundle", &proof, "--public-key", &key];
    let verified = cell.json(&verify).await?;
    assert_eq!(verified["report"]["records"], signed["size"], "{verified}");
    let lines = std::fs::read_to_string(cell.path().join("proof/records.jsonl"))?;
    assert_eq!(Some(lines.lines().count() as u64), signed["size"].as_u64());
    // Negative control: a line that is changed no longer backs it.
    std::fs::write(cell.path().join("proof/records.jsonl"), lines.replacen("\"eu\"", "\"us\"", 1))?;
    assert_eq!(cell.output(&verify).await?.status.code(), Some(1));
    Ok(())
}

#[tokio::test]
async fn query_story_by_what_a_record_has_from_recorder_and_file_and_as_cedar_tests() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let task = |person: &str| json!({ "labels": { "sensitivity": "internal" }, "data_subjects": [person], "input": { "texts": ["canary-7f3a"] } });
    for person in ["customer-1", "customer-2", "customer-1"] {
        assert_eq!(agent.ask("embed", task(person)).await?.state, State::Completed);
    }
    let count = |page: &Value| page["records"].as_array().map_or(0, Vec::len);
    until("all on record", SOON, || async {
        Ok((count(&cell.json(&["audit", "query", "--state", "completed"]).await?) == 3).then_some(()))
    })
    .await?;
    let work = cell.json(&["audit", "query", "--kind", "work"]).await?["records"][0].clone();
    let text = |path: &str| work.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (policy, bundle, place) =
        (text("/decision/policies/0"), text("/decision/bundle"), text("/decision/destination"));
    let (reference, id) = (text("/subjects/0"), text("/task"));
    let record = cell.path().join("record").display().to_string();
    let master = cell.path().join("keys/master.key").display().to_string();
    let of_file = ["--record", record.as_str(), "--key", master.as_str()];
    for (asked, at_least) in [
        (["--tenant", "acme"], 9),
        (["--agent", "helpdesk"], 9),
        (["--task", &id], 3),
        (["--outcome", "local"], 3),
        (["--destination", &place], 3),
        (["--policy", &policy], 3),
        (["--judged-by", &bundle], 3),
        (["--judged-by", &bundle[..8]], 3),
        (["--label", "internal"], 6),
        (["--stakes", "low"], 6),
        (["--subject", "customer-1"], 6),
        (["--subject-ref", &reference], 3),
        (["--from", "2026-01-01T00:00:00Z"], 9),
    ] {
        let asked = [&["audit", "query"], &asked[..]].concat();
        let (told, read) = (cell.json(&asked).await?, cell.json(&[&asked[..], &of_file].concat()).await?);
        assert!(count(&told) >= at_least && told["records"] == read["records"], "{asked:?}: {told}");
    }
    for none in [
        ["--agent", "nobody"],
        ["--policy", "no-such-policy"],
        ["--subject", "customer-9"],
        ["--label", "public"],
    ] {
        assert_eq!(count(&cell.json(&[&["audit", "query"], &none[..]].concat()).await?), 0, "{none:?}");
    }
    // First digits that no bundle on record has are a mistake, and no empty answer.
    let unknown = if bundle.starts_with("000000") { "ffffff" } else { "000000" };
    let refused = cell.output(&["audit", "query", "--judged-by", unknown]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no bundle on record begins with"), "{said}");
    let timeline = cell.json(&["audit", "task", &id]).await?;
    let steps = timeline[0]["steps"].as_array().cloned().unwrap_or_default();
    assert!(
        steps.len() >= 3 && steps[1]["after_ms"].is_u64() && steps[1]["cause_index"].is_u64(),
        "{timeline}"
    );

    let cases = cell.path().join("cases").display().to_string();
    let export = ["audit", "export", cases.as_str(), "--form", "cedar-tests", "--tenant", "acme"];
    let exported = cell.json(&export).await?;
    assert_eq!(
        (&exported["written"]["decisions"], &exported["written"]["unjudged"]),
        (&json!(3), &json!(0)),
        "{exported}"
    );
    let of_bundle = cell.path().join("cases").join(&bundle);
    let tests: Value = serde_json::from_slice(&std::fs::read(of_bundle.join("tests.json"))?)?;
    assert_eq!(
        tests.as_array().map(Vec::len),
        exported["written"]["cases"].as_u64().map(|cases| cases as usize)
    );
    assert!(
        tests[0]["request"]["principal"].is_string() && !tests.to_string().contains("canary-7f3a"),
        "{tests}"
    );
    assert!(of_bundle.join("policies.json").exists() && of_bundle.join("schema.json").exists());
    let lines = ["audit", "export", "lines", "--tenant", "acme"];
    assert!(!cell.output(&lines).await?.status.success(), "a bundle of less than all proves nothing");
    Ok(())
}

#[tokio::test]
async fn query_story_by_labels_in_the_bundle_s_words_and_in_no_producer_s() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let known = json!({ "sensitivity": "internal", "categories": ["personal"], "regulations": ["gdpr"],
        "residency": ["eu"], "purpose": "support" });
    let made_up = json!({ "sensitivity": "internal", "categories": ["health", "anna-schmidt"],
        "regulations": ["anna-schmidt"], "residency": ["eu", "anna-schmidt"], "consent": ["anna-schmidt"],
        "purpose": "anna-schmidt" });
    for labels in [known, made_up] {
        let task = json!({ "labels": labels, "input": { "texts": ["canary-7f3a"] } });
        assert_eq!(agent.ask("embed", task).await?.state, State::Completed);
    }
    let count = |page: &Value| page["records"].as_array().map_or(0, Vec::len);
    until("both on record", SOON, || async {
        Ok((count(&cell.json(&["audit", "query", "--state", "completed"]).await?) == 2).then_some(()))
    })
    .await?;
    let record = cell.path().join("record").display().to_string();
    let of_file = ["--record", record.as_str()];
    let cases: [(&[&str], usize); 13] = [
        (&[], 2),
        (&["--category", "personal"], 1),
        (&["--category", "health"], 1),
        (&["--category", "unknown"], 1),
        (&["--regulation", "gdpr"], 1),
        (&["--residency", "eu"], 2),
        (&["--consent", "unknown"], 1),
        (&["--purpose", "support"], 1),
        (&["--category", "personal", "--regulation", "gdpr", "--residency", "eu"], 1),
        // Negative controls.
        (&["--category", "personal", "--regulation", "unknown"], 0),
        (&["--category", "card"], 0),
        (&["--residency", "ch"], 0),
        (&["--category", "anna-schmidt"], 0),
    ];
    for (asked, found) in cases {
        let asked = [&["audit", "query", "--kind", "work"][..], asked].concat();
        let (told, read) = (cell.json(&asked).await?, cell.json(&[&asked[..], &of_file].concat()).await?);
        assert!(count(&told) == found && told["records"] == read["records"], "{asked:?}: {told}");
    }
    let all = cell.json(&["audit", "query"]).await?;
    assert!(count(&all) >= 6 && !all.to_string().contains("anna-schmidt"), "no producer's word: {all}");
    let refused = cell.output(&["audit", "query", "--category", "Anna Schmidt"]).await?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("a name must be"));
    Ok(())
}
