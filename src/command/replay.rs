//! `tidegate replay`: records published again into the stream REPLAY, where nothing acts on them. First the plan, which
//! publishes nothing and can be read; then the run, which goes on where it stopped.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::Plan;
use tidegate_bus::{CancellationToken, Identity};
use tidegate_recorder::replay::{self, ReplayOptions, Replayed};
use tidegate_schemas::control::Act;
use uuid::Uuid;

use super::audit::filter;
use super::record::Record;
use super::{act, roles};
use crate::cell::Cell;
use crate::cli::{Global, ReplayCommand};
use crate::output;

pub(super) async fn run(global: &Global, command: ReplayCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let record = Record::open(&cell).await?;
    match command {
        ReplayCommand::Plan { filter, out } => plan(global, &record, filter::of(filter)?, &out).await,
        ReplayCommand::Run { plan, rate, reason } => {
            publish(global, &cell, &record, &plan, rate, &reason).await
        }
    }
}

async fn plan(
    global: &Global,
    record: &Record,
    filter: tidegate_audit::Filter,
    out: &Path,
) -> Result<ExitCode> {
    let reader = record.file()?.clone();
    let made =
        tokio::task::spawn_blocking(move || Plan::make(&reader, filter, Uuid::now_v7(), Timestamp::now()));
    let plan = made.await.context("reading the record")??;
    plan.write(out)?;
    if global.json {
        output::json(
            &json!({ "replay": plan.id, "records": plan.indices.len(), "hash": plan.hash, "plan": out }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!(
        "{} records would be published on replay.{}.>; nothing was",
        plan.indices.len(),
        plan.id
    ));
    output::line(format!("plan      {} (hash {})", out.display(), plan.hash));
    output::line(format!("then      tidegate replay run --plan {} --reason …", out.display()));
    Ok(ExitCode::SUCCESS)
}

async fn publish(
    global: &Global,
    cell: &Cell,
    record: &Record,
    file: &Path,
    rate: u32,
    reason: &str,
) -> Result<ExitCode> {
    let plan = Plan::read(file)?;
    let reader = record.file()?.clone();
    let options = ReplayOptions { rate, cursor_file: cursor_file(file) };
    let records = plan.indices.len() as u64;
    if replay::done(&plan, &options.cursor_file)? == records && records > 0 {
        let replayed = Replayed { done: records, complete: true, ..Replayed::default() };
        return show(global, &plan, &replayed, file);
    }
    if !options.cursor_file.exists() {
        // Nothing is published before it is on record that it will be, and why.
        plan.check(&reader)?;
        let start = Act::ReplayStart { replay: plan.id.to_string(), plan: plan.hash, records };
        act::publish(cell, start, reason).await?;
    } else if !global.json {
        output::note(format!("going on from `{}`", options.cursor_file.display()));
    }
    let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
    let cancel = CancellationToken::new();
    roles::stop_on_signal(cancel.clone())?;
    let bar = if global.json { ProgressBar::hidden() } else { ProgressBar::new(records) };
    bar.set_style(ProgressStyle::with_template("publishing {wide_bar} {pos}/{len} records, {eta} left")?);
    let replayed =
        replay::run(&bus, &reader, &plan, &options, &cancel, |done, _| bar.set_position(done)).await;
    bar.finish_and_clear();
    let replayed = replayed?;
    if replayed.complete {
        let end = Act::ReplayEnd { replay: plan.id.to_string(), published: replayed.done - replayed.skipped };
        act::publish(cell, end, reason).await?;
    }
    show(global, &plan, &replayed, file)
}

/// Beside the plan: how far its run is.
fn cursor_file(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".cursor");
    name.into()
}

fn show(global: &Global, plan: &Plan, replayed: &Replayed, file: &Path) -> Result<ExitCode> {
    let Replayed { done, published, skipped, complete } = *replayed;
    let code = if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if global.json {
        output::json(
            &json!({ "replay": plan.id, "done": done, "published": published, "skipped": skipped, "complete": complete }),
        )?;
        return Ok(code);
    }
    let left_out =
        if skipped > 0 { format!(", {skipped} left out: sealed or erased") } else { String::new() };
    if complete && published + skipped == 0 {
        output::line(format!("it was done before: {done} records on replay.{}.>", plan.id));
    } else if complete {
        output::line(format!("done: {published} records published now on replay.{}.>{left_out}", plan.id));
    } else {
        output::line(format!("stopped at {done} of {}{left_out}", plan.indices.len()));
        output::line(format!("go on with: tidegate replay run --plan {} --reason …", file.display()));
    }
    Ok(code)
}
