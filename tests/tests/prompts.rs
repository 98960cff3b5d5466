//! Prompts and models on a real cell: a task by a prompt runs on the local model and its result says which version made it; a
//! version is released for a share and taken back; and no weights answer but those that the bundle pins.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_tests::cell::root;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(30);
/// Tasks that are asked at most until a canary of a half has had some and left some.
const DRAWS: usize = 40;

fn asks(flow: &str, question: &str) -> Value {
    json!({
        "labels": { "sensitivity": "confidential" },
        "workflow": flow,
        "input": { "prompt": { "name": "answer", "variables": { "question": question } }, "max_tokens": 4 },
    })
}

/// A copy of the cell's bundle with another text in one of its files.
async fn variant(cell: &TestCell, dir: &Path, file: &str, from: &str, to: &str) -> Result<String> {
    let bundle = dir.display().to_string();
    cell.tidegate(&["policy", "new", &bundle]).await?;
    let text = std::fs::read_to_string(dir.join(file))?;
    anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
    std::fs::write(dir.join(file), text.replacen(from, to, 1))?;
    Ok(bundle)
}

async fn pushed(cell: &TestCell, bundle: &str) -> Result<String> {
    let told = cell.json(&["bundle", "push", bundle, "--reason", "to be tried"]).await?;
    Ok(told["bundle"].as_str().context("a hash")?.to_owned())
}

/// The hash of the prompt that a result names.
fn version(result: &TaskResult) -> Result<String> {
    let prompt = result.prompt.as_ref().with_context(|| format!("no prompt: {result:?}"))?;
    assert_eq!(prompt.name.as_str(), "answer");
    Ok(prompt.hash.to_string())
}

/// Asks until a result satisfies.
async fn asked(agent: &Agent, what: &str, fits: impl Fn(&TaskResult) -> bool) -> Result<TaskResult> {
    until(what, SOON, || async {
        let result = agent.ask("chat", asks("one", "What is a tide?")).await?;
        Ok(fits(&result).then_some(result))
    })
    .await
}

#[tokio::test]
async fn story_a_task_by_prompt_names_its_version_which_is_released_for_a_share_and_taken_back() -> Result<()>
{
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let dir = tempfile::tempdir()?;

    // By command, with a variable from a file; each place that tells of the task names the version.
    let file = dir.path().join("question.txt");
    std::fs::write(&file, "What is {{ notes }} a tide?\n")?;
    let variable = format!("question=@{}", file.display());
    let submit =
        ["submit", "chat", "--prompt", "answer", "--var", &variable, "--sensitivity", "confidential"];
    let told = cell.json(&submit).await?;
    assert_eq!((&told["state"], &told["prompt"]["name"]), (&json!("completed"), &json!("answer")), "{told}");
    let old = told["prompt"]["hash"].as_str().context("a hash")?.to_owned();
    assert!(told["model"]["sha256"].is_string() && told["bundle"].is_string(), "{told}");
    let task = told["task"].as_str().context("a task")?.to_owned();
    cell.recorded(SOON).await?;
    for question in [["task", "get"], ["audit", "task"]] {
        let shown = cell.tidegate(&[question[0], question[1], &task]).await?;
        assert!(shown.contains(&format!("prompt answer {}", &old[..12])), "{question:?}: {shown}");
    }
    let shown = cell.tidegate(&["results", "--tool", "desk"]).await?;
    assert!(shown.contains(&format!("by prompt answer {old}")), "{shown}");

    // What the bundle has not, or what does not fit, is rejected in our words.
    let secret = "hunter2";
    let mut unknown = asks("one", secret);
    unknown["input"]["prompt"]["name"] = json!("nobody-s");
    let mut missing = asks("one", secret);
    missing["input"]["prompt"]["variables"] = json!({ "notes": secret });
    for (body, code) in [(unknown, Code::UnknownPrompt), (missing, Code::InvalidVariables)] {
        let result = agent.ask("chat", body).await?;
        let error = result.error.context("an error")?;
        assert_eq!((result.state, error.code, result.prompt), (State::Rejected, code, None));
        assert!(!error.message.contains(secret) && !error.message.contains("nobody-s"), "{}", error.message);
    }

    // Another version for half of the workflows: each result is by the version of the bundle that decided.
    let changed = dir.path().join("changed");
    let (from, to) = ("one or two short sentences.", "as few words as you can.");
    let bundle = variant(&cell, &changed, "prompts/answer.toml", from, to).await?;
    let stale = cell.output(&["bundle", "push", &bundle, "--reason", "its case is of the old one"]).await?;
    let told = String::from_utf8_lossy(&stale.stderr).into_owned();
    assert!(told.contains("1 of ") && told.contains(" cases fail"), "negative control: {told}");
    let cases = changed.join("cases/people.toml");
    std::fs::write(&cases, std::fs::read_to_string(&cases)?.replace(from, to))?;
    let new = pushed(&cell, &bundle).await?;
    let diff = cell.tidegate(&["policy", "diff", "active", &changed.display().to_string()]).await?;
    assert!(
        diff.contains("changed prompt answer") && diff.contains(&format!("+ You answer questions in {to}")),
        "{diff}"
    );
    cell.json(&["bundle", "canary", &new, "--share", "50", "--reason", "half of it"]).await?;
    let mut drawn = Vec::new();
    for draw in 0..DRAWS {
        let result = agent.ask("chat", asks(&format!("flow-{draw}"), "What is a tide?")).await?;
        assert_eq!(result.state, State::Completed, "{result:?}");
        let by_new = result.bundle.context("a bundle")?.to_string() == new;
        assert_eq!(version(&result)? != old, by_new, "the version is that of the bundle which decided");
        drawn.push(by_new);
        if draw > 5 && drawn.contains(&true) && drawn.contains(&false) {
            break;
        }
    }
    assert!(drawn.contains(&true) && drawn.contains(&false), "{drawn:?}");

    // Taken back: all are by the old version again.
    cell.json(&["bundle", "rollback", "--reason", "too short"]).await?;
    let all = ["bundle", "canary", &new, "--share", "100", "--by", "tenant", "--reason", "all of it"];
    cell.json(&all).await?;
    asked(&agent, "the new version", |result| result.bundle.is_some_and(|hash| hash.to_string() == new))
        .await?;
    cell.json(&["bundle", "rollback", "--reason", "too short"]).await?;
    let back = asked(&agent, "the old version", |result| version(result).is_ok_and(|is| is == old)).await?;
    assert_ne!(back.bundle.map(|hash| hash.to_string()), Some(new.clone()));

    // On record, and judged again without a difference; by a bundle without prompts each is a rejection that is counted.
    cell.recorded(SOON).await?;
    let own = cell.json(&["audit", "rejudge"]).await?;
    let found = |name: &str| own["rejudged"][name].as_u64();
    assert_eq!((found("differ"), found("equal")), (Some(0), found("decisions")), "{own}");
    let gone = dir.path().join("gone");
    cell.tidegate(&["policy", "new", &gone.display().to_string()]).await?;
    std::fs::remove_dir_all(gone.join("prompts"))?;
    let cases = gone.join("cases/people.toml");
    let text = std::fs::read_to_string(&cases)?;
    std::fs::write(&cases, text.split("[[prompt]]").next().context("no cases")?)?;
    let told =
        cell.json(&["policy", "backtest", "--bundle", &gone.display().to_string(), "--since", "1d"]).await?;
    let flips = told["backtest"]["flips"].to_string();
    assert!(flips.contains("local") && flips.contains("reject"), "{told}");
    assert_eq!(told["backtest"]["unjudged"], json!({}), "{told}");
    let told = cell
        .json(&["policy", "backtest", "--bundle", &changed.display().to_string(), "--since", "1d"])
        .await?;
    let other = told["backtest"]["unchanged"]["other_prompt"].as_u64();
    assert!(other.is_some_and(|count| count > 0), "{told}");
    let all = told["backtest"]["other_prompt"].as_u64();
    assert!(all >= other, "{told}");
    Ok(())
}

#[tokio::test]
async fn story_no_weights_answer_but_those_that_the_bundle_pins() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let before = agent.ask("chat", asks("one", "What is a tide?")).await?;
    let model = before.model.context("a model")?;
    let pin = model.sha256.context("its hash")?.to_string();
    assert_eq!(before.destination.context("a place")?.model_sha256, model.sha256, "negative control");
    let dir = tempfile::tempdir()?;
    let other = "0".repeat(64);
    let bundle = variant(&cell, &dir.path().join("other"), "destinations.toml", &pin, &other).await?;
    let hash = pushed(&cell, &bundle).await?;
    cell.json(&["bundle", "canary", &hash, "--share", "100", "--by", "tenant", "--reason", "another model"])
        .await?;
    let failed = asked(&agent, "work by other weights", |result| result.state != State::Completed).await?;
    assert_eq!(failed.error.as_ref().map(|error| error.code), Some(Code::WrongModel), "{failed:?}");
    assert_eq!((failed.output, failed.model), (None, None));
    cell.json(&["bundle", "rollback", "--reason", "no worker has it"]).await?;
    let back = asked(&agent, "the pinned weights", |result| result.state == State::Completed).await?;
    assert_eq!(back.model.and_then(|model| model.sha256), model.sha256);
    Ok(())
}

#[tokio::test]
async fn story_an_operator_s_own_model_answers_where_the_bundle_pins_it() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let shipped = asked(&agent, "the shipped model", |result| result.state == State::Completed).await?;
    let pin = shipped.model.and_then(|model| model.sha256).context("its hash")?;
    // The same weights in a file of the operator's, which is another by its bytes.
    let dir = tempfile::tempdir()?;
    let own = dir.path().join("own.gguf");
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| root().join(".models"), Into::into);
    let mut bytes = std::fs::read(models.join("SmolLM2-135M-Instruct/model.gguf"))?;
    bytes.extend([0; 64]);
    std::fs::write(&own, &bytes)?;
    let sha256 = Digest::plain(&bytes);
    assert_ne!(sha256, pin);

    let (from, to) = (pin.to_string(), sha256.to_string());
    let bundle = variant(&cell, &dir.path().join("own"), "destinations.toml", &from, &to).await?;
    let hash = pushed(&cell, &bundle).await?;
    cell.json(&["bundle", "canary", &hash, "--share", "100", "--by", "tenant", "--reason", "our model"])
        .await?;
    let failed = asked(&agent, "work by our weights", |result| result.state != State::Completed).await?;
    assert_eq!(failed.error.map(|error| error.code), Some(Code::WrongModel), "negative control");

    let file = cell.path().join("cell.toml");
    let mut config: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    let local = config.entry("local").or_insert_with(|| toml::Table::new().into());
    let local = local.as_table_mut().context("a table")?;
    local.insert("chat_model".into(), own.display().to_string().into());
    local.insert("chat_sha256".into(), to.into());
    std::fs::write(&file, config.to_string())?;
    cell.kill_and_wait("local").await?;
    let served = asked(&agent, "our model", |result| result.state == State::Completed).await?;
    assert_eq!(served.model.and_then(|model| model.sha256), Some(sha256));
    Ok(())
}

#[tokio::test]
async fn answers_that_prompts_expect_are_asked_of_the_pinned_model_or_said_not_to_have_run() -> Result<()> {
    let default = root().join("policies/bundles/default").display().to_string();
    let run = |bundle: &str, more: &'static [&'static str]| {
        let bundle = bundle.to_owned();
        async move {
            let mut command = tokio::process::Command::new(tidegate_tests::cell::program());
            let output = command.args(["policy", "test", &bundle]).args(more).output().await?;
            anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
        }
    };
    let (code, told) = run(&default, &["--no-model"]).await?;
    assert!(code == Some(0) && told.contains("3 answers NOT RUN, by --no-model"), "{told}");
    let (code, told) = run(&default, &[]).await?;
    assert!(
        code == Some(0) && told.contains("3 answers as expected, 0 not, by SmolLM2-135M-Instruct"),
        "{told}"
    );
    assert!(told.trim_end().ends_with(')'), "a local destination runs it: {told}");
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("default");
    let copied = std::process::Command::new("cp").arg("-r").arg(&default).arg(&copy).status()?;
    assert!(copied.success());
    // Another pin: what the bundle runs is not here, and nothing is said to be well. Who names a model asks that one, and is told.
    let places = copy.join("destinations.toml");
    let text = std::fs::read_to_string(&places)?;
    let pin = text.split("model_sha256 = \"").nth(1).and_then(|rest| rest.get(..64)).context("a pin")?;
    std::fs::write(&places, text.replace(pin, &"0".repeat(64)))?;
    let copied = copy.display().to_string();
    let (code, told) = run(&copied, &[]).await?;
    assert!(code == Some(1) && told.contains("3 answers NOT RUN: no chat model"), "{told}");
    let (code, told) = run(&copied, &["--model", "SmolLM2-135M-Instruct"]).await?;
    let others = "which no local destination of the bundle runs";
    assert!(code == Some(0) && told.contains("3 answers as expected") && told.contains(others), "{told}");
    std::fs::write(&places, text)?;
    // Negative control: an answer that no model gives.
    let cases = copy.join("cases/85-prompts.toml");
    std::fs::write(&cases, std::fs::read_to_string(&cases)?.replace("\"Paris\"", "\"xyzzy\""))?;
    let (code, told) = run(&copied, &[]).await?;
    assert!(code == Some(1) && told.contains("FAILED a question without notes"), "{told}");
    assert!(!told.contains("Paris"), "it quotes what was expected, not what was said: {told}");
    Ok(())
}
