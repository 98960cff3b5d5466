//! What one append costs: the full store against append and fdatasync of the same bytes, and against plain redb.
//!
//! `cargo run --release -p tidegate-audit --example append [-- --json]`: a table, or one JSON object a row.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redb::{Builder, ConcurrencyMode, TableDefinition};
use serde_json::json;
use tidegate_audit::{Entry, Item, MasterKey, Options, Store};
use uuid::Uuid;

/// Batch sizes.
const BATCHES: [usize; 4] = [1, 16, 128, 1_024];
/// Time for each figure.
const SPAN: Duration = Duration::from_millis(1_500);
/// Records that a plain store keeps a message in, bytes: what a leaf and a body of these messages are.
const RECORD_BYTES: usize = 600;
const PLAIN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("plain");

/// Message `n` of a road of three: a task, its work, its result, the first two with about 600 bytes of content.
fn message(n: u64, now: Timestamp) -> Item {
    let (task, part) = (n / 3 + 1, n % 3);
    let ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let bits = [&task.to_be_bytes()[..], &[0, 0]].concat();
    let id = uuid::Builder::from_unix_timestamp_millis(ms, &bits.try_into().unwrap_or_default()).into_uuid();
    let content = "x".repeat(400);
    let (stream, subject, payload) = match part {
        0 => (
            "TASKS_acme",
            "task.acme.bot.chat".to_owned(),
            json!({"id": id, "labels": {"sensitivity": "internal"},
                   "input": {"messages": [{"role": "user", "content": content}]}}),
        ),
        1 => (
            "WORK_LOCAL",
            "work.local.small.interactive.acme".to_owned(),
            json!({"schema_version": 1, "input": content}),
        ),
        _ => (
            "RESULTS",
            format!("result.acme.bot.{id}"),
            json!({"state": "completed", "output": {"type": "text", "text": content, "finish": "stop"}}),
        ),
    };
    let headers = if part == 0 { Vec::new() } else { hop(id, task, part, now) };
    let payload = payload.to_string().into();
    Item::Message(Entry { stream: stream.to_owned(), sequence: task, subject, time: now, headers, payload })
}

fn hop(id: Uuid, task: u64, part: u64, now: Timestamp) -> Vec<(String, String)> {
    let cause = if part == 1 { format!("TASKS_acme:{task}") } else { format!("WORK_LOCAL:{task}") };
    [
        ("tidegate-cause", cause),
        ("tidegate-task-id", id.to_string()),
        ("tidegate-agent", "bot".to_owned()),
        ("tidegate-task", format!("TASKS_acme:{task}")),
        ("tidegate-deadline", now.to_string()),
        ("tidegate-submitted", now.to_string()),
        ("tidegate-hop", "0".to_owned()),
        ("tidegate-data-subjects", format!("task:{id}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Records a second of `step`, which writes one batch; messages are made outside of the clock.
fn rate(
    batch: usize,
    mut step: impl FnMut(u64) -> Result<Duration, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let (mut spent, mut done) = (Duration::ZERO, 0_u64);
    let begun = Instant::now();
    while spent < SPAN && begun.elapsed() < SPAN * 4 {
        spent += step(done)?;
        done += batch as u64;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(done as f64 / spent.as_secs_f64())
}

fn file(dir: &Path, batch: usize) -> Result<f64, Box<dyn Error>> {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("plain.log"))?;
    let bytes = vec![b'x'; batch * RECORD_BYTES];
    rate(batch, |_| {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        Ok(begun.elapsed())
    })
}

fn plain(dir: &Path, batch: usize) -> Result<f64, Box<dyn Error>> {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    let db = builder.create(dir.join("plain.redb"))?;
    let bytes = vec![b'x'; RECORD_BYTES];
    rate(batch, |first| {
        let begun = Instant::now();
        let txn = db.begin_write()?;
        {
            let mut table = txn.open_table(PLAIN)?;
            for n in first..first + batch as u64 {
                table.insert(n, bytes.as_slice())?;
            }
        }
        txn.commit()?;
        Ok(begun.elapsed())
    })
}

fn full(dir: &Path, batch: usize) -> Result<f64, Box<dyn Error>> {
    let mut store = Store::open(dir, MasterKey::from_bytes([1; 32]), Options::default())?;
    let now = Timestamp::now();
    rate(batch, |first| {
        let items: Vec<Item> = (first..first + batch as u64).map(|n| message(n, now)).collect();
        let begun = Instant::now();
        store.append(&items)?;
        Ok(begun.elapsed())
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    let here = std::env::current_dir()?;
    for batch in BATCHES {
        // Beside each other in time and on the same file system: only ratios travel.
        let dir = tempfile::tempdir_in(&here)?;
        let ceiling = file(dir.path(), batch)?;
        let plain = plain(dir.path(), batch)?;
        let full = full(dir.path(), batch)?;
        for (name, value) in [("append+fdatasync", ceiling), ("plain redb", plain), ("store", full)] {
            let ratio = value / ceiling;
            if json {
                let row = json!({"name": format!("{name} batch {batch}"), "value": value, "unit": "records/s",
                                 "ceiling": ceiling, "ratio": ratio});
                println!("{row}");
            } else {
                println!("{name:<18} batch {batch:>5} {value:>12.0} records/s   ratio {ratio:.3}");
            }
        }
    }
    Ok(())
}
