//! A record of a million messages: catching up with them, opening it after a crash, and asking it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use tidegate_audit::{Filter, Item, Reader};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::result::State;

use super::{file, message, open, record_bytes};
use crate::row::{Row, Table, Target};
use crate::say;

/// Messages that the recorder is behind.
const MESSAGES: u64 = 1_000_000;
/// Of one append, as the recorder takes them.
const BATCH: u64 = 1_000;
/// Each question is asked so often; the slowest answer counts.
const ASKED: usize = 5;
/// Longest time for the first page where an index serves.
const PAGE_MS_MAX: f64 = 20.0;
/// Longest time to open it after a crash.
const REOPEN_MS_MAX: f64 = 100.0;

pub(super) fn run(table: &mut Table, directory: &Path) -> Result<()> {
    say("record of a million messages");
    let dir = tempfile::tempdir_in(directory).context("making a directory for the record")?;
    let now = Timestamp::now();
    let mut store = open(dir.path())?;
    let mut spent = Duration::ZERO;
    for first in (0..MESSAGES).step_by(usize::try_from(BATCH)?) {
        let items: Vec<Item> = (first..first + BATCH).map(|n| message(n, at(now, n))).collect();
        let begun = Instant::now();
        store.append(&items)?;
        spent += begun.elapsed();
    }
    let rate = MESSAGES as f64 / spent.as_secs_f64();
    let bytes = record_bytes(&store)?;
    let ceiling = file(dir.path(), usize::try_from(BATCH)?, bytes)?;
    table.add(Row::new(
        "store, a million messages behind",
        rate,
        "records/s",
        ceiling,
        "append + fdatasync, new",
    ))?;
    ask(table, &store.reader(), now)?;

    // The files as they are while it is open are what a crash leaves.
    let crashed = tempfile::tempdir_in(directory).context("making a directory for the copy")?;
    for file in std::fs::read_dir(dir.path())? {
        let file = file?;
        std::fs::copy(file.path(), crashed.path().join(file.file_name()))?;
    }
    drop(store);
    ensure!(Reader::open(crashed.path(), None).is_err(), "the copy was closed cleanly");
    let begun = Instant::now();
    let store = open(crashed.path())?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(store.records() == MESSAGES, "{} records after the crash", store.records());
    let gigabytes = std::fs::metadata(crashed.path().join("seg-0.redb"))?.len() as f64 / 1e9;
    table.add(
        Row::alone("store opened after a crash", opened, "ms", "").target(Target::AtMost(REOPEN_MS_MAX)),
    )?;
    table.add(Row::alone("its file, of a million messages", gigabytes, "GB", ""))
}

/// When message `n` was stored: a thousand a second.
fn at(now: Timestamp, n: u64) -> Timestamp {
    now + SignedDuration::from_millis(i64::try_from(n).unwrap_or(i64::MAX))
}

fn ask(table: &mut Table, reader: &Reader, now: Timestamp) -> Result<()> {
    let middle = reader.get(MESSAGES / 2)?.context("a record")?.leaf;
    let task = middle.task.context("a task")?;
    let source = Position::new(middle.source.stream, middle.source.sequence);
    let tenant = Some(Name::new("acme")?);
    let page = |filter: Filter, records: usize| -> Result<f64> {
        slowest(|| {
            let found = reader.query(&filter)?.records.len();
            ensure!(found == records, "{found} records of {records}");
            Ok(())
        })
    };
    let from = Some(at(now, MESSAGES / 2));
    let rows = [
        (
            "task",
            slowest(|| {
                ensure!(reader.task(None, task)?.len() == 1, "no such task");
                Ok(())
            })?,
        ),
        (
            "message",
            slowest(|| {
                ensure!(reader.at(&source)?.is_some(), "no such message");
                Ok(())
            })?,
        ),
        ("tenant", page(Filter { tenant: tenant.clone(), ..Filter::default() }, 100)?),
        ("tenant and time", page(Filter { tenant, from, ..Filter::default() }, 100)?),
        ("time", page(Filter { from, ..Filter::default() }, 100)?),
        ("state", page(Filter { state: Some(State::Completed), ..Filter::default() }, 100)?),
        ("anomaly", page(Filter { anomalies: true, ..Filter::default() }, 0)?),
    ];
    for (name, ms) in rows {
        let row = Row::alone(format!("first page by {name}"), ms, "ms", "");
        table.add(row.target(Target::AtMost(PAGE_MS_MAX)))?;
    }
    // What no index serves looks at every record, a part at a time.
    let mut filter = Filter { policy: Some("no-such-policy".to_owned()), ..Filter::default() };
    let begun = Instant::now();
    while let Some(next) = reader.query(&filter)?.next {
        filter.after = Some(next);
    }
    let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
    table.add(Row::alone("looked at where no index serves", rate, "records/s", "streams, with progress"))
}

/// Milliseconds of the slowest of some runs.
fn slowest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut slowest = Duration::ZERO;
    for _ in 0..ASKED {
        let begun = Instant::now();
        run()?;
        slowest = slowest.max(begun.elapsed());
    }
    Ok(slowest.as_secs_f64() * 1e3)
}
