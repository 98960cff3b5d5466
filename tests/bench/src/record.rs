//! The record alone: appending to the store, beside append and fdatasync of the same bytes, plain redb, and SQLite; and a
//! large one.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::{Entry, Item, Keys, Leaf, MasterKey, Options, Plain, Signer, Store};
use uuid::Uuid;

use crate::row::{Row, Table, Target, median};
use crate::say;

use sqlite::Indices;

mod backtest;
mod large;
mod sqlite;

/// Batch sizes, and the ratio to append and fdatasync that is wanted.
const BATCHES: [(usize, Option<f64>); 4] =
    [(1, None), (16, Some(0.40)), (128, Some(0.30)), (1_000, Some(0.20))];
/// Time for one figure of one round.
const SPAN: Duration = Duration::from_millis(400);
/// The key of each record here.
const MASTER: [u8; 32] = [1; 32];
/// Rounds of store and ceilings in turn; an odd number has a median.
const ROUNDS: usize = 3;

/// The parts whose name `only` is part of.
pub(crate) fn run(table: &mut Table, directory: &Path, only: &str) -> Result<()> {
    say("record");
    for (batch, target) in BATCHES {
        if !format!("store batch {batch}").contains(only) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            // Beside each other in time and on the same file system.
            let dir = tempfile::tempdir_in(directory).context("making a directory for the record")?;
            let (store, bytes) = store(dir.path(), batch)?;
            let file = file(dir.path(), batch, bytes)?;
            let others = [
                plain(dir.path(), batch, bytes)?,
                sqlite::rate(dir.path(), Indices::Few, batch, bytes)?,
                sqlite::rate(dir.path(), Indices::All, batch, bytes)?,
            ];
            rounds.push((store, file, others));
        }
        let (value, ceiling) = median(rounds.iter().map(|(store, file, _)| (*store, *file)).collect());
        let row = Row::new(format!("store batch {batch}"), value, "records/s", ceiling, "append + fdatasync");
        table.add(target.map_or(row.clone(), |least| row.target(Target::Ratio(least))))?;
        let others = [
            ("redb", "plain redb, one table", None),
            ("SQLite", "SQLite, 3 indices", Some(Target::Ratio(1.0))),
            ("SQLite alike", "SQLite, 14 indices", Some(Target::Ratio(1.0))),
        ];
        for (at, (name, of, target)) in others.into_iter().enumerate() {
            let both = rounds.iter().map(|(store, _, others)| (*store, others[at])).collect();
            let (value, ceiling) = median(both);
            let row = Row::new(format!("store batch {batch}, of {name}"), value, "records/s", ceiling, of);
            table.add(match target {
                Some(target) => row.target(target),
                None => row,
            })?;
        }
    }
    if backtest::NAME.contains(only) {
        backtest::run(table, directory)?;
    }
    if large::NAME.contains(only) { large::run(table, directory) } else { Ok(()) }
}

/// Records a second of `step`, which writes one batch; messages are made outside of the clock.
fn rate(batch: usize, mut step: impl FnMut(u64) -> Result<Duration>) -> Result<f64> {
    let (mut spent, mut done) = (Duration::ZERO, 0_u64);
    let begun = Instant::now();
    while spent < SPAN && begun.elapsed() < SPAN * 4 {
        spent += step(done)?;
        done += batch as u64;
    }
    Ok(done as f64 / spent.as_secs_f64())
}

fn file(dir: &Path, batch: usize, record_bytes: usize) -> Result<f64> {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("plain.log"))?;
    let bytes = vec![b'x'; batch * record_bytes];
    rate(batch, |_| {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        Ok(begun.elapsed())
    })
}

fn plain(dir: &Path, batch: usize, record_bytes: usize) -> Result<f64> {
    let plain = Plain::create(&dir.join("plain.redb"))?;
    let bytes = vec![b'x'; record_bytes];
    rate(batch, |first| {
        let begun = Instant::now();
        plain.append(first, batch as u64, &bytes)?;
        Ok(begun.elapsed())
    })
}

fn open(dir: &Path) -> Result<Store> {
    let keys = Keys {
        master: MasterKey::from_bytes(MASTER),
        signer: Signer::from_bytes(&[2; 32], "tidegate/bench"),
    };
    Ok(Store::open(dir, keys, &Options::default())?)
}

/// Records a second, and what one weighs.
fn store(dir: &Path, batch: usize) -> Result<(f64, usize)> {
    let mut store = open(dir)?;
    let now = Timestamp::now();
    let rate = rate(batch, |first| {
        let items: Vec<Item> = (first..first + batch as u64).map(|n| message(n, now)).collect();
        let begun = Instant::now();
        store.append(&items)?;
        Ok(begun.elapsed())
    })?;
    Ok((rate, record_bytes(&store)?))
}

/// Bytes of a leaf and its sealed body, of a few on average: the plain files get as many.
fn record_bytes(store: &Store) -> Result<usize> {
    let records = store.reader().tail(0, 300)?;
    let sealed = |leaf: &Leaf| leaf.body.map_or(0, |body| body.length);
    let bytes: u64 = records.iter().map(|record| record.line.len() as u64 + sealed(&record.leaf)).sum();
    Ok(usize::try_from(bytes / (records.len() as u64).max(1))?)
}

/// When the tasks' ids begin, milliseconds.
const TASKS_FROM_MS: u64 = 1_795_000_000_000;
/// The one task of an agent and a person of whom there is nothing else.
const RARE: u64 = 200_000;

/// Message `n` of a road of three: a task, its work, its result, each with 400 bytes of content.
fn message(n: u64, now: Timestamp) -> Item {
    let (task, part) = (n / 3 + 1, n % 3);
    // One id for all three, and in the order of the tasks.
    let ms = TASKS_FROM_MS + task;
    let bits = [&task.to_be_bytes()[..], &[0, 0]].concat();
    let id = uuid::Builder::from_unix_timestamp_millis(ms, &bits.try_into().unwrap_or_default()).into_uuid();
    let content = "x".repeat(400);
    let rare = task == RARE;
    let agent = if rare { "rare" } else { "bot" };
    let (stream, subject, payload) = match part {
        0 => (
            "TASKS_acme",
            format!("task.acme.{agent}.chat"),
            json!({"id": id, "labels": {"sensitivity": "internal"},
                   "data_subjects": if rare { vec!["customer-rare"] } else { Vec::new() },
                   "input": {"messages": [{"role": "user", "content": content}]}}),
        ),
        1 => (
            "WORK_LOCAL",
            "work.local.small.interactive.acme".to_owned(),
            json!({"schema_version": 1, "input": content}),
        ),
        _ => (
            "RESULTS",
            format!("result.acme.{agent}.{id}"),
            json!({"state": "completed", "output": {"type": "text", "text": content, "finish": "stop"}}),
        ),
    };
    let mut headers = if part == 0 { Vec::new() } else { hop(id, agent, task, part, now) };
    if part == 1 {
        headers.push(("tidegate-decision".to_owned(), decision(id)));
    }
    let payload = payload.to_string().into();
    Item::Message(Entry { stream: stream.to_owned(), sequence: task, subject, time: now, headers, payload })
}

/// The decision that sent the work.
fn decision(id: Uuid) -> String {
    json!({"id": id, "outcome": "local", "determining": ["permit-local"], "scan": "recognisers",
           "destination": {"name": "local-small", "model": "small", "region": "eu"},
           "labels": {"sensitivity": "internal", "stakes": "low"},
           "known": {"categories": ["personal"], "regulations": ["gdpr"], "residency": ["eu"], "consent": ["support"],
                     "purpose": "support"},
           "facts": {"directory": "00".repeat(32)}, "bundle": "11".repeat(32)})
    .to_string()
}

fn hop(id: Uuid, agent: &str, task: u64, part: u64, now: Timestamp) -> Vec<(String, String)> {
    let cause = if part == 1 { format!("TASKS_acme:{task}") } else { format!("WORK_LOCAL:{task}") };
    [
        ("tidegate-cause", cause),
        ("tidegate-task-id", id.to_string()),
        ("tidegate-agent", agent.to_owned()),
        ("tidegate-task", format!("TASKS_acme:{task}")),
        ("tidegate-deadline", now.to_string()),
        ("tidegate-submitted", now.to_string()),
        ("tidegate-hop", "0".to_owned()),
        (
            "tidegate-data-subjects",
            if task == RARE { "customer-rare".to_owned() } else { format!("task:{id}") },
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
