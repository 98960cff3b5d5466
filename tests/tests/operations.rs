//! Stories of those who run a cell: garbage and dead letters, withdrawals, late tasks, a new policy, replay.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound, Role, topology};
use tidegate_schemas::code::Code;
use tidegate_schemas::control::{ACTIVE_KEY, Act, Active, Control, DIRECTORY_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::{self, Directory};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject::{Lane, WORK_CLOUD, WORK_LOCAL};
use tidegate_tests::cell::{program, root};
use tidegate_tests::client::connect;
use tidegate_tests::conservation::Ledger;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
/// What a bundle may take, from the operator's act to its being the active one.
const APPLIED_MS: u64 = 1_000;

fn embed() -> Value {
    json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } })
}

fn code(result: &TaskResult) -> Option<Code> {
    result.error.as_ref().map(|error| error.code)
}

/// Dead letters, oldest first, once there are so many.
async fn letters(cell: &TestCell, count: usize) -> Result<Vec<Value>> {
    until("the dead letters", SOON, || async {
        let list = cell.json(&["dead", "list"]).await?;
        let list = list.as_array().cloned().unwrap_or_default();
        Ok((list.len() == count).then_some(list))
    })
    .await
}

/// By a word that is too long to name a task.
fn withdrawal_of_nothing() -> Outbound {
    Outbound::new(format!("cancel.helpdesk.{}", "x".repeat(400)), Vec::new())
}

#[tokio::test]
async fn story_garbage_costs_one_dead_letter_and_an_operator_deals_with_it() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    assert_eq!(letters(&cell, 0).await?, Vec::<Value>::new(), "negative control");
    let worker = connect(&cell, Role::Local.into()).await?;
    worker.publish(Outbound::new("step.local.acme", "no step at all")).await?;
    let first = letters(&cell, 1).await?.remove(0);
    assert_eq!((&first["role"], &first["handled"]), (&json!("router"), &Value::Null));
    let number = first["sequence"].to_string();
    let shown = cell.tidegate(&["dead", "show", &number]).await?;
    assert!(shown.contains("STEPS:1") && shown.contains("requeue"), "{shown}");
    assert!(!shown.contains("no step at all"), "a letter quotes nothing");

    cell.tidegate(&["dead", "requeue", &number, "--reason", "look again"]).await?;
    let both = letters(&cell, 2).await?;
    assert_eq!(both[0]["handled"]["act"], json!("requeued"));
    assert_eq!(both[1]["message"], json!("STEPS:1"), "what fails again gets a letter of its own");
    let number = both[1]["sequence"].to_string();
    cell.tidegate(&["dead", "discard", &number, "--reason", "garbage"]).await?;
    let both = until("the act on record", SOON, || async {
        let list = cell.json(&["dead", "list"]).await?;
        Ok((list[1]["handled"]["act"] == "discarded").then_some(list))
    })
    .await?;
    assert_eq!(both.as_array().map(Vec::len), Some(2));
    let twice = cell.output(&["dead", "discard", &number, "--reason", "garbage"]).await?;
    assert!(!twice.status.success(), "once is enough");
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "the next task runs");

    agent.bus().publish(withdrawal_of_nothing()).await?;
    let last = letters(&cell, 3).await?.remove(2);
    assert_eq!((&last["tenant"], &last["code"]), (&json!("acme"), &json!("invalid_field")), "{last}");
    // What no role can read is not offered again: the act would be on record, and lead to another letter.
    let number = last["sequence"].to_string();
    let shown = cell.tidegate(&["dead", "show", &number]).await?;
    assert!(shown.contains("dead discard") && !shown.contains("dead requeue"), "{shown}");
    let refused = cell.output(&["dead", "requeue", &number, "--reason", "try"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("dead discard"), "{said}");
    assert_eq!(letters(&cell, 3).await?[2]["handled"], Value::Null, "nothing was done");
    Ok(())
}

#[tokio::test]
async fn story_submit_tells_what_became_of_any_envelope() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let files = tempfile::tempdir()?;
    let path = files.path().join("task.json").display().to_string();
    let large =
        json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x".repeat(600_000)] } });
    let unknown =
        json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] }, "inputs": 1 });
    let bare = json!({ "labels": { "sensitivity": "internal" } });
    for (body, code) in [(unknown, "invalid_field"), (bare, "invalid_field"), (large, "too_large")] {
        std::fs::write(&path, body.to_string())?;
        let output = cell.output(&["submit", "embed", "--body", &path, "--json"]).await?;
        assert_eq!(output.status.code(), Some(1), "{code}");
        let told: Value = serde_json::from_slice(&output.stdout).context(code)?;
        assert_eq!(told["error"]["code"], json!(code));
        let id = told["task"].as_str().context("an id")?.to_owned();
        assert_eq!(cell.json(&["task", "get", &id]).await?["state"], json!("rejected"));
        until("the task on record", SOON, || async {
            let told = cell.output(&["audit", "task", &id]).await?;
            Ok(String::from_utf8_lossy(&told.stdout).contains(code).then_some(()))
        })
        .await?;
    }

    let task =
        |text: &'static str| ["submit", "embed", text, "--sensitivity", "internal", "--id", "order-17"];
    let first = cell.json(&task("x")).await?;
    assert_eq!((&first["state"], &first["outcome"]), (&json!("completed"), &json!("local")), "{first}");
    assert!(first["sentence"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{first}");
    let again = cell.json(&task("x")).await?;
    assert_eq!((&again["task"], &again["output"]), (&first["task"], &first["output"]), "the first one's");
    let other = cell.output(&[task("y").as_slice(), &["--json"]].concat()).await?;
    let other: Value = serde_json::from_slice(&other.stdout).context("the other content's result")?;
    assert_eq!(other["error"]["code"], json!("id_conflict"), "{other}");
    assert_eq!(cell.json(&["task", "get", "order-17"]).await?["task"], first["task"]);
    let by_name = ["audit", "task", "order-17", "--tenant", "acme", "--agent", "helpdesk"];
    assert!(cell.tidegate(&by_name).await?.contains(first["task"].as_str().unwrap_or("an id")));
    let nobody_s = cell.output(&by_name[..3]).await?;
    let said = String::from_utf8_lossy(&nobody_s.stderr).into_owned();
    assert!(!nobody_s.status.success() && said.contains("--tenant and --agent"), "{said}");

    let held = [
        "submit",
        "chat",
        "May I?",
        "--sensitivity",
        "public",
        "--stakes",
        "high",
        "--id",
        "held",
        "--no-wait",
    ];
    cell.tidegate(&held).await?;
    until("the held task on record", SOON, || async {
        let output = cell.output(&["task", "get", "held", "--json"]).await?;
        assert_eq!(output.status.code(), Some(2), "it has not ended");
        let told: Value = serde_json::from_slice(&output.stdout)?;
        Ok((told["state"] == "input_required" && told["decision"]["outcome"] == "hold").then_some(()))
    })
    .await?;

    for wrong in [["--stakes", "hihg"], ["--body", &path]] {
        let output = cell.output(&[["submit", "embed", "x"].as_slice(), wrong.as_slice()].concat()).await?;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let both = cell.output(&["submit", "embed", "--body", &path, "--sensitivity", "public"]).await?;
    assert_eq!(both.status.code(), Some(2), "the envelope says it");
    Ok(())
}

#[tokio::test]
async fn story_a_task_is_withdrawn_or_late() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let id = Uuid::now_v7().to_string();
    let long = json!({ "id": id, "labels": { "sensitivity": "confidential" }, "input": {
        "messages": [{ "role": "user", "content": "Count as far as you can." }], "sampling": { "max_tokens": 2000 } } });
    let result = agent.ask_and_withdraw(&cell, "chat", long).await?;
    assert_eq!((result.state, code(&result)), (State::Canceled, Some(Code::Canceled)));
    let again = cell.tidegate(&["task", "get", &id]).await?;
    assert!(again.contains("canceled"), "{again}");

    let past = Headers::new().with("ce-expirytime", "2020-01-01T00:00:00Z");
    let late = agent.ask_raw("embed", past, embed().to_string().into_bytes()).await?;
    assert_eq!((late.state, code(&late)), (State::Failed, Some(Code::PastDeadline)), "{late:?}");
    let mut short = embed();
    short["limits"] = json!({ "deadline_ms": 1 });
    let late = agent.ask("embed", short).await?;
    let too_late = [Some(Code::PastDeadline), Some(Code::DeadlineExceeded)].contains(&code(&late));
    assert!(late.state == State::Failed && too_late, "{late:?}");
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "the next task runs");

    let unknown = Uuid::now_v7().to_string();
    cell.tidegate(&["task", "cancel", &unknown]).await?;
    // By the producer's own identifier, which the task still to come will have.
    agent.bus().publish(Outbound::new("cancel.helpdesk.order-9", Vec::new())).await?;
    let own = Headers::new().with("ce-id", "order-9");
    let withdrawn = agent.ask_raw("embed", own, embed().to_string().into_bytes()).await?;
    assert_eq!((withdrawn.state, code(&withdrawn)), (State::Canceled, Some(Code::Canceled)));
    // What can name no task costs a dead letter.
    agent.bus().publish(withdrawal_of_nothing()).await?;
    until("its dead letter", SOON, || async {
        Ok(cell.json(&["dead", "list"]).await?.pointer("/0/sequence").and_then(Value::as_u64))
    })
    .await?;
    until("the withdrawal on record", SOON, || async {
        let page = cell.json(&["audit", "query", "--kind", "cancel"]).await?;
        Ok((page["records"].as_array().map(Vec::len) == Some(3)).then_some(()))
    })
    .await?;
    until("its result on record", SOON, || async {
        let page = cell.json(&["audit", "query", "--kind", "result", "--state", "canceled"]).await?;
        Ok((page["records"].as_array().map(Vec::len) == Some(3)).then_some(()))
    })
    .await?;
    let status = cell.screen().await?;
    assert_eq!(status.pointer("/record/alarms"), Some(&json!(0)), "any agent may withdraw any id: {status}");
    Ok(())
}

#[tokio::test]
async fn story_a_task_that_would_wait_beyond_its_deadline_is_rejected_at_once() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let question = |max_tokens: u32, deadline_ms: u64| {
        json!({ "labels": { "sensitivity": "restricted" }, "limits": { "deadline_ms": deadline_ms }, "input": {
            "messages": [{ "role": "user", "content": "Go on." }], "sampling": { "max_tokens": max_tokens } } })
    };
    let alone = agent.ask("chat", question(1, 20_000)).await?;
    assert_eq!(alone.state, State::Completed, "negative control: an empty queue takes it, {alone:?}");
    for _ in 0..200 {
        let body = question(64, 60_000).to_string().into_bytes();
        agent.publish("chat", None, Headers::new(), body).await?;
    }
    let rejected = until("the queue's length to be known", SOON, || async {
        let result = agent.ask("chat", question(1, 2_000)).await?;
        Ok((result.state == State::Rejected).then_some(result))
    })
    .await?;
    let error = rejected.error.context("an error")?;
    assert_eq!(error.code, Code::Overloaded, "{error:?}");
    assert!(error.retry_after_ms.is_some_and(|ms| ms > 0), "when to come again: {error:?}");
    let status = cell.screen().await?;
    let queues = status["queues"].as_array().context("queues")?;
    let waits = |queue: &&Value| {
        let positive = |name: &str| queue[name].as_u64().is_some_and(|count| count > 0);
        positive("waiting") && positive("oldest_ms")
    };
    let long: Vec<&Value> = queues.iter().filter(waits).collect();
    assert!(long.iter().any(|queue| queue["stream"] == WORK_LOCAL), "the screen shows the queue: {status}");
    assert!(long.len() < queues.len(), "negative control: not every queue is long, {status}");
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "another pool is free");
    Ok(())
}

/// The act that makes `directory` the active one, as an operator's command publishes it.
async fn activate(cell: &TestCell, base: Digest, directory: Directory) -> Result<u64> {
    let admin = connect(cell, Identity::Operator(Name::new("admin")?)).await?;
    let act = Act::DirectoryActivate { base, directory: Box::new(directory) };
    let control = Control { schema_version: 1, act, reason: "by hand".to_owned() };
    let act = Outbound::new("control.directory.admin", serde_json::to_vec(&control)?);
    Ok(admin.publish(act).await?.sequence)
}

/// What is active, and the directory.
async fn directory(cell: &TestCell) -> Result<(Active, Directory)> {
    let bus = connect(cell, Role::Provisioner.into()).await?;
    let active = bus.kv_get(DIRECTORY_BUCKET, ACTIVE_KEY).await?.context("a pointer")?;
    let active: Active = serde_json::from_slice(&active.value)?;
    let found = bus.kv_get(DIRECTORY_BUCKET, &active.hash.to_string()).await?.context("a directory")?;
    Ok((active, serde_json::from_slice(&found.value)?))
}

/// An agent of acme is let in, and its tasks run once the routers know it.
async fn served(cell: &TestCell, agent: &str) -> Result<()> {
    let agent = Agent::connect(cell, "acme", agent).await?;
    until("the agent's task to run", SOON, || async {
        Ok((agent.ask("embed", embed()).await?.state == State::Completed).then_some(()))
    })
    .await
}

#[tokio::test]
async fn story_changes_of_the_directory_at_the_same_time_all_stand() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let (before, first) = directory(&cell).await?;
    let add = async |agent: &str| cell.json(&["agent", "add", "acme", agent, "--role", "agent"]).await;
    let added = tokio::try_join!(add("one"), add("two"), add("three"), add("four"))?;
    assert!(added.0["line"].as_str().is_some_and(|line| line.contains("--inbox-prefix _INBOX.agent.one ")));
    let (now, all) = directory(&cell).await?;
    let agents = &all.tenants[&Name::new("acme")?].agents;
    assert_eq!(agents.len(), 5, "{agents:?}");
    for agent in ["one", "two", "three", "four"] {
        served(&cell, agent).await?;
    }
    // What was made from an older directory is refused, and nothing is lost.
    let refused = activate(&cell, before.hash, first).await?;
    let about = format!("EVENTS:{refused}");
    let refusal = until("the refusal", SOON, || async {
        let all = cell.json(&["audit", "query", "--kind", "control", "--limit", "100"]).await?;
        let all = all["records"].as_array().context("records")?.clone();
        let is_it = |leaf: &&Value| leaf["cause"] == about && leaf["detail"]["control"]["act"] == "refused";
        Ok(all.iter().find(is_it).cloned())
    })
    .await?;
    assert_eq!(refusal["code"], json!("outdated"));
    assert_eq!(cell.json(&["dead", "list"]).await?, json!([]), "a refusal is no work for an operator");
    assert_eq!(directory(&cell).await?.0, now);

    // A command that was cut short left an agent without keys and accounts: the same command makes up for it.
    let mut more = all.clone();
    let agent = directory::Agent { roles: [Name::new("agent")?].into(), ..directory::Agent::default() };
    more.tenants.get_mut(&Name::new("acme")?).context("acme")?.agents.insert(Name::new("five")?, agent);
    let event = activate(&cell, now.hash, more).await?;
    until("the act", SOON, || async { Ok((directory(&cell).await?.0.event == event).then_some(())) }).await?;
    assert!(Agent::connect(&cell, "acme", "five").await.is_err(), "negative control");
    add("five").await?;
    served(&cell, "five").await?;
    assert_eq!(directory(&cell).await?.0.event, event, "nothing had to be changed");
    let other = cell.output(&["agent", "add", "acme", "five", "--role", "auditor"]).await?;
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && said.contains("with other settings"), "{said}");
    Ok(())
}

#[test]
fn a_bundle_whose_case_fails_is_not_well() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = dir.path().join("bundle").display().to_string();
    let policy =
        |word: &str| Command::new(program()).current_dir(root()).args(["policy", word, &bundle]).output();
    assert!(policy("new")?.status.success());
    let check = policy("check")?;
    let said = String::from_utf8(check.stdout)?;
    assert!(check.status.success() && said.starts_with("well: "), "negative control: {said}");
    let cases = dir.path().join("bundle/cases/10-sensitivity.toml");
    let text = std::fs::read_to_string(&cases)?;
    let wrong = text.replacen("outcome = \"local\"", "outcome = \"reject\"", 1);
    assert_ne!(text, wrong);
    std::fs::write(&cases, wrong)?;
    let check = policy("check")?;
    let said = String::from_utf8(check.stdout)?;
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED ") && said.contains("expected reject, got local"), "{said}");
    assert!(said.contains("1 cases FAILED: ") && !said.contains("well: "), "{said}");
    Ok(())
}

#[test]
fn prove_without_the_prover_or_its_solver_proves_nothing_and_says_what_to_do() -> Result<()> {
    let prove = |program: &std::path::Path, cvc5: Option<&str>| -> Result<(Option<i32>, String)> {
        let mut command = Command::new(program);
        command.current_dir(root()).args(["policy", "prove", "--only", "pci-never-leaves"]);
        match cvc5 {
            // Neither the prover nor a solver is on this path.
            None => command.env("PATH", "/nowhere"),
            Some(cvc5) => command.env("CVC5", cvc5),
        };
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?))
    };
    let program = program();
    let (code, said) = prove(&program, Some("/nowhere/cvc5"))?;
    assert!(code == Some(3) && said.contains("NOT PROVEN") && said.contains("install cvc5"), "{said}");
    // The program alone, as somebody may have copied it. It is too large to copy for a test.
    let alone = tempfile::tempdir_in(program.parent().context("it stands in a directory")?)?;
    let copy = alone.path().join("tidegate");
    std::fs::hard_link(&program, &copy)?;
    let (code, said) = prove(&copy, None)?;
    assert!(code == Some(3) && said.contains("build it with `cargo build"), "{said}");
    let nowhere = Command::new(&program).args(["policy", "prove", "--against", "/nowhere"]).output()?;
    let said = String::from_utf8(nowhere.stderr)?;
    assert!(nowhere.status.code() == Some(3) && said.contains("/nowhere"), "not a refutation: {said}");
    Ok(())
}

/// `policy test`, `fmt` and `diff` on a copy of the default bundle, none of which needs a cell.
#[test]
fn a_bundle_is_tested_laid_out_and_compared_before_it_is_applied() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = dir.path().join("bundle");
    let name = bundle.display().to_string();
    let policy = |words: &[&str]| -> Result<(Option<i32>, String)> {
        let cell = dir.path().join("no-cell");
        let output = Command::new(program())
            .current_dir(root())
            .env("TIDEGATE_CELL", cell)
            .arg("policy")
            .args(words)
            .output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?))
    };
    assert_eq!(policy(&["new", &name])?.0, Some(0));
    let shipped = "policies/bundles/default";
    assert!(policy(&["diff", shipped, &name])?.1.starts_with("the same bundle, "), "negative control");

    // What ships is laid out, and tested.
    for ships in [shipped, "policies/bundles/demo"] {
        let laid = policy(&["fmt", ships, "--check"])?;
        assert_eq!(laid.0, Some(0), "{}", laid.1);
        let tested = policy(&["test", ships, "--no-model"])?;
        assert_eq!(tested.0, Some(0), "{}", tested.1);
    }
    // Another layout is no other bundle.
    let route = bundle.join("policies/10-route.cedar");
    let text = std::fs::read_to_string(&route)?;
    assert!(text.contains("permit (\n  principal is Agent,"), "{text}");
    std::fs::write(&route, text.replace("permit (\n  principal is Agent,", "permit (principal is Agent,"))?;
    let laid = policy(&["fmt", &name, "--check"])?;
    assert_eq!(laid.0, Some(2), "{}", laid.1);
    assert!(laid.1.contains("would be laid out: ") && laid.1.contains("10-route.cedar"), "{}", laid.1);
    assert_eq!(policy(&["fmt", &name])?.0, Some(0));
    assert_eq!(policy(&["fmt", &name, "--check"])?.0, Some(0));
    assert!(policy(&["diff", shipped, &name])?.1.starts_with("the same bundle, "));

    // Every policy is covered, and no lost forbid goes unnoticed; one that no case needs is named.
    let tested = policy(&["test", &name, "--no-model"])?;
    assert_eq!(tested.0, Some(0), "{}", tested.1);
    let idle = "@id(\"idle\") @owner(\"o\") @title(\"t\")\nforbid (principal, action in [Action::\"Route\"], resource) when { context.hop > 99 };\n";
    std::fs::write(bundle.join("policies/99-more.cedar"), idle)?;
    let (code, said) = policy(&["test", &name, "--no-model", "--json"])?;
    let told: Value = serde_json::from_str(&said)?;
    assert_eq!((code, &told["silent"], &told["survivors"]), (Some(2), &json!(["idle"]), &json!(["idle"])));
    let (code, said) = policy(&["diff", shipped, &name, "--json"])?;
    let told: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (code, &told["same"], told["changes"].as_array().map(Vec::len)),
        (Some(0), &json!(false), Some(1))
    );
    assert_eq!(
        (&told["changes"][0]["what"], &told["changes"][0]["effect"]),
        (&json!("idle"), &json!("forbid"))
    );

    // Cases of Cedar's own command line cover it, with the entities that they bring.
    let read = |file: &str| std::fs::read(bundle.join("cases").join(file));
    let mut tests: Value = serde_json::from_slice(&read("80-scanned.json")?)?;
    let entities: Value = serde_json::from_slice(&read("80-entities.json")?)?;
    let own = &mut tests[0];
    (own["entities"], own["decision"], own["reason"]) = (entities, json!("deny"), json!(["idle"]));
    own["request"]["context"]["hop"] = json!(100);
    let file = dir.path().join("tests.json");
    std::fs::write(&file, json!([own]).to_string())?;
    let more = file.display().to_string();
    let tested = policy(&["test", &name, "--no-model", "--cedar-tests", &more])?;
    assert_eq!(tested.0, Some(0), "{}", tested.1);

    // What breaks a rule is refused with its place, and nothing is laid out.
    std::fs::write(bundle.join("policies/99-more.cedar"), idle.replace("hop > 99", "hop * 2 > 99"))?;
    for words in [&["check", &name][..], &["test", &name], &["fmt", &name], &["diff", shipped, &name]] {
        let (code, said) = policy(words)?;
        let refused = if ["check", "test"].contains(&words[0]) { 3 } else { 1 };
        assert_eq!(code, Some(refused), "{said}");
        assert!(said.contains("`99-more.cedar` line 1: policy `idle` computes with `*`"), "{said}");
    }
    let (code, said) = policy(&["diff", &name])?;
    assert!(code == Some(1) && said.contains("no cell answers here"), "{said}");
    Ok(())
}

#[tokio::test]
async fn story_a_tenant_beyond_its_quota_is_told_to_come_again() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    cell.tidegate(&["tenant", "quota", "acme", "--in-flight-max", "2", "--reason", "a drill"]).await?;
    // Held tasks stay open until a person decides.
    let held = json!({ "labels": { "sensitivity": "public", "stakes": "high" },
        "input": { "messages": [{ "role": "user", "content": "May I?" }] } });
    for _ in 0..3 {
        agent.publish("chat", None, Headers::new(), held.to_string().into_bytes()).await?;
    }
    let rejected = until("the open tasks to be counted", SOON, || async {
        let result = agent.ask("embed", embed()).await?;
        Ok((result.state == State::Rejected).then_some(result))
    })
    .await?;
    let error = rejected.error.context("an error")?;
    assert_eq!(error.code, Code::Overloaded, "{error:?}");
    assert!(error.retry_after_ms.is_some_and(|ms| ms > 0), "when to come again: {error:?}");
    // Negative control: with room for more the same task runs.
    cell.tidegate(&["tenant", "quota", "acme", "--in-flight-max", "100", "--reason", "it is over"]).await?;
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed);
    Ok(())
}

#[tokio::test]
async fn story_while_a_stream_is_nearly_full_tasks_wait_and_none_is_lost() -> Result<()> {
    let cell = TestCell::start(&["--stream-bytes-max", "4194304"]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "negative control");
    let admission = || async {
        let status = cell.output(&["status", "--json"]).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&status.stdout).contains("is over 80 % of its bytes"))
    };
    assert!(!admission().await?, "negative control");
    // Work that no pool takes.
    let router = connect(&cell, Role::Router.into()).await?;
    for _ in 0..6 {
        router.publish(Outbound::new("work.local.nobody.batch.acme", vec![b'x'; 600 * 1024])).await?;
    }
    until("admission to close", SOON, || async { Ok(admission().await?.then_some(())) }).await?;

    let id = Uuid::now_v7().to_string();
    let task = json!({ "id": id, "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    agent.publish("embed", Some(&id), Headers::new(), task.to_string().into_bytes()).await?;
    let get = || async { cell.output(&["task", "get", &id, "--json"]).await };
    // The router has taken it, and has dealt with what came after it.
    let operator = connect(&cell, Role::Provisioner.into()).await?;
    let tasks = topology::tasks_consumer(&Name::new("acme")?);
    until("the task to be taken", SOON, || async {
        let state = operator.consumer_info(&tasks.stream, &tasks.durable_name).await?;
        Ok((state.ack_pending == 1).then_some(()))
    })
    .await?;
    let worker = connect(&cell, Role::Local.into()).await?;
    worker.publish(Outbound::new("step.local.acme", "no step at all")).await?;
    letters(&cell, 1).await?;
    assert_eq!(get().await?.status.code(), Some(2), "it has not ended");
    let work = router.stream_info(WORK_LOCAL).await?.last;
    assert_eq!(work, 7, "nothing was put into the stream that is nearly full");

    connect(&cell, Role::Recorder.into()).await?.purge_before(WORK_LOCAL, work + 1).await?;
    until("the task's result", SOON, || async { Ok((get().await?.status.code() == Some(0)).then_some(())) })
        .await?;
    assert!(!admission().await?);
    Ok(())
}

/// Has the cell's server start again with another limit of all streams together.
async fn file_store(cell: &TestCell, most: &str) -> Result<()> {
    let path = cell.path().join("nats/nats.conf");
    let config = std::fs::read_to_string(&path)?;
    let line = config.lines().find(|line| line.contains("max_file_store:")).context("no such limit")?;
    std::fs::write(&path, config.replace(line, &format!("  max_file_store: {most}")))?;
    cell.kill_and_wait("nats").await
}

#[tokio::test]
async fn story_while_the_server_has_no_room_nothing_is_accepted_and_nothing_is_lost() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let operator = Operator::connect(&cell).await?;
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "negative control");
    let before = cell.output(&["status"]).await?;
    assert!(!String::from_utf8_lossy(&before.stdout).contains("no room"), "negative control");
    // A task that is accepted while there is room, and worked on when there is none for its result.
    cell.signal("local", Signal::SIGSTOP)?;
    let id = Uuid::now_v7().to_string();
    let task = json!({ "id": id, "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    agent.publish("embed", Some(&id), Headers::new(), task.to_string().into_bytes()).await?;
    let last = |stream: &'static str| {
        let bus = operator.bus();
        // While the connection comes back there is no answer.
        async move { bus.stream_info(stream).await.ok().map(|state| state.last) }
    };
    until("its work to be there", SOON, || async { Ok(last(WORK_LOCAL).await.filter(|last| *last == 2)) })
        .await?;
    file_store(&cell, "1KB").await?;
    cell.signal("local", Signal::SIGCONT)?;
    let log = cell.path().join("logs/local.log");
    until("the worker to be refused", SOON, || async {
        Ok(std::fs::read_to_string(&log)?.contains("no room for").then_some(()))
    })
    .await?;
    until("the screen to say so", SOON, || async {
        let status = String::from_utf8_lossy(&cell.output(&["status"]).await?.stdout).into_owned();
        let line = status.lines().find(|line| line.starts_with("local") && line.contains("NOT READY"));
        Ok(line.filter(|line| line.contains("no room for") && line.contains("max_file_store")).map(drop))
    })
    .await?;

    let rows: [(&[&str], &str); 2] = [
        (
            &["submit", "embed", "y", "--sensitivity", "internal", "--no-wait"],
            "no room for `task.helpdesk.embed`",
        ),
        (
            &["tenant", "add", "globex", "--owner", "ops@globex.example"],
            "no room for `$JS.API.STREAM.CREATE.",
        ),
    ];
    for (arguments, what) in rows {
        let refused = cell.output(arguments).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("tidegate: ")).count(), 1, "{said}");
        assert!(said.contains(what) && said.contains("raise `max_file_store`"), "{said}");
    }
    let accepted = until("the stream's state", SOON, || async { Ok(last("TASKS_acme").await) }).await?;
    assert_eq!(accepted, 2, "nothing was accepted");
    let tenants = cell.json(&["tenant", "list"]).await?;
    assert!(tenants.pointer("/tenants/globex").is_none() && tenants.pointer("/tenants/acme").is_some());
    let get = || async { cell.output(&["task", "get", &id, "--json"]).await };
    assert_eq!(get().await?.status.code(), Some(2), "the task before has not ended");

    // With room again it ends, and what was refused is taken.
    file_store(&cell, "16TB").await?;
    until("the task's result", SOON, || async { Ok((get().await?.status.code() == Some(0)).then_some(())) })
        .await?;
    for (arguments, _) in rows {
        cell.tidegate(arguments).await?;
    }
    let ledger = until("every task to end", SOON, || async {
        let Ok(ledger) = Ledger::read(&operator).await else { return Ok(None) };
        Ok((ledger.accepted.len() == 3 && ledger.open().is_empty()).then_some(ledger))
    })
    .await?;
    assert_eq!(ledger.breaches(), Vec::<String>::new());
    cell.tidegate(&["audit", "verify"]).await?;
    Ok(())
}

#[tokio::test]
async fn story_a_full_disk_stops_the_recorder_and_it_goes_on_by_itself() -> Result<()> {
    let cell = TestCell::start_cramped(8 << 20, &[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let readiness = || async {
        let status = cell.output(&["status", "--json"]).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&status.stdout).into_owned())
    };
    assert!(!readiness().await?.contains("the disk is full"), "negative control");
    let question = json!({ "labels": { "sensitivity": "public" }, "input": {
        "messages": [{ "role": "user", "content": "Hi" }], "sampling": { "max_tokens": 2 } } });
    let lane = |result: &TaskResult| result.destination.as_ref().map(|place| place.lane);
    let public = agent.ask("chat", question.clone()).await?;
    assert_eq!(lane(&public), Some(Lane::Cloud), "negative control: {public:?}");
    // A text that no worker can embed, so that it costs the record's room and little else.
    let large =
        json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["x".repeat(400_000)] } });
    until("the record to be full", SOON, || async {
        agent.publish("embed", None, Headers::new(), large.to_string().into_bytes()).await?;
        Ok(readiness().await?.contains("the disk is full").then_some(()))
    })
    .await?;
    let id = Uuid::now_v7().to_string();
    let task = json!({ "id": id, "labels": { "sensitivity": "internal" }, "input": { "texts": ["x"] } });
    agent.publish("embed", Some(&id), Headers::new(), task.to_string().into_bytes()).await?;
    let timeline = || async { cell.output(&["audit", "task", &id]).await };
    // Without a record nothing leaves.
    until("the cloud to close", SOON, || async {
        Ok(readiness().await?.contains("nothing goes to the cloud").then_some(()))
    })
    .await?;
    let router = connect(&cell, Role::Router.into()).await?;
    let sent = router.stream_info(WORK_CLOUD).await?.last;
    let kept = agent.ask("chat", question.clone()).await?;
    assert_eq!((kept.state, lane(&kept)), (State::Completed, Some(Lane::Local)), "{kept:?}");
    assert_eq!(router.stream_info(WORK_CLOUD).await?.last, sent, "no byte for a provider");
    // It came before a task that has ended since, so there was time to record it.
    assert!(!timeline().await?.status.success(), "nothing is recorded");

    let pid = cell.pid("recorder")?.to_string();
    let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status()?;
    assert!(lifted.success());
    until("the record to go on", SOON, || async {
        let told = timeline().await?;
        let ended = told.status.success() && String::from_utf8_lossy(&told.stdout).contains("completed");
        Ok(ended.then_some(()))
    })
    .await?;
    assert_eq!(cell.pid("recorder")?.to_string(), pid, "the same process");
    assert!(!readiness().await?.contains("the disk is full"));
    until("the cloud to open", SOON, || async {
        Ok((!readiness().await?.contains("nothing goes to the cloud")).then_some(()))
    })
    .await?;
    let public = agent.ask("chat", question).await?;
    assert_eq!(lane(&public), Some(Lane::Cloud), "{public:?}");
    cell.tidegate(&["audit", "verify"]).await?;
    Ok(())
}

#[tokio::test]
async fn story_a_header_that_stands_twice_is_refused() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let python =
        std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| root().join(".venv/bin/python"), Into::into);
    let publish = |headers: Value| {
        let output = Command::new(&python)
            .arg(root().join("tests/python/publish.py"))
            .args(["embed", &embed().to_string(), &headers.to_string()])
            .env("NATS_URL", cell.url()?)
            .env("AGENT", "helpdesk")
            .env("NKEY_SEED_FILE", cell.path().join("identities/agent.acme.helpdesk.nk"))
            .output()
            .context("publishing with nats-py")?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<TaskResult>(&output.stdout).context("reading the result")
    };
    let once = publish(json!({ "ce-source": "here" }))?;
    assert_eq!(once.state, State::Completed, "negative control: {once:?}");
    let twice = publish(json!({ "ce-source": "here", "CE-Source": "there" }))?;
    assert_eq!((twice.state, code(&twice)), (State::Rejected, Some(Code::InvalidHeaders)), "{twice:?}");
    Ok(())
}

#[tokio::test]
async fn story_a_new_policy_acts_and_the_past_is_published_again() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "negative control");
    let made = cell.json(&["provision"]).await?;
    assert_eq!(made["created"], json!([]), "what the active bundle needs is there");

    let bundles = tempfile::tempdir()?;
    let demo = bundles.path().join("mine");
    let begun = cell.json(&["policy", "new", &demo.display().to_string()]).await?;
    assert_eq!(begun["copy_of"], json!("demo"), "what the cell runs by, not a bundle without its provider");
    let mut links = std::fs::read_to_string(demo.join("links.toml"))?;
    links.push_str(
        "\n[[link]]\nid = \"helpdesk-blocked\"\ntemplate = \"agent-blocked\"\n\
         principal = 'Agent::\"acme/helpdesk\"'\nowner = \"security@example.com\"\n",
    );
    std::fs::write(demo.join("links.toml"), links)?;
    let demo = demo.display().to_string();
    let before = cell.screen().await?["bundle"]["hash"].clone();
    let applied = cell.output(&["policy", "apply", &demo, "--reason", "blocked", "--json"]).await?;
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    assert!(!String::from_utf8_lossy(&applied.stderr).contains("no worker"), "negative control");
    let applied: Value = serde_json::from_slice(&applied.stdout)?;
    assert!(applied["ms"].as_u64().is_some_and(|ms| ms < APPLIED_MS), "in force at once: {applied}");
    let now = cell.screen().await?["bundle"]["hash"].clone();
    assert_eq!(now, applied["bundle"], "the screen names what was applied");
    assert_ne!(now, before, "negative control");
    let asked = AtomicU64::new(1);
    let rejected = until("the policy to act", SOON, || async {
        asked.fetch_add(1, Ordering::Relaxed);
        let result = agent.ask("embed", embed()).await?;
        Ok((result.state == State::Rejected).then_some(result))
    })
    .await?;
    assert_eq!(code(&rejected), Some(Code::PolicyDenied));
    assert!(rejected.error.unwrap().message.contains("helpdesk-blocked"), "the policy is named");

    until("the rejected result on record", SOON, || async {
        let page = cell.json(&["audit", "query", "--kind", "result", "--state", "rejected"]).await?;
        Ok((page["records"].as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .await?;
    cell.recorded(SOON).await?;
    // Judged again, each decision under its own bundle: nothing differs.
    let asked = asked.into_inner();
    let before = asked - 1;
    let own = cell.json(&["audit", "rejudge"]).await?;
    let found = |judged: &Value, name: &str| judged["rejudged"][name].as_u64().unwrap_or_default();
    assert_eq!((found(&own, "decisions"), found(&own, "equal")), (asked, asked), "{own}");
    assert_eq!(own["rejudged"]["bundles"].as_object().map(serde_json::Map::len), Some(2), "{own}");
    // Negative control: the new bundle would not have let the first ones run.
    let other = cell.output(&["audit", "rejudge", "--bundle", &demo, "--json"]).await?;
    assert_eq!(other.status.code(), Some(2), "more differ than allowed");
    let other: Value = serde_json::from_slice(&other.stdout)?;
    assert_eq!((found(&other, "equal"), found(&other, "differ")), (1, before), "{other}");
    assert_eq!(other["rejudged"]["outcomes"]["local -> reject"], json!(before), "{other}");
    let most = before.to_string();
    let allowed = cell.output(&["audit", "rejudge", "--bundle", &demo, "--differ-max", &most]).await?;
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stdout));

    let plan = bundles.path().join("plan.json").display().to_string();
    let made =
        cell.json(&["replay", "plan", "--kind", "result", "--state", "rejected", "--out", &plan]).await?;
    assert_eq!(made["records"], json!(1), "and none of the others");
    let run = cell.json(&["replay", "run", "--plan", &plan, "--reason", "a drill"]).await?;
    assert_eq!((&run["published"], &run["state"]), (&json!(1), &json!("done")), "{run}");
    let mut again = cell.json(&["replay", "run", "--plan", &plan, "--reason", "twice"]).await?;
    assert_eq!((&run["before"], &again["before"]), (&json!(false), &json!(true)), "it says so");
    again["before"] = json!(false);
    assert_eq!(again, run, "what was done is not done again");
    let acts = cell.json(&["audit", "query", "--kind", "control"]).await?.to_string();
    assert_eq!((acts.matches("replay_start").count(), acts.matches("replay_end").count()), (1, 1), "{acts}");

    let destinations = std::path::Path::new(&demo).join("destinations.toml");
    let mut text = std::fs::read_to_string(&destinations)?;
    let second = text.split("[[destination]]").nth(2).context("a second destination")?;
    let other = second.replace("\"local-embed\"", "\"local-large\"").replace("\"embed\"\n", "\"large\"\n");
    text.push_str(&format!("\n[[destination]]{}", other.replace("rank = 20", "rank = 90")));
    std::fs::write(&destinations, text)?;
    let applied = cell.output(&["policy", "apply", &demo, "--reason", "larger"]).await?;
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(applied.status.success() && said.contains("no worker takes work of pool `large`"), "{said}");
    let accounts = || std::fs::read_to_string(cell.path().join("nats/accounts.conf"));
    assert!(accounts()?.contains("WORK_LOCAL.large"), "a worker of the pool may pull");
    let before = accounts()?;
    cell.stop().await?;
    cell.start_again(&[]).await?;
    let after = std::fs::read_to_string(cell.path().join("nats/accounts.conf"))?;
    assert_eq!(after, before, "a cell goes on with its active bundle");
    Ok(())
}
