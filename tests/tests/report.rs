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
    let internal = agent.ask("chat", chat(json!({ "sensitivity": "internal" }))).await?;
    assert_eq!((public.state, internal.state), (State::Completed, State::Completed));
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
        let (code, told) = report("internal=eu").await?;
        Ok((told["tasks"]["ended"] == 3).then_some((code, told)))
    })
    .await?;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&told["left"]["attempts"], &told["unattributed"]["count"]), (&json!(1), &json!(0)), "{told}");
    assert!(told["left"]["bytes"].as_u64() > Some(0), "{told}");
    assert_eq!(told["rejections"][0]["code"], "policy_denied");
    assert_eq!(
        (&told["residency"][1]["verdict"], &told["residency"][0]["verdict"]),
        (&json!("holds"), &json!("told"))
    );

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
