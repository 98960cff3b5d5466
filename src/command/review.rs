//! `tidegate review`: a person looks at held tasks and decides. Everything that a producer wrote is shown with its hidden
//! characters visible; a verdict names the digest of exactly what was shown.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_bus::{Bus, Identity, Outbound};
use tidegate_policies::explain;
use tidegate_recorder::review::{self, HeldTask, HeldTasks, ReviewQuestion};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::json;
use tidegate_schemas::limits::{REASON_BYTES_MAX, TASK_BYTES_MAX};
use tidegate_schemas::result::State;
use tidegate_schemas::review::{Action, Verdict};
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::subject::{EVENTS, Subject};
use tidegate_schemas::task::{Input, Kind};

use super::record::ask;
use super::status::age;
use crate::cell::Cell;
use crate::cli::{Global, ReviewCommand, VerdictArgs};
use crate::output;

pub(super) async fn run(global: &Global, command: ReviewCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        ReviewCommand::List { reviewer } => list(global, &cell, &reviewer).await,
        ReviewCommand::Show { sequence, reviewer } => {
            let held = held(&connect(&cell, &reviewer).await?, &reviewer, sequence).await?;
            show(global, sequence, &held)
        }
        ReviewCommand::Approve(args) => decide(global, &cell, args, Action::Approve).await,
        ReviewCommand::Reject(args) => decide(global, &cell, args, Action::Reject).await,
        ReviewCommand::Edit { verdict, input } => {
            let input = Sensitive::new(input_of(&input)?);
            decide(global, &cell, verdict, Action::Edit { input, labels: None }).await
        }
    }
}

async fn connect(cell: &Cell, reviewer: &Name) -> Result<Bus> {
    cell.connect(Identity::Reviewer(reviewer.clone())).await
}

async fn held(bus: &Bus, reviewer: &Name, sequence: u64) -> Result<HeldTask> {
    let question = ReviewQuestion { review: Some(sequence) };
    let held = ask(bus, &review::subject(reviewer), &question).await;
    held.with_context(|| format!("review EVENTS:{sequence}; `tidegate review list` shows what waits"))
}

async fn list(global: &Global, cell: &Cell, reviewer: &Name) -> Result<ExitCode> {
    let bus = connect(cell, reviewer).await?;
    let HeldTasks { held } = ask(&bus, &review::subject(reviewer), &ReviewQuestion::default()).await?;
    if global.json {
        output::json(&held)?;
        return Ok(ExitCode::SUCCESS);
    }
    if held.is_empty() {
        output::line(format!("nothing waits for {reviewer}"));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = held
        .iter()
        .map(|task| {
            vec![
                task.review.to_string(),
                task.queue.to_string(),
                format!("{}/{}", task.tenant, task.agent),
                task.sensitivity.as_str().to_owned(),
                task.stakes.as_str().to_owned(),
                task.destination.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                until(task.review_by),
                task.task.to_string(),
            ]
        })
        .collect();
    output::table(
        &["REVIEW", "QUEUE", "WHO ASKS", "SENSITIVITY", "STAKES", "WOULD RUN AT", "LEFT", "TASK"],
        &rows,
    );
    output::note("look first: tidegate review show <REVIEW>");
    Ok(ExitCode::SUCCESS)
}

/// How long is left.
fn until(then: Timestamp) -> String {
    let left = then.duration_since(Timestamp::now()).as_millis();
    u64::try_from(left).map_or_else(|_| "expired".to_owned(), age)
}

fn show(global: &Global, sequence: u64, held: &HeldTask) -> Result<ExitCode> {
    if global.json {
        output::json(held)?;
        return Ok(ExitCode::SUCCESS);
    }
    let review = &held.review;
    output::line(format!(
        "review EVENTS:{sequence} in queue {}: {} by {}/{}",
        held.queue, held.kind, held.tenant, review.agent
    ));
    output::line(format!("task     {} ({})", review.task, held.state.as_str()));
    output::line(format!("digest   {}", review.content));
    output::line(format!("left     {} of it to decide", until(review.review_by)));
    if held.quorum() > 1 {
        let named: Vec<&str> = held.approved_by.iter().map(Name::as_str).collect();
        let by = if named.is_empty() { "nobody yet".to_owned() } else { named.join(", ") };
        output::line(format!("approved by {by}; {} must approve", held.quorum()));
    }
    for line in explain::text(&review.decision, None).lines() {
        output::line(format!("         {line}"));
    }
    output::line("what would run:");
    for line in output::visible(&text(held.envelope.expose())?).lines() {
        output::line(format!("    {line}"));
    }
    if let Some(rendered) = &review.rendered {
        output::line("by the prompt, as:");
        for line in output::visible(&text(rendered.expose())?).lines() {
            output::line(format!("    {line}"));
        }
    }
    output::line(format!(
        "then     tidegate review approve {sequence} --reason …   (or reject, or edit --input FILE)"
    ));
    Ok(ExitCode::SUCCESS)
}

/// The envelope for people. Line breaks stay escaped: a text must not look like another field.
fn text(envelope: &Value) -> Result<String> {
    serde_json::to_string_pretty(envelope).context("writing the envelope")
}

fn input_of(file: &Path) -> Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("reading `{}`", file.display()))?;
    json::check(&text, TASK_BYTES_MAX).with_context(|| format!("`{}`", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is not JSON", file.display()))
}

/// Whether the router can carry an edit out: a verdict that leads nowhere is only a dead letter.
fn fits(held: &HeldTask, input: &Value) -> Result<()> {
    let kind = Kind::parse(&held.kind)?;
    Input::read(kind, &input.to_string()).context("the edited input")?;
    let mut envelope = held.envelope.expose().clone();
    let fields = envelope.as_object_mut().context("the held task is no envelope")?;
    fields.insert("input".to_owned(), input.clone());
    json::check(envelope.to_string().as_bytes(), TASK_BYTES_MAX).context("the task with the edited input")
}

async fn decide(global: &Global, cell: &Cell, args: VerdictArgs, action: Action) -> Result<ExitCode> {
    let VerdictArgs { sequence, reviewer, reason } = args;
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        bail!("give a reason of 1 to {REASON_BYTES_MAX} bytes with --reason");
    }
    let bus = connect(cell, &reviewer).await?;
    let held = held(&bus, &reviewer, sequence).await?;
    if held.state != State::InputRequired {
        bail!("task {} is {}: it waits for nobody", held.review.task, held.state.as_str());
    }
    if held.review.agent == reviewer {
        bail!("who asks cannot decide");
    }
    if let Action::Edit { input, .. } = &action {
        if held.quorum() > 1 {
            bail!(
                "{} must agree to the same text, so an edit decides nothing: reject it instead",
                held.quorum()
            );
        }
        fits(&held, input.expose())?;
    }
    if matches!(action, Action::Approve) && held.approved_by.contains(&reviewer) {
        bail!("{reviewer} has approved already; {} must approve", held.quorum());
    }
    let position = verdict(&bus, &reviewer, sequence, &held, action, reason).await?;
    let task = held.review.task;
    if global.json {
        output::json(&json!({ "task": task, "review": sequence, "verdict": position }))?;
    } else {
        output::line(format!("on record: {position}; what became of it: tidegate audit task {task}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes a verdict on exactly what was shown.
pub(super) async fn verdict(
    bus: &Bus,
    reviewer: &Name,
    sequence: u64,
    held: &HeldTask,
    action: Action,
    reason: String,
) -> Result<Position> {
    let message = message(reviewer, sequence, held, action, reason)?;
    let published = bus.publish(message).await.context("publishing the verdict")?;
    if published.duplicate {
        let task = held.review.task;
        bail!("{reviewer} said so already ({}); tidegate audit task {task}", published.position());
    }
    Ok(published.position())
}

fn message(
    reviewer: &Name,
    sequence: u64,
    held: &HeldTask,
    action: Action,
    reason: String,
) -> Result<Outbound> {
    let review = Position::new(EVENTS, sequence);
    let verdict = Verdict {
        schema_version: 1,
        review: review.clone(),
        content: held.review.content,
        action,
        reason: Sensitive::new(reason),
    };
    let subject = Subject::Verdict {
        queue: held.queue.clone(),
        tenant: held.tenant.clone(),
        reviewer: reviewer.clone(),
    };
    let headers = Headers::new()
        .with(tidegate_schemas::header::CAUSE, review.to_string())
        .with(tidegate_schemas::header::TASK_ID, held.review.task.to_string())
        .with(tidegate_schemas::header::AGENT, held.review.agent.as_str())
        .with("content-type", "application/json");
    let payload = serde_json::to_vec(&verdict)?;
    // The same word said twice stands once; another one after a verdict that led nowhere is not swallowed.
    let digest = held.review.salt.digest(&payload);
    Ok(Outbound::new(subject.to_string(), payload)
        .with_id(format!("verdict/{sequence}/{reviewer}/{digest}"))
        .with_headers(headers))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_recorder::review::HeldTask;
    use tidegate_schemas::review::Action;
    use tidegate_schemas::sensitive::Sensitive;

    use super::*;

    /// A held conversation.
    fn held() -> HeldTask {
        let digest = "11".repeat(32);
        let decision = json!({
            "schema_version": 1, "id": "01935000-0000-7000-8000-000000000000", "outcome": "hold", "considered": [],
            "determining": [], "labels": { "sensitivity": "public" }, "scan": "recognisers", "sentence": "held",
            "bundle": digest, "owner": "ops@example.com", "facts": {
                "decision_id": "01935000-0000-7000-8000-000000000000", "now": "2026-11-23T12:00:00Z",
                "directory": digest, "egress_ready": true }
        });
        let held = json!({
            "queue": "default", "tenant": "acme", "state": "input_required", "kind": "chat",
            "envelope": { "labels": { "sensitivity": "public" }, "input": { "messages": [] } },
            "review": {
                "schema_version": 1, "task": "01935000-0000-7000-8000-000000000001", "agent": "helpdesk",
                "held": "TASKS_acme:1", "content": digest, "salt": "22".repeat(32), "decision": decision,
                "review_by": "2026-11-24T12:00:00Z", "deadline_left_ms": 1 }
        });
        serde_json::from_str(&held.to_string()).unwrap()
    }

    #[test]
    fn another_word_of_the_same_reviewer_has_an_id_of_its_own() {
        let (held, alice) = (held(), Name::new("alice").unwrap());
        let id = |action: Action, reason: &str| {
            message(&alice, 7, &held, action, reason.to_owned()).unwrap().msg_id.unwrap()
        };
        let edit = |input: Value| Action::Edit { input: Sensitive::new(input), labels: None };
        let first = id(edit(json!({ "texts": ["x"] })), "why");
        assert!(first.starts_with("verdict/7/alice/"), "{first}");
        assert_eq!(first, id(edit(json!({ "texts": ["x"] })), "why"), "said twice, it stands once");
        let others = [
            id(edit(json!({ "texts": ["y"] })), "why"),
            id(edit(json!({ "texts": ["x"] })), "because"),
            id(Action::Approve, "why"),
        ];
        assert!(others.iter().all(|other| *other != first), "{first} {others:?}");
    }

    #[test]
    fn an_edit_that_cannot_be_carried_out_is_not_sent() {
        let held = held();
        let message = |text: &str| json!({ "messages": [{ "role": "user", "content": text }] });
        let rows = [
            (json!({ "texts": ["x"] }), Some("of kind chat")),
            (json!({ "messages": [] }), Some("`messages` must have")),
            (json!("text"), Some("of kind chat")),
            (message(&"x".repeat(TASK_BYTES_MAX)), Some("the limit is")),
            (message("Negative control"), None),
        ];
        for (input, refused) in rows {
            let said = fits(&held, &input).map_err(|error| format!("{error:#}"));
            match refused {
                Some(words) => assert!(said.as_ref().is_err_and(|said| said.contains(words)), "{said:?}"),
                None => assert_eq!(said, Ok(())),
            }
        }
    }
}
