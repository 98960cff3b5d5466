//! `tidegate task`: where a task stands, and its withdrawal.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_audit::leaf::DecisionLeaf;
use tidegate_audit::read::Timeline;
use tidegate_bus::Outbound;
use tidegate_schemas::ids::TaskId;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject::RESULTS;

use super::audit::words;
use super::record::Record;
use super::{results, submit};
use crate::cell::Cell;
use crate::cli::{Global, TaskCommand, Who};
use crate::output;

pub(super) async fn run(global: &Global, command: TaskCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        TaskCommand::Get { id, who } => {
            let id = named(&who, &id)?;
            let bus = submit::connect(&cell, &who).await?;
            let subject = format!("result.{}.{id}", who.agent);
            let stored = bus.last_for_subject(RESULTS, &subject).await.context("asking for the result")?;
            match stored {
                Some(stored) => {
                    let result = serde_json::from_slice(&stored.payload).context("reading the result")?;
                    let known = standing(&cell, &who, id).await.ok().flatten();
                    let decided = known.as_ref().and_then(decision).map(words::decision);
                    ended(global, &result, decided.as_deref())
                }
                None => open(global, standing(&cell, &who, id).await, id),
            }
        }
        TaskCommand::Cancel { id, who } => {
            let id = named(&who, &id)?;
            let bus = submit::connect(&cell, &who).await?;
            let message = Outbound::new(format!("cancel.{}.{id}", who.agent), Vec::new())
                .with_id(format!("cancel/{}/{id}", who.agent));
            bus.publish(message).await.context("withdrawing the task")?;
            // Where the record cannot be asked it is not known to be unknown.
            let known = standing(&cell, &who, id).await.map_or(None, |standing| Some(standing.is_some()));
            if global.json {
                output::json(&json!({ "task": id, "canceled": "asked", "known": known }))?;
            } else if known == Some(false) {
                output::line(format!(
                    "asked to cancel {id}, of which nothing is on record yet: was it another agent's, or mistyped?"
                ));
            } else {
                output::line(format!("asked to cancel {id}; a task that has ended stays as it ended"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn named(who: &Who, id: &str) -> Result<TaskId> {
    Ok(TaskId::named(&who.tenant, &who.agent, id).context("the id")?.0)
}

/// What the record knows of it; an error where it cannot be asked.
async fn standing(cell: &Cell, who: &Who, id: TaskId) -> Result<Option<Timeline>> {
    let timelines = Record::open(cell).await?.task(Some(who.tenant.clone()), id).await?;
    Ok(timelines.into_iter().find(|timeline| timeline.agent == who.agent))
}

/// The last decision about it.
fn decision(timeline: &Timeline) -> Option<&DecisionLeaf> {
    timeline.records.iter().filter_map(|record| record.leaf.decision.as_ref()).next_back()
}

fn ended(global: &Global, result: &TaskResult, decided: Option<&str>) -> Result<ExitCode> {
    if global.json {
        output::json(result)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("{}  {}", result.task, result.state.as_str()));
    if let Some(error) = &result.error {
        output::line(format!("  {}: {}", error.code, error.message));
    }
    if let Some(destination) = &result.destination {
        output::line(format!(
            "  at {} ({} lane), model {}",
            destination.name, destination.lane, destination.model
        ));
    }
    if let Some(model) = result.model.as_ref() {
        let sha256 = model.sha256.map(|sha256| format!(", sha256 {sha256}")).unwrap_or_default();
        output::line(format!("  answered by {}{sha256}", output::visible(&model.answered)));
        model.adapter_sha256.iter().for_each(|sha256| output::line(format!("  with adapter {sha256}")));
    }
    if let Some(prompt) = &result.prompt {
        output::line(format!("  by prompt {} {}", prompt.name, prompt.hash));
    }
    if let Some(decided) = decided {
        output::line(format!("  {decided}"));
    }
    if let Some(content) = &result.output {
        results::text_of(content)
            .lines()
            .for_each(|line| output::line(format!("    {}", output::visible(line))));
    }
    output::line(format!(
        "  {} ms; the whole story: tidegate audit task {}",
        result.timings.total_ms, result.task
    ));
    Ok(ExitCode::SUCCESS)
}

/// A task that has no result in its stream.
fn open(global: &Global, standing: Result<Option<Timeline>>, id: TaskId) -> Result<ExitCode> {
    let timeline = match standing {
        Ok(Some(timeline)) => timeline,
        unknown => {
            let sentence = match unknown {
                Ok(_) => "no such task on record; one is recorded moments after it was accepted",
                Err(_) => "no result yet, or no such task; the record, which would know, cannot be asked",
            };
            if global.json {
                output::json(&json!({ "task": id, "state": null }))?;
            } else {
                output::line(sentence);
            }
            return Ok(ExitCode::from(2));
        }
    };
    let (state, decided) = (timeline.state, decision(&timeline));
    if global.json {
        let deadline = (!state.is_terminal()).then_some(timeline.deadline);
        output::json(&json!({ "task": id, "state": state, "decision": decided, "deadline": deadline }))?;
    } else {
        output::line(format!("{id}  {}", state.as_str()));
        if let Some(decided) = decided {
            output::line(format!("  {}", words::decision(decided)));
        }
        output::line(match state {
            State::InputRequired => "  waits for a person: tidegate review list".to_owned(),
            // Results leave their stream after their window; the record keeps them.
            _ if state.is_terminal() => format!("  its result is on record only: tidegate audit task {id}"),
            _ => format!("  no result yet; it ends by {:.0}", timeline.deadline),
        });
    }
    Ok(if state.is_terminal() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
