//! The commands of an operator, one after another in one cell: each answers, and what it says in JSON is so.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_bus::Identity;
use tidegate_schemas::ids::Name;
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
/// How long a role may take to say that it is there.
const PING: Duration = Duration::from_secs(5);
/// Roles with a door of their own.
const ROLES: [&str; 5] = ["router", "local", "vault", "cloud", "recorder"];
const WORKFLOW: &str = "ticket-4711";

/// What a command prints in JSON, one value a line.
async fn lines(cell: &TestCell, arguments: &[&str]) -> Result<Vec<Value>> {
    let text = cell.tidegate(&[arguments, &["--json"]].concat()).await?;
    let read = |line: &str| {
        serde_json::from_str::<Value>(line).with_context(|| format!("{arguments:?} printed no JSON"))
    };
    text.lines().map(read).collect()
}

/// The items of a list.
fn items<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>> {
    value.as_array().with_context(|| format!("{what} is no list: {value}"))
}

#[tokio::test]
async fn story_every_command_of_an_operator_answers_in_json() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    the_cell_is_well(&cell).await?;
    what_ships_is_there(&cell).await?;
    switches_are_told(&cell).await?;
    every_role_answers_a_ping(&cell).await?;
    who_is_added_is_listed(&cell).await?;
    a_workflow_is_told_as_a_tree(&cell).await?;
    tokens_stream(&cell).await?;
    let rejected = a_reviewer_rejects(&cell).await?;
    a_reviewer_edits(&cell).await?;
    tools_read_results(&cell, &rejected).await?;
    two_reviewers_agree(&cell).await
}

/// `status` and `doctor`, in a cell that nothing is wrong with.
async fn the_cell_is_well(cell: &TestCell) -> Result<()> {
    until("every role to be ready", SOON, || async {
        let output = cell.output(&["status", "--json"]).await?;
        Ok(output.status.success().then_some(()))
    })
    .await?;
    let status = cell.json(&["status"]).await?;
    for role in ROLES {
        let roles = items(&status["roles"], "roles")?;
        let line = roles.iter().find(|line| line["role"] == role).with_context(|| format!("no {role}"))?;
        assert_eq!(line["ready"], json!(true), "{line}");
    }
    let queues = items(&status["queues"], "queues")?;
    assert!(queues.iter().any(|queue| queue["stream"] == "TASKS_acme"), "{status}");
    assert!(queues.iter().all(|queue| queue["waiting"].is_u64()), "{status}");
    let ships = cell.json(&["policy", "check", "policies/bundles/demo"]).await?;
    assert_eq!(status["bundle"]["hash"], ships["hash"], "a new cell decides by the bundle that ships");

    let doctor = cell.output(&["doctor", "--json"]).await?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(0), "{said}");
    let findings: Value = serde_json::from_str(&said).context("reading the findings")?;
    let findings = items(&findings, "findings")?;
    assert!(findings.iter().all(|finding| finding["ok"] == true), "{said}");
    for what in ["nats-server", "model", "bundle", "clock", "disk", "secrets", "server", "streams", "record"]
    {
        assert!(findings.iter().any(|finding| finding["what"] == what), "{what} is not looked at: {said}");
    }
    Ok(())
}

/// `policy test`, `fmt`, `diff` and `prove`, and `model list`.
async fn what_ships_is_there(cell: &TestCell) -> Result<()> {
    let tested = cell.json(&["policy", "test", "--no-model"]).await?;
    assert!(tested["passed"].as_u64().is_some_and(|passed| passed > 0), "{tested}");
    assert_eq!(tested["failed"], json!([]), "the default bundle does what its cases say");
    assert_eq!((&tested["silent"], &tested["survivors"]), (&json!([]), &json!([])), "{tested}");
    let laid = cell.json(&["policy", "fmt", "policies/bundles/demo", "--check"]).await?;
    assert_eq!(laid["files"], json!([]), "it has no policies of its own: {laid}");
    let changed = cell.json(&["policy", "diff", "policies/bundles/default"]).await?;
    assert!(changed["same"] == false && items(&changed["changes"], "changes")?.len() > 1, "{changed}");
    let hash = changed["from"].as_str().context("a hash")?.to_owned();
    let same = cell.json(&["policy", "diff", &hash, "active"]).await?;
    assert_eq!((&same["same"], &same["changes"]), (&json!(true), &json!([])), "negative control");
    // The bundle that ships may use more providers than the cell's, which has a stand-in for them.
    for (bundle, code, access) in [("default", 2, "wider"), ("demo", 0, "equal")] {
        let dir = format!("policies/bundles/{bundle}");
        let words = ["policy", "prove", &dir, "--against", "active", "--only", "pci-never-leaves", "--json"];
        let proved = cell.output(&words).await?;
        let said: Value = serde_json::from_slice(&proved.stdout).context("reading the proofs")?;
        assert_eq!((proved.status.code(), &said["proven"]), (Some(code), &json!(1)), "{said}");
        assert_eq!(said["against"]["bundle"], json!(hash), "{said}");
        assert_eq!(said["against"]["cloud_access"], access, "{said}");
    }

    let models = cell.json(&["model", "list"]).await?;
    for kind in ["chat", "embed"] {
        let of_kind = items(&models, "models")?.iter().find(|model| model["kind"] == kind);
        let model = of_kind.with_context(|| format!("no model to {kind}: {models}"))?;
        assert_eq!(model["state"], json!("ok"), "{model}");
    }
    Ok(())
}

/// `lane status`, before, while and after something is off.
async fn switches_are_told(cell: &TestCell) -> Result<()> {
    let off = async || anyhow::Ok(cell.json(&["lane", "status"]).await?["off"].clone());
    assert_eq!(off().await?, json!([]), "negative control");
    cell.tidegate(&["lane", "off", "--target", "standin", "--reason", "a drill"]).await?;
    assert_eq!(off().await?, json!([{ "target": "standin" }]));
    cell.tidegate(&["lane", "on", "--target", "standin", "--reason", "the drill is over"]).await?;
    assert_eq!(off().await?, json!([]));
    Ok(())
}

/// NATS micro (ADR-32): an operator finds the processes of every role, each by its service's name.
async fn every_role_answers_a_ping(cell: &TestCell) -> Result<()> {
    let admin = connect(cell, Identity::Operator(Name::new("admin")?)).await?;
    for role in ROLES {
        let service = format!("tidegate-{role}");
        for subject in ["$SRV.PING".to_owned(), format!("$SRV.PING.{service}")] {
            let answer = admin.request(&subject, "".into(), PING).await.context(subject.clone())?;
            let ping: Value = serde_json::from_slice(&answer.payload).context(subject.clone())?;
            assert_eq!(ping["type"], json!("io.nats.micro.v1.ping_response"), "{ping}");
            // Whoever is first answers for all who are asked; who is named answers alone.
            assert!(subject == "$SRV.PING" || ping["name"] == service.as_str(), "{ping}");
            assert!(ping["id"].as_str().is_some_and(|id| !id.is_empty()), "{ping}");
        }
    }
    let nobody = admin.request("$SRV.PING.tidegate-nobody", "".into(), PING).await;
    assert!(nobody.is_err(), "negative control");
    Ok(())
}

/// `tool add`, `tool reviewer` and `tenant list`.
async fn who_is_added_is_listed(cell: &TestCell) -> Result<()> {
    let before = cell.json(&["tenant", "list"]).await?;
    assert_eq!(before["tenants"]["acme"]["owner"], json!("owner@acme.example"), "{before}");
    assert_eq!(before["tenants"]["acme"]["tools"].get("ledger"), None, "negative control");
    let tool = cell.json(&["tool", "add", "acme", "ledger"]).await?;
    assert!(tool["line"].as_str().is_some_and(|line| line.contains("tool=acme=ledger")), "{tool}");
    let reviewer = cell.json(&["tool", "reviewer", "bob", "--queue", "default"]).await?;
    assert_eq!(reviewer["line"], json!("tidegate review list --reviewer bob"));
    for added in [&tool, &reviewer] {
        let seed = added["nkey_seed_file"].as_str().context("a seed file")?;
        assert!(std::path::Path::new(seed).exists(), "{added}");
    }
    let after = cell.json(&["tenant", "list"]).await?;
    assert!(after["tenants"]["acme"]["tools"].get("ledger").is_some(), "{after}");
    assert!(after["reviewers"].get("bob").is_some(), "{after}");
    Ok(())
}

/// `audit workflow` and `audit tail --once`.
async fn a_workflow_is_told_as_a_tree(cell: &TestCell) -> Result<()> {
    let task = ["submit", "embed", "one", "--sensitivity", "internal", "--workflow", WORKFLOW];
    let first = cell.json(&task).await?;
    assert_eq!(first["state"], json!("completed"), "{first}");
    let file = tempfile::NamedTempFile::new()?;
    let labels = json!({ "sensitivity": "internal" });
    let child = json!({ "labels": labels, "parent_task": first["task"], "input": { "texts": ["two"] } });
    std::fs::write(file.path(), child.to_string())?;
    let body = file.path().display().to_string();
    let second = cell.json(&["submit", "embed", "--body", &body, "--workflow", WORKFLOW]).await?;
    assert_eq!(second["state"], json!("completed"), "{second}");

    let tasks = until("both tasks to have ended on record", SOON, || async {
        let told = cell.json(&["audit", "workflow", WORKFLOW]).await?;
        let tasks = items(&told["tasks"], "tasks")?.clone();
        let ended = tasks.len() == 2 && tasks.iter().all(|task| task["state"] == "completed");
        Ok(ended.then_some(tasks))
    })
    .await?;
    assert_eq!((&tasks[0]["task"], &tasks[0]["depth"]), (&first["task"], &json!(0)), "the cause is first");
    assert_eq!((&tasks[1]["task"], &tasks[1]["depth"]), (&second["task"], &json!(1)));
    assert_eq!(tasks[1]["parent"], first["task"]);
    let other = cell.json(&["audit", "workflow", "ticket-1"]).await?;
    assert_eq!(other["tasks"], json!([]), "negative control");

    let newest = lines(cell, &["audit", "tail", "--once", "-n", "3"]).await?;
    let indices: Vec<u64> = newest.iter().filter_map(|record| record["index"].as_u64()).collect();
    assert_eq!(indices.len(), 3, "{newest:?}");
    assert!(indices.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order, none left out: {indices:?}");
    assert!(newest.iter().all(|record| record["kind"].is_string()), "{newest:?}");
    Ok(())
}

/// `submit --stream`: what its task's agent hears piece by piece is what the command prints.
async fn tokens_stream(cell: &TestCell) -> Result<()> {
    let agent = until("the agent to be let in", SOON, || async {
        Ok(Agent::connect(cell, "acme", "helpdesk").await.ok())
    })
    .await?;
    let id = Uuid::now_v7().to_string();
    let mut deltas = agent.bus().subscribe_core(&format!("delta.helpdesk.{id}")).await?;
    agent.bus().flush().await?;
    let question = ["submit", "chat", "Name three rivers.", "--sensitivity", "restricted", "--stream"];
    let sampling = ["--max-tokens", "12", "--temperature", "0", "--id", &id];
    let output = cell.output(&[question.as_slice(), sampling.as_slice()].concat()).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("completed in "), "{told}");
    assert!(told.contains(" at local-chat"), "restricted data stays here: {told}");
    let mut heard = String::new();
    loop {
        let delta = tokio::time::timeout(SOON, deltas.next()).await.context("no last piece in time")?;
        let delta: Value = serde_json::from_slice(&delta.context("the connection closed")?.payload)?;
        heard.push_str(delta["text"].as_str().context("a text")?);
        if delta["last"] == true {
            break;
        }
    }
    assert!(!printed.trim().is_empty(), "{told}");
    // The last pieces may come after the result, by another way; the command does not wait for them.
    assert!(heard.starts_with(printed.trim_end()), "{printed:?} {heard:?}");
    assert_eq!(cell.json(&["task", "get", &id]).await?["state"], json!("completed"));
    Ok(())
}

/// Submits a task that is held, and waits until this reviewer sees it: its id, and its review's number.
async fn held(cell: &TestCell, reviewer: &str) -> Result<(String, String)> {
    let question = ["submit", "chat", "May this person have a loan?", "--max-tokens", "8", "--no-wait"];
    let labels = ["--sensitivity", "public", "--stakes", "high"];
    let accepted = cell.json(&[question.as_slice(), labels.as_slice()].concat()).await?;
    let id = accepted["task"].as_str().context("an id")?.to_owned();
    let review = until("the review", SOON, || async {
        // A reviewer who was just added may be unknown for a moment.
        let output = cell.output(&["review", "list", "--reviewer", reviewer, "--json"]).await?;
        let waiting: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let found = waiting.as_array().and_then(|all| all.iter().find(|held| held["task"] == id.as_str()));
        Ok(found.and_then(|held| held["review"].as_u64()))
    })
    .await?;
    Ok((id, review.to_string()))
}

/// A task's result, once it has one.
async fn ended(cell: &TestCell, id: &str) -> Result<Value> {
    until("the task's result", SOON, || async {
        let output = cell.output(&["task", "get", id, "--json"]).await?;
        let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        // Where only the record knows it yet, the state stands without the rest.
        Ok((output.status.success() && result["schema_version"].is_u64()).then_some(result))
    })
    .await
}

/// `review reject`, by the reviewer who was added; the task's id.
async fn a_reviewer_rejects(cell: &TestCell) -> Result<String> {
    let (id, review) = held(cell, "bob").await?;
    let reject = ["review", "reject", &review, "--reviewer", "bob", "--reason", "not for a provider"];
    let verdict = cell.json(&reject).await?;
    assert_eq!(verdict["task"], json!(id));
    assert!(verdict["verdict"].as_str().is_some_and(|at| at.starts_with("EVENTS:")), "{verdict}");
    let result = ended(cell, &id).await?;
    assert_eq!(
        (&result["state"], &result["error"]["code"]),
        (&json!("rejected"), &json!("review_rejected")),
        "{result}"
    );
    Ok(id)
}

/// `review edit`: the new input is judged again, so what a recogniser finds in it keeps it here.
async fn a_reviewer_edits(cell: &TestCell) -> Result<()> {
    let (id, review) = held(cell, "alice").await?;
    let shown = cell.json(&["review", "show", &review]).await?;
    let before = &shown["review"]["decision"]["destination"]["name"];
    assert_eq!(before, &json!("standin"), "negative control: as it was, it would leave; {shown}");
    let file = tempfile::NamedTempFile::new()?;
    let messages = json!([{ "role": "user", "content": "My card is 4111 1111 1111 1111, is it valid?" }]);
    let input = json!({ "messages": messages, "sampling": { "max_tokens": 8 } });
    std::fs::write(file.path(), input.to_string())?;
    let input = file.path().display().to_string();
    let verdict = cell.json(&["review", "edit", &review, "--input", &input, "--reason", "a number"]).await?;
    assert_eq!(verdict["task"], json!(id));
    let result = ended(cell, &id).await?;
    assert_eq!(
        (&result["state"], &result["destination"]["lane"]),
        (&json!("completed"), &json!("local")),
        "{result}"
    );
    Ok(())
}

/// A policy that asks for two: the second one's word decides, and nobody counts twice.
async fn two_reviewers_agree(cell: &TestCell) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = dir.path().join("bundle").display().to_string();
    cell.tidegate(&["policy", "new", &bundle]).await?;
    let people = dir.path().join("bundle/policies/50-people.cedar");
    let text = std::fs::read_to_string(&people)?;
    let one = "@id(\"review-high-stakes\")";
    anyhow::ensure!(text.contains(one), "the policy that holds");
    std::fs::write(&people, text.replace(one, &format!("{one}\n@quorum(\"2\")")))?;
    // Another forbid than before is told as what may let more leave, though it does not: another operator agrees.
    let pushed = cell.json(&["bundle", "push", &bundle, "--reason", "two must agree"]).await?;
    let hash = pushed["bundle"].as_str().context("a hash")?.to_owned();
    cell.tidegate(&["tool", "operator", "olga"]).await?;
    until("the other operator's agreement", SOON, || async {
        let agreed = cell.output_as("olga", &["bundle", "approve", &hash, "--reason", "stricter"]).await?;
        Ok(agreed.status.success().then_some(()))
    })
    .await?;
    let applied = cell.json(&["policy", "apply", &bundle, "--reason", "two must agree"]).await?;
    // A router takes a bundle over within a second; what came before is judged by the one before.
    let (id, review) = until("a task that the new bundle holds", SOON, || async {
        let (id, review) = held(cell, "alice").await?;
        let shown = cell.json(&["review", "show", &review]).await?;
        Ok((shown["review"]["decision"]["bundle"] == applied["bundle"]).then_some((id, review)))
    })
    .await?;
    let approve = |who: &'static str| {
        let review = review.clone();
        async move { cell.output(&["review", "approve", &review, "--reviewer", who, "--reason", "fine"]).await }
    };
    assert!(approve("alice").await?.status.success());
    let shown = until("the first approval", SOON, || async {
        let shown = cell.json(&["review", "show", &review]).await?;
        Ok(shown["approved_by"].is_array().then_some(shown))
    })
    .await?;
    assert_eq!((&shown["approved_by"], &shown["state"]), (&json!(["alice"]), &json!("input_required")));
    let twice = approve("alice").await?;
    let said = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(!twice.status.success() && said.contains("2 must approve"), "{said}");
    assert!(approve("bob").await?.status.success());
    assert_eq!(ended(cell, &id).await?["state"], json!("completed"));
    let works = cell.json(&["audit", "query", "--kind", "work", "--limit", "100"]).await?;
    let works = works["records"].as_array().context("records")?;
    assert_eq!(works.iter().filter(|work| work["task"] == id.as_str()).count(), 1, "it ran once");
    Ok(())
}

/// `results`, by a tool that reads content and by the one that was added, which reads headers only.
async fn tools_read_results(cell: &TestCell, rejected: &str) -> Result<()> {
    // What was read does not come again; a look that ended too early is followed by another one.
    let only = until("the rejected result", SOON, || async {
        let shown = lines(cell, &["results", "--state", "rejected", "--limit", "1"]).await?;
        Ok((!shown.is_empty()).then_some(shown))
    })
    .await?;
    assert_eq!(only.len(), 1, "{only:?}");
    let (only, code) = (&only[0], json!("review_rejected"));
    assert_eq!((&only["task"], &only["code"]), (&json!(rejected), &code), "{only}");
    assert_eq!(only["result"]["error"]["code"], code, "this tool reads content: {only}");

    let mut read = Vec::new();
    let results = ["results", "--tool", "ledger", "--agent", "helpdesk"];
    // Two of a workflow, one that streamed, one rejected, one edited.
    while read.len() < 5 {
        let more = until("more results", SOON, || async {
            let shown = lines(cell, &results).await?;
            Ok((!shown.is_empty()).then_some(shown))
        });
        let more = more.await.with_context(|| format!("after {read:?}"))?;
        read.extend(more);
    }
    let states: Vec<&str> = read.iter().filter_map(|result| result["state"].as_str()).collect();
    assert_eq!(states.iter().filter(|state| **state == "completed").count(), 4, "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == "rejected").count(), 1, "{states:?}");
    assert!(read.iter().all(|result| result["agent"] == "helpdesk"), "{read:?}");
    assert!(read.iter().all(|result| result.get("result").is_none()), "headers only: {read:?}");
    assert_eq!(lines(cell, &results).await?, Vec::<Value>::new(), "negative control: each comes once");
    Ok(())
}
