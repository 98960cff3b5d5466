//! The scenes about tasks.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate_audit::RecordKind;
use tidegate_recorder::review::{self as reviews, HeldTask, HeldTasks, ReviewQuestion};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::review::Action;
use tidegate_schemas::subject::Lane;

use super::cast::{Cast, LOOK_EVERY, RESULT, say, short};
use super::stage::Stage;
use crate::command::record::ask;
use crate::command::results::text_of;
use crate::command::{review as verdicts, supervise};

/// Tasks of the scene in which a router dies.
const MANY: usize = 200;
/// The question of the first scenes.
const QUESTION: &str = "What is a tide?";

fn chat(text: &str, labels: Value) -> Value {
    json!({ "labels": labels,
            "input": { "messages": [{ "role": "user", "content": text }], "sampling": { "max_tokens": 24, "temperature": 0.0 } } })
}

fn answered(result: &TaskResult) -> Result<()> {
    if let Some(error) = &result.error {
        bail!("the task {} ({}): {}", result.state.as_str(), error.code, error.message);
    }
    ensure!(result.state == State::Completed, "the task is {}", result.state.as_str());
    if let Some(content) = &result.output {
        say("answer", &short(&text_of(content)));
    }
    say("took", &format!("{} ms", result.timings.total_ms));
    Ok(())
}

fn lane_of(result: &TaskResult) -> Option<Lane> {
    result.destination.as_ref().map(|place| place.lane)
}

pub(super) async fn public(cast: &Cast) -> Result<()> {
    say("task", &format!("`{QUESTION}`, declared public"));
    let mut asked = cast.ask("chat", chat(QUESTION, json!({ "sensitivity": "public" }))).await?;
    let result = asked.result().await?;
    answered(&result)?;
    let decision = cast.tell(asked.task, RecordKind::Result).await?;
    ensure!(lane_of(&result) == Some(Lane::Cloud), "it ran on another lane than the cloud");
    ensure!(decision.outcome == Outcome::Cloud, "it was decided otherwise");
    Ok(())
}

pub(super) async fn card(cast: &Cast) -> Result<()> {
    let text = format!("{QUESTION} My card is 4111 1111 1111 1111.");
    say("task", &format!("`{text}`, declared public all the same"));
    let mut asked = cast.ask("chat", chat(&text, json!({ "sensitivity": "public" }))).await?;
    let result = asked.result().await?;
    answered(&result)?;
    let decision = cast.tell(asked.task, RecordKind::Result).await?;
    ensure!(lane_of(&result) == Some(Lane::Local), "it left the local lane");
    ensure!(!decision.findings.is_empty(), "the card number was not found");
    Ok(())
}

pub(super) async fn residency(cast: &Cast) -> Result<()> {
    say("task", &format!("`{QUESTION}`, to be worked on in Switzerland only"));
    let labels = json!({ "sensitivity": "public", "residency": ["ch"] });
    let mut asked = cast.ask("chat", chat(QUESTION, labels)).await?;
    let result = asked.result().await?;
    let error = result.error.as_ref().context("the task was not rejected")?;
    say("result", &format!("{} ({}): {}", result.state.as_str(), error.code, error.message));
    let decision = cast.tell(asked.task, RecordKind::Result).await?;
    ensure!(
        result.state == State::Rejected && error.code == Code::PolicyDenied,
        "it ended otherwise than rejected by policy"
    );
    ensure!(
        decision.determining.iter().any(|policy| policy.starts_with("residency")),
        "no policy of residency is named"
    );
    Ok(())
}

pub(super) async fn review(cast: &Cast) -> Result<()> {
    say("task", &format!("`{QUESTION}`, with high stakes"));
    let labels = json!({ "sensitivity": "public", "stakes": "high" });
    let mut asked = cast.ask("chat", chat(QUESTION, labels)).await?;
    let held = cast.tell(asked.task, RecordKind::Review).await?;
    ensure!(held.outcome == Outcome::Hold, "the task was not held");
    let subject = reviews::subject(&cast.reviewer_name);
    let HeldTasks { held } = ask(&cast.reviewer, &subject, &ReviewQuestion::default()).await?;
    let waiting = held
        .iter()
        .find(|task| task.task == asked.task)
        .context("the task does not wait for the reviewer")?;
    let question = ReviewQuestion { review: Some(waiting.review) };
    let seen: HeldTask = ask(&cast.reviewer, &subject, &question).await?;
    say(
        "held",
        &format!(
            "review EVENTS:{} in queue {}; {} sees digest {}",
            waiting.review, waiting.queue, cast.reviewer_name, seen.review.content
        ),
    );
    let reason = "shown in the demo".to_owned();
    let verdict = verdicts::verdict(
        &cast.reviewer,
        &cast.reviewer_name,
        waiting.review,
        &seen,
        Action::Approve,
        reason,
    )
    .await?;
    say("approved", &format!("by {} ({verdict})", cast.reviewer_name));
    let result = asked.result().await?;
    answered(&result)?;
    cast.tell(asked.task, RecordKind::Result).await?;
    Ok(())
}

pub(super) async fn killed(cast: &Cast, stage: &Stage) -> Result<()> {
    say(
        "tasks",
        &format!("{MANY} embeddings; the router is killed (SIGKILL) when half of them are submitted"),
    );
    let before = stage.pid("router")?;
    let accepted = cast.record.status().await?.accepted;
    let mut many = Vec::with_capacity(MANY);
    for n in 0..MANY {
        let body = json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": [format!("tide number {n}")] } });
        many.push(cast.ask("embed", body).await?);
        if n == MANY / 2 {
            supervise::signal(Some(before), Signal::SIGKILL);
            say("killed", &format!("router process {before}"));
        }
    }
    // A reply that was not stored anywhere dies with the process; results are in their stream and in the record.
    let deadline = Instant::now() + RESULT;
    loop {
        let status = cast.record.status().await?;
        if status.accepted >= accepted + MANY as u64 && status.open == 0 {
            say(
                "counted",
                &format!(
                    "{} tasks accepted = {} ended + {} open",
                    status.accepted, status.ended, status.open
                ),
            );
            break;
        }
        if Instant::now() > deadline {
            bail!("{} of {MANY} tasks are still open after {} s", status.open, RESULT.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut ended = 0;
    for asked in &many {
        let timeline = cast.recorded(asked.task, RecordKind::Result).await?;
        let results = timeline.records.iter().filter(|record| record.leaf.kind == RecordKind::Result).count();
        ensure!(timeline.state == State::Completed, "task {} is {}", asked.task, timeline.state.as_str());
        ensure!(results == 1, "task {} has {results} results", asked.task);
        ended += 1;
    }
    say(
        "results",
        &format!(
            "{ended} of {MANY} completed, each with exactly one result; the router is process {} now",
            stage.pid("router")?
        ),
    );
    Ok(())
}
