//! `tidegate status`: one screen about the cell. Roles by their own doors, queues by the server's counts, the record by
//! whoever keeps it. What cannot be had is said in its place, so that a cell in trouble still gets its screen.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_bus::topology::RECORDER;
use tidegate_bus::{Bus, ConsumerSpec, topology};
use tidegate_recorder::guard::{GuardState, Guarded};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::{Canary, TakenBack};
use tokio::net::TcpStream;

use super::record::Record;
use super::{act, budget, bundle as released, dead, directory, flag, lane, policy, provision, supervise};
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

pub(super) use door::{is_ready, why_not_ready};

mod door;
mod vault;

/// The screen.
#[derive(Debug, Serialize)]
struct Screen {
    cell: String,
    url: String,
    server: String,
    roles: Vec<RoleLine>,
    queues: Vec<Queue>,
    off: Vec<Switch>,
    flags: Vec<flag::FlagLine>,
    /// What keeps work from providers now.
    kept: budget::Kept,
    /// What the processes here say of redacted values.
    vault: vault::VaultLine,
    bundle: Option<BundleLine>,
    /// Queues of its reviews that too few have.
    unreviewed: Vec<policy::Unreviewed>,
    record: Option<RecordLine>,
    /// Why the record cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    record_error: Option<String>,
}

/// One role's process.
#[derive(Debug, Serialize)]
pub(super) struct RoleLine {
    pub(super) role: String,
    pub(super) ready: bool,
    pub(super) sentence: String,
    pub(super) pid: u32,
    pub(super) address: String,
}

/// What waits for one consumer.
#[derive(Debug, Serialize)]
struct Queue {
    stream: String,
    consumer: String,
    waiting: u64,
    in_flight: u64,
    redelivered: u64,
    oldest_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct BundleLine {
    hash: String,
    name: String,
    owner: String,
    event: u64,
    /// What is judged beside it.
    shadow: Option<Digest>,
    /// What decides for a share.
    canary: Option<Canary>,
    /// The last canary, where a guard took it back.
    taken_back: Option<TakenBack>,
}

#[derive(Debug, Serialize)]
struct RecordLine {
    records: u64,
    lag: u64,
    accepted: u64,
    ended: u64,
    open: u64,
    alarms: u64,
    dead: usize,
    asked: &'static str,
    /// Where the canary's guards stand.
    guarded: Option<Guarded>,
}

pub(super) async fn run(global: &Global) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    if let Ok(running) = cell.running()
        && supervise::is_of(running.supervisor, Path::new("tidegate"))
    {
        running.refuse_while_stopping()?;
    }
    let bus = act::connect(&cell).await?;
    let (recorded, record_error) = match record(&cell, &bus).await {
        Ok(line) => (Some(line), None),
        Err(error) => (None, Some(output::sentence(&error))),
    };
    let flags = lane::flags(&bus).await?;
    let roles = roles(&cell).await;
    let screen = Screen {
        cell: cell.config.name.to_string(),
        url: cell.config.url.clone(),
        server: bus.server_version(),
        vault: vault::line(&roles).await,
        roles,
        queues: queues(&cell, &bus).await?,
        flags: flag::lines(&bus, &flags).await?,
        kept: budget::kept(&bus).await?,
        off: flags.switches,
        bundle: bundle(&bus).await?,
        unreviewed: unreviewed(&bus).await?,
        record: recorded,
        record_error,
    };
    let well = screen.roles.iter().all(|role| role.ready) && screen.record.is_some();
    if global.json {
        output::json(&screen)?
    } else {
        show(&screen)
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn unreviewed(bus: &Bus) -> Result<Vec<policy::Unreviewed>> {
    let both = policy::active_if_any(bus).await?.zip(directory::active(bus).await?);
    Ok(both.map(|(bundle, directory)| policy::without_reviewers(&bundle, &directory)).unwrap_or_default())
}

/// The processes that run on this machine, each as it says itself.
pub(super) async fn roles(cell: &Cell) -> Vec<RoleLine> {
    let mut lines = Vec::new();
    for (role, process) in cell.running().map(|running| running.roles).unwrap_or_default() {
        let (ready, sentence) = match role.as_str() {
            // The stand-in has no health door of its own; that it listens is all that it can tell.
            "model" => (
                TcpStream::connect(door::host(&process.ops)).await.is_ok(),
                "a stand-in for a provider".to_owned(),
            ),
            _ => door::readiness(&process.ops)
                .await
                .unwrap_or_else(|error| (false, format!("does not answer: {error}"))),
        };
        lines.push(RoleLine { role, ready, sentence, pid: process.pid, address: process.ops });
    }
    lines
}

/// Every consumer but the recorder's, whose lag the record's line tells.
async fn queues(cell: &Cell, bus: &Bus) -> Result<Vec<Queue>> {
    let directory =
        directory::active(bus).await?.context("the cell has no directory: start it with `tidegate dev`")?;
    let bundle = policy::active_bundle(bus).await?;
    let topology = topology(&provision::shape(cell, &[&bundle]), &directory);
    let mut queues = Vec::new();
    for spec in topology.consumers.iter().filter(|spec| spec.durable_name != RECORDER) {
        let state = bus.consumer_info(&spec.stream, &spec.durable_name).await.with_context(|| {
            format!("asking for `{}` of `{}`; run `tidegate provision`", spec.durable_name, spec.stream)
        })?;
        let waits = state.pending + state.ack_pending > 0;
        queues.push(Queue {
            stream: spec.stream.clone(),
            consumer: spec.durable_name.clone(),
            waiting: state.pending,
            in_flight: state.ack_pending,
            redelivered: state.redelivered,
            oldest_ms: if waits { oldest(bus, spec, state.ack_floor).await } else { None },
        });
    }
    Ok(queues)
}

/// Age of the first message past the acknowledged ones, milliseconds.
async fn oldest(bus: &Bus, spec: &ConsumerSpec, floor: u64) -> Option<u64> {
    // A stream that has one consumer with several filters holds nothing else.
    let filter = match spec.filter_subjects.as_slice() {
        [one] => one,
        _ => ">",
    };
    let first = act::look(bus, &spec.stream, filter, floor + 1).await.ok()??;
    u64::try_from(Timestamp::now().duration_since(first.published).as_millis()).ok()
}

async fn bundle(bus: &Bus) -> Result<Option<BundleLine>> {
    let Some(active) = policy::active_hash(bus).await? else { return Ok(None) };
    let bundle = policy::active_bundle(bus).await?;
    let released = released::in_force(bus).await?;
    Ok(Some(BundleLine {
        hash: active.hash.to_string(),
        name: bundle.manifest().name.to_string(),
        owner: bundle.owner().to_owned(),
        event: active.event,
        shadow: released.and_then(|now| now.shadow),
        canary: released.and_then(|now| now.canary),
        taken_back: released.and_then(|now| now.taken_back),
    }))
}

async fn record(cell: &Cell, bus: &Bus) -> Result<RecordLine> {
    let record = Record::open(cell).await?;
    let status = record.status().await?;
    let mut lag = 0;
    for stream in recorded_streams(bus).await? {
        let last = bus.stream_info(&stream).await?.last;
        let at = status.streams.iter().find(|(name, _)| *name == stream).map_or(0, |(_, at)| *at);
        lag += last.saturating_sub(at);
    }
    let dead = dead::open(&record, None).await?.len();
    Ok(RecordLine {
        records: status.records,
        lag,
        accepted: status.accepted,
        ended: status.ended,
        open: status.open,
        alarms: status.anomalies,
        dead,
        asked: record.source(),
        guarded: record.guarded().await?,
    })
}

/// Streams that have a recorder's consumer.
async fn recorded_streams(bus: &Bus) -> Result<Vec<String>> {
    let is_recorded = |name: &String| !name.starts_with("KV_") && name != tidegate_schemas::subject::REPLAY;
    Ok(bus.stream_names().await?.into_iter().filter(is_recorded).collect())
}

fn show(screen: &Screen) {
    output::line(format!("cell {}, {} (nats-server {})", screen.cell, screen.url, screen.server));
    output::line("");
    let rows = screen.roles.iter().map(|role| {
        let state = if role.ready { "ready" } else { "NOT READY" };
        let why = if role.sentence == "ready" { String::new() } else { role.sentence.clone() };
        vec![role.role.clone(), state.into(), role.pid.to_string(), role.address.clone(), why]
    });
    output::table(&["ROLE", "STATE", "PROCESS", "ADDRESS", ""], &rows.collect::<Vec<_>>());
    output::line("");
    let rows = screen.queues.iter().map(|queue| {
        let oldest = queue.oldest_ms.map_or_else(|| "-".to_owned(), age);
        let counts = [queue.waiting, queue.in_flight, queue.redelivered].map(|count| count.to_string());
        let mut row = vec![queue.stream.clone(), queue.consumer.clone()];
        row.extend(counts);
        row.push(oldest);
        row
    });
    output::table(
        &["QUEUE", "CONSUMER", "WAITING", "IN FLIGHT", "AGAIN", "OLDEST"],
        &rows.collect::<Vec<_>>(),
    );
    output::line("");
    let off: Vec<String> = screen.off.iter().map(lane::words).collect();
    output::line(format!("off      {}", if off.is_empty() { "nothing".to_owned() } else { off.join("; ") }));
    output::line(format!("flags    {}", flag::on(&screen.flags)));
    output::line(format!("vault    {}", screen.vault));
    for spent in &screen.kept.spent {
        output::line(format!("budget   no room: {spent}; see: tidegate budget show"));
    }
    for broken in &screen.kept.broken {
        output::line(format!("breaker  {}", budget::place(broken)));
    }
    for of in &screen.kept.unread {
        output::line(format!("budget   {}", budget::damaged(of)));
    }
    match &screen.bundle {
        Some(b) => {
            let since =
                if b.event == 0 { "the cell began".to_owned() } else { format!("EVENTS:{}", b.event) };
            output::line(format!("bundle   {} {} (owner {}, since {since})", b.name, b.hash, b.owner));
            released_beside(b, screen.record.as_ref().and_then(|record| record.guarded.as_ref()));
        }
        None => output::line("bundle   none: nothing can be decided; start the cell with `tidegate dev`"),
    }
    for short in &screen.unreviewed {
        output::line(format!(
            "review   {short}: what is held in it ends rejected; `tidegate tool reviewer NAME --queue {}`",
            short.queue
        ));
    }
    match &screen.record {
        Some(r) => {
            output::line(format!(
                "record   {} records, {} behind; tasks: {} accepted = {} ended + {} open",
                r.records, r.lag, r.accepted, r.ended, r.open
            ));
            output::line(format!(
                "alarms   {}{}",
                r.alarms,
                hint(
                    r.alarms > 0,
                    &format!("tidegate audit query --anomalies{}", ask(screen.bundle.as_ref()))
                )
            ));
            output::line(format!("dead     {}{}", r.dead, hint(r.dead > 0, "tidegate dead list")));
        }
        None => {
            let why = screen.record_error.as_deref().unwrap_or_default();
            output::line(format!("record   cannot be asked: {why}"));
        }
    }
}

/// What is judged beside the active bundle, what decides for a share, and what its guards saw.
fn released_beside(bundle: &BundleLine, guarded: Option<&Guarded>) {
    if let Some(shadow) = bundle.shadow {
        output::line(format!("shadow   {shadow}"));
    }
    if bundle.canary.is_some() || bundle.taken_back.is_some() {
        let canary = released::status::canary(bundle.canary.as_ref(), bundle.taken_back.as_ref());
        output::line(format!("canary   {canary}"));
    }
    let Some((guarded, _)) = guarded.zip(bundle.canary) else { return };
    let told = guarded.guards.iter().map(|line| match line.state {
        GuardState::Watching if line.alone.is_some() => {
            let tenant = line.alone.as_ref().map_or("", |tenant| tenant.as_str());
            format!("{} worse for tenant {tenant} ALONE", line.guard.as_str())
        }
        GuardState::Watching => format!("{} {:.0} %", line.guard.as_str(), line.evidence * 100.0),
        GuardState::Alarm => format!("{} ALARM", line.guard.as_str()),
        GuardState::Off => format!("{} off", line.guard.as_str()),
    });
    output::line(format!("guards   {} (of an alarm)", told.collect::<Vec<_>>().join(", ")));
}

/// Whom to ask about what is odd.
fn ask(bundle: Option<&BundleLine>) -> String {
    bundle.map(|bundle| format!("; ask {}", bundle.owner)).unwrap_or_default()
}

fn hint(show: bool, command: &str) -> String {
    if show { format!("; see: {command}") } else { String::new() }
}

/// A time span in the unit that suits it.
pub(super) fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_are_told_in_the_unit_that_suits_them() {
        let rows = [(0, "0 ms"), (999, "999 ms"), (1_950, "1.9 s"), (120_000, "2 min"), (7_200_000, "2 h")];
        for (ms, text) in rows {
            assert_eq!(super::age(ms), text);
        }
    }
}
