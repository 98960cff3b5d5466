//! `tidegate task`: where a task stands, and its withdrawal.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_bus::Outbound;
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::result::TaskResult;
use tidegate_schemas::subject::RESULTS;

use super::audit::words;
use super::record::Record;
use super::{results, submit};
use crate::cell::Cell;
use crate::cli::{Global, TaskCommand};
use crate::output;

pub(super) async fn run(global: &Global, command: TaskCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        TaskCommand::Get { id, who } => {
            let bus = submit::connect(&cell, &who).await?;
            let subject = format!("result.{}.{id}", who.agent);
            let stored = bus.last_for_subject(RESULTS, &subject).await.context("asking for the result")?;
            match stored {
                Some(stored) => {
                    let result = serde_json::from_slice(&stored.payload).context("reading the result")?;
                    let decided = decided(&cell, who.tenant, id).await;
                    ended(global, &result, decided.as_deref())
                }
                None => open(global, id),
            }
        }
        TaskCommand::Cancel { id, who } => {
            let bus = submit::connect(&cell, &who).await?;
            let message = Outbound::new(format!("cancel.{}.{id}", who.agent), Vec::new())
                .with_id(format!("cancel/{}/{id}", who.agent));
            bus.publish(message).await.context("withdrawing the task")?;
            if global.json {
                output::json(&json!({ "task": id, "canceled": "asked" }))?;
            } else {
                output::line(format!("asked to cancel {id}; a task that has ended stays as it ended"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The last decision about it, in one line, where the record can be asked.
async fn decided(cell: &Cell, tenant: Name, id: TaskId) -> Option<String> {
    let timelines = Record::open(cell).await.ok()?.task(Some(tenant), id).await.ok()?;
    let records = timelines.into_iter().flat_map(|timeline| timeline.records);
    records.filter_map(|record| record.leaf.decision).next_back().map(|decision| words::decision(&decision))
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

fn open(global: &Global, id: TaskId) -> Result<ExitCode> {
    let sentence = "no result yet, or no such task; `tidegate audit task` shows where it stands";
    if global.json {
        output::json(&json!({ "task": id, "state": null }))?
    } else {
        output::line(sentence)
    }
    Ok(ExitCode::from(2))
}
