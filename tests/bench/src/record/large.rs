//! A record of a million messages: appending them in this process, asking it, reading all of it, and opening it after a crash.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use tidegate_audit::{Item, Level, Reader};

use super::{ROUNDS, file, message, open, record_bytes};
use crate::row::{Row, Table, Target, median};
use crate::say;

mod ask;

/// What this part is called.
pub(super) const NAME: &str = "a million messages";
/// Messages that the recorder is behind.
const MESSAGES: u64 = 1_000_000;
/// Of one append, as the recorder takes them.
const BATCH: u64 = 1_000;
/// Records that are got at random.
const GETS: u64 = 100_000;
/// Longest time to open it after a crash.
const REOPEN_MS_MAX: f64 = 100.0;

pub(super) fn run(table: &mut Table, directory: &Path) -> Result<()> {
    say(&format!("record of {NAME}"));
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
        "store, a million messages appended",
        rate,
        "records/s",
        ceiling,
        "append + fdatasync, new",
    ))?;
    drop(store);
    let mut store = open(dir.path())?;
    while store.index()? {}
    ask::run(table, &store.reader(), now)?;
    read(table, &store.reader())?;

    // The files as they are while it is open are what a crash leaves.
    let crashed = tempfile::tempdir_in(directory).context("making a directory for the copy")?;
    for file in std::fs::read_dir(dir.path())? {
        let file = file?;
        let copy = crashed.path().join(file.file_name());
        std::fs::copy(file.path(), &copy)?;
        // A copy that the disk has not taken yet would have the first commit wait for all of it.
        std::fs::File::open(&copy)?.sync_all()?;
    }
    drop(store);
    ensure!(Reader::open(crashed.path(), None).is_err(), "the copy was closed cleanly");
    let begun = Instant::now();
    let store = open(crashed.path())?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(store.records() == MESSAGES, "{} records after the crash", store.records());
    let stored = std::fs::metadata(crashed.path().join("seg-0.redb"))?.len() as f64;
    let gigabytes = stored / 1e9;
    table.add(Row::new(
        "space of a record",
        stored / MESSAGES as f64,
        "B",
        bytes as f64,
        "leaf and sealed body",
    ))?;
    table.add(
        Row::alone("store opened after a crash", opened, "ms", "").target(Target::AtMost(REOPEN_MS_MAX)),
    )?;
    table.add(Row::alone("its file, of a million messages", gigabytes, "GB", ""))
}

/// When message `n` was stored: a thousand a second.
fn at(now: Timestamp, n: u64) -> Timestamp {
    now + SignedDuration::from_millis(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Reading all of it: leaves, hashes, a verification; and some of it at random.
fn read(table: &mut Table, reader: &Reader) -> Result<()> {
    let begun = Instant::now();
    let mut next = 0;
    while next < MESSAGES {
        next += reader.tail(next, 10_000)?.len() as u64;
    }
    let scan = MESSAGES as f64 / begun.elapsed().as_secs_f64();
    table.add(Row::alone("scan, each leaf read", scan, "records/s", ""))?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        reader.plain_sha256()?;
        let plain = MESSAGES as f64 / begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let report = reader.verify(Level::Full, &mut |_, _| {})?;
        ensure!(report.problems.is_empty() && report.records == MESSAGES, "the record does not verify");
        rounds.push((MESSAGES as f64 / begun.elapsed().as_secs_f64(), plain));
    }
    let (value, ceiling) = median(rounds);
    let row = Row::new(
        "full verify, every core",
        value,
        "records/s",
        ceiling,
        "SHA-256 of the same bytes, one core",
    );
    table.add(row.target(Target::Ratio(0.5)))?;
    let begun = Instant::now();
    // A multiplicative step goes through all places in no order.
    for n in 0..GETS {
        let index = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % MESSAGES;
        ensure!(reader.get(index)?.is_some(), "no record {index}");
    }
    table.add(Row::alone("get at random", GETS as f64 / begun.elapsed().as_secs_f64(), "records/s", ""))
}
