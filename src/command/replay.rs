//! `tidegate replay`: records published again. First the plan, which publishes nothing and can be read; then the act, which
//! is on record; then the recorder does it, and tells how far it is.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::plan::LostToPlan;
use tidegate_audit::{Plan, Planner, Replay, ReplayState};
use tidegate_bus::{Bus, CancellationToken, Identity};
use tidegate_recorder::replay::{self, ReplayAnswer, ReplayQuestion};
use tidegate_schemas::control::Act;
use tidegate_schemas::replay::{Pace, ReplayTo, SPEED_PERCENT_MAX, prefix};
use uuid::Uuid;

use super::audit::words::word;
use super::audit::{filter, judged};
use super::record::{self, Record};
use super::{act, roles};
use crate::cell::Cell;
use crate::cli::{Global, ReplayCommand, RunArgs};
use crate::output;

/// Between two looks at a replay.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a recorder may take to start before a replay is asked for.
const START: Duration = Duration::from_secs(10);
/// How long a recorder that died meanwhile is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, command: ReplayCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = async || -> Result<Bus> { cell.connect(Identity::Operator(act::operator()?)).await };
    match command {
        ReplayCommand::Plan { filter, out } => {
            let record = Record::open(&cell).await?;
            let filter = filter::of(judged::whole(&record, *filter).await?)?;
            plan(global, &record, filter, &out).await
        }
        ReplayCommand::Run(args) => publish(global, &cell, &bus().await?, &args).await,
        ReplayCommand::Status { replay } => status(global, &bus().await?, replay).await,
        ReplayCommand::Cancel { replay, reason } => {
            cancel(global, &cell, &bus().await?, replay, &reason).await
        }
    }
}

async fn plan(
    global: &Global,
    record: &Record,
    filter: tidegate_audit::Filter,
    out: &Path,
) -> Result<ExitCode> {
    let mut planner = Planner::new(filter, record.status().await?.records);
    let mut question = Some(planner.question());
    let mut lost = LostToPlan { erased: 0, pruned: Some(0) };
    while let Some(asked) = question {
        let (page, erased) = record.page(asked).await?;
        let (planned, gone): (Vec<_>, Vec<_>) =
            planner.planned(&page).cloned().partition(|record| !erased.contains_key(&record.leaf.index));
        lost.erased += gone.len() as u64;
        lost.pruned = lost.pruned.zip(record.pruned(planned).await?).map(|(before, more)| before + more);
        question = planner.add(&page)?;
    }
    let plan = Plan { lost: Some(lost), ..planner.finish(Uuid::now_v7(), Timestamp::now()) };
    plan.write(out)?;
    let head = &plan.head;
    if global.json {
        output::json(&json!({ "replay": head.id, "records": head.records, "hash": head.hash, "plan": out,
            "erased": lost.erased, "pruned": lost.pruned }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let left = head.records.saturating_sub(lost.erased).saturating_sub(lost.pruned.unwrap_or(0));
    output::line(format!("{left} records would be published; nothing was"));
    for (many, why) in [(lost.erased, "erased"), (lost.pruned.unwrap_or(0), "pruned by retention")] {
        if many > 0 {
            output::line(format!("          {many} more are left out: {why}"));
        }
    }
    if lost.pruned.is_none() {
        output::line(
            "          what retention took away is left out too; that needs the record's file to be told",
        );
    }
    output::line(format!("plan      {} (hash {})", out.display(), head.hash));
    output::line(format!("then      tidegate replay run --plan {} --reason …", out.display()));
    Ok(ExitCode::SUCCESS)
}

async fn publish(global: &Global, cell: &Cell, bus: &Bus, args: &RunArgs) -> Result<ExitCode> {
    let plan = Plan::read(&args.plan)?.head;
    let id = plan.id;
    let pace = pace(args)?;
    let mut now = match patiently(bus, id).await? {
        // The plan was run before: it goes on, or has ended.
        Some(known) if known.state != ReplayState::Running => return before(global, &known),
        Some(known) => known,
        None => {
            let start = Act::ReplayStart {
                replay: id.to_string(),
                plan: plan.hash,
                records: plan.records,
                target: target(args),
            };
            let event = act::publish(cell, start, &args.reason).await?.sequence;
            let question = ReplayQuestion::Run { event, plan: Box::new(plan), pace };
            begun(bus, &question, id).await?
        }
    };
    if !args.detach {
        let cancel = CancellationToken::new();
        roles::stop_on_signal(cancel.clone())?;
        now = wait(global, bus, now, &cancel).await?;
    }
    show(global, &now)
}

/// What became of a plan that was run before. A plan is run once: another one of the same records is published anew.
fn before(global: &Global, known: &Replay) -> Result<ExitCode> {
    let code = if known.state == ReplayState::Done { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if global.json {
        let Replay { done, published, skipped, erased, pruned, state, .. } = known;
        output::json(
            &json!({ "replay": known.plan.id, "records": known.plan.records, "done": done, "published": published,
            "skipped": skipped, "erased": erased, "pruned": pruned, "state": state, "waits": null, "before": true }),
        )?;
        return Ok(code);
    }
    output::line(format!(
        "this plan was run already, by {} at {:.0} ({}, {} records published then): nothing was published now; make a new plan to \
         publish them again",
        known.operator,
        known.begun,
        word(&known.state),
        known.published
    ));
    Ok(code)
}

/// Asks the recorder to begin. An answer that is long in coming is no refusal: it makes the plan again first.
async fn begun(bus: &Bus, question: &ReplayQuestion, id: Uuid) -> Result<Replay> {
    let operator = act::operator()?;
    let asked = record::ask::<ReplayAnswer>(bus, &replay::subject(&operator), question).await;
    match asked {
        Ok(answer) => answer.replays.into_iter().next().context("the recorder knows nothing of the replay"),
        Err(error) => match one(bus, id).await {
            Ok(Some(known)) => Ok(known),
            _ => Err(error),
        },
    }
}

fn target(args: &RunArgs) -> ReplayTo {
    match &args.tool {
        Some((tenant, tool)) => ReplayTo::Tool { tenant: tenant.clone(), tool: tool.clone() },
        None if args.as_original => ReplayTo::Original,
        None => ReplayTo::Subject,
    }
}

fn pace(args: &RunArgs) -> Result<Pace> {
    let Some(factor) = args.speed else { return Ok(Pace::Rate { per_second: args.rate }) };
    let percent = (factor * 100.0).round();
    if !(1.0..=f64::from(SPEED_PERCENT_MAX)).contains(&percent) {
        bail!("--speed must be 0.01 to {}", SPEED_PERCENT_MAX / 100);
    }
    Ok(Pace::Original { speed_percent: percent as u32 })
}

/// Waits until it has ended, or whoever waits gives up: the replay goes on then.
async fn wait(global: &Global, bus: &Bus, begun: Replay, cancel: &CancellationToken) -> Result<Replay> {
    let id = begun.plan.id;
    let bar = if global.json { ProgressBar::hidden() } else { ProgressBar::new(begun.plan.records) };
    bar.set_style(ProgressStyle::with_template(
        "publishing {wide_bar} {pos}/{len} records, {eta} left {msg}",
    )?);
    let (mut now, mut heard) = (begun, Instant::now());
    while now.state == ReplayState::Running {
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match one(bus, id).await {
            Ok(found) => {
                now = found.context("the recorder forgot the replay")?;
                heard = Instant::now();
            }
            // A recorder that died is started again and goes on.
            Err(_) if heard.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        bar.set_position(now.done);
        bar.set_message(now.waits.clone().map(|why| format!("(waits: {why})")).unwrap_or_default());
    }
    bar.finish_and_clear();
    Ok(now)
}

async fn replays(bus: &Bus, replay: Option<Uuid>) -> Result<Vec<Replay>> {
    let subject = replay::subject(&act::operator()?);
    let question = ReplayQuestion::Status { replay };
    Ok(record::ask::<ReplayAnswer>(bus, &subject, &question).await?.replays)
}

async fn one(bus: &Bus, replay: Uuid) -> Result<Option<Replay>> {
    Ok(replays(bus, Some(replay)).await?.into_iter().next())
}

/// The same, where the recorder may just be started again.
async fn patiently(bus: &Bus, replay: Uuid) -> Result<Option<Replay>> {
    let begun = Instant::now();
    loop {
        match one(bus, replay).await {
            Err(_) if begun.elapsed() < START => tokio::time::sleep(LOOK_EVERY).await,
            answer => return answer,
        }
    }
}

async fn status(global: &Global, bus: &Bus, replay: Option<Uuid>) -> Result<ExitCode> {
    let replays = replays(bus, replay).await?;
    if global.json {
        output::json(&json!({ "replays": replays }))?;
    } else if replays.is_empty() {
        output::line("no replay is known");
    } else {
        let rows: Vec<_> = replays.iter().map(row).collect();
        output::table(
            &["replay", "state", "done", "published", "left out", "erased", "pruned", "to", "by", "begun"],
            &rows,
        );
        for waiting in replays.iter().filter_map(|one| Some((one.plan.id, one.waits.as_ref()?))) {
            output::line(format!("{} waits: {}", waiting.0, waiting.1));
        }
    }
    let found = replay.is_none() || !replays.is_empty();
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(replay: &Replay) -> Vec<String> {
    vec![
        replay.plan.id.to_string(),
        word(&replay.state),
        format!("{}/{}", replay.done, replay.plan.records),
        replay.published.to_string(),
        replay.skipped.to_string(),
        replay.erased.to_string(),
        replay.pruned.to_string(),
        replay.target.as_str().to_owned(),
        replay.operator.to_string(),
        format!("{:.0}", replay.begun),
    ]
}

async fn cancel(global: &Global, cell: &Cell, bus: &Bus, replay: Uuid, reason: &str) -> Result<ExitCode> {
    let known = one(bus, replay).await?.context("no such replay is known; see `tidegate replay status`")?;
    if known.state != ReplayState::Running {
        bail!("it has ended already: {}", word(&known.state));
    }
    let event = act::publish(cell, Act::ReplayCancel { replay: replay.to_string() }, reason).await?.sequence;
    let subject = replay::subject(&act::operator()?);
    let answer = record::ask::<ReplayAnswer>(bus, &subject, &ReplayQuestion::Cancel { event }).await?;
    let cancelled = answer.replays.first().context("the recorder knows nothing of the replay")?;
    show(global, cancelled)?;
    Ok(if cancelled.state == ReplayState::Cancelled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(global: &Global, replay: &Replay) -> Result<ExitCode> {
    let stale = replay.state == ReplayState::Stale;
    let code = if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    let Replay { done, published, skipped, erased, pruned, state, .. } = replay;
    let (id, records) = (replay.plan.id, replay.plan.records);
    if global.json {
        output::json(&json!({ "replay": id, "records": records, "done": done, "published": published,
            "skipped": skipped, "erased": erased, "pruned": pruned, "state": state, "waits": replay.waits,
            "before": false }))?;
        return Ok(code);
    }
    let mut left_out = String::new();
    if *erased > 0 {
        left_out.push_str(&format!(", {erased} left out: erased"));
    }
    if *pruned > 0 {
        left_out.push_str(&format!(", {pruned} left out: pruned by retention"));
    }
    if *skipped > 0 {
        left_out.push_str(&format!(", {skipped} left out: lost, or not of that kind"));
    }
    let place = match &replay.target {
        ReplayTo::Original => "as new tasks".to_owned(),
        target => format!("on {}.>", prefix(target, id)),
    };
    match state {
        ReplayState::Running => {
            output::line(format!("it runs: {done} of {records} are done; tidegate replay status {id}"));
        }
        ReplayState::Done => output::line(format!("done: {published} records published {place}{left_out}")),
        ReplayState::Cancelled => output::line(format!("cancelled at {done} of {records}{left_out}")),
        ReplayState::Stale => output::line("the record no longer holds what was planned; make a new plan"),
    }
    Ok(code)
}
