//! The memory that a backtest takes at most: of a record of ten thousand messages and of one of a million. Every decision in it
//! comes out otherwise, so that all that is told of one has its place.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::SignedDuration;
use serde_json::json;
use tidegate_audit::{Entry, Filter, Item, MasterKey, Reader};
use tidegate_recorder::rejudge::{Version, backtest};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use tidegate_schemas::work::Hop;
use uuid::Uuid;

use super::{MASTER, open};
use crate::row::{Row, Table, Target};
use crate::task::{self, AGENT, Sample, TENANT};
use crate::{machine, say};

/// What this part is called.
pub(super) const NAME: &str = "backtest memory";
/// Messages of each record; a task and its work each.
const MESSAGES: [u64; 2] = [10_000, 1_000_000];
/// Tasks of one append.
const BATCH: u64 = 500;

pub(super) fn run(table: &mut Table, directory: &Path) -> Result<()> {
    say(NAME);
    let mut peaks = Vec::new();
    for messages in MESSAGES {
        peaks.push(peak_mb(directory, messages).with_context(|| format!("a record of {messages} messages"))?);
    }
    let [few, many] = peaks.as_slice() else { return Ok(()) };
    let row = Row::new(format!("{NAME}, a million messages"), *many, "MB", *few, "of ten thousand");
    table.add(row.target(Target::Ratio(0.8)))
}

/// The most memory that this process had while such a record was tried, megabytes.
fn peak_mb(directory: &Path, messages: u64) -> Result<f64> {
    let dir = tempfile::tempdir_in(directory).context("making a directory for the record")?;
    let sample = Sample::new(512)?;
    written(dir.path(), &sample, messages)?;
    let stricter = task::bundle_that_keeps([TENANT.to_owned()].into_iter())?;
    let (archive, known) = (task::bundle()?.archive().to_owned(), serde_json::to_vec(&sample.directory)?);
    let mut fetch = |version: Version, _: Digest| match version {
        Version::Bundle => Some(archive.clone().into_bytes()),
        Version::Directory => Some(known.clone()),
    };
    let reader = Reader::open(dir.path(), Some(MasterKey::from_bytes(MASTER)))?;
    machine::forget_peak()?;
    let labels = backtest::Labels::default();
    let found = backtest::run(&reader, &Filter::default(), stricter, labels, &mut fetch, &mut |_, _| {})?;
    let peak = machine::peak_mb()?;
    ensure!(found.decisions == messages / 2, "{} decisions", found.decisions);
    ensure!(found.unjudged() == 0, "{} could not be judged", found.unjudged());
    Ok(peak)
}

/// A record of tasks, each with the work that its decision made of it.
fn written(dir: &Path, sample: &Sample, messages: u64) -> Result<()> {
    let mut store = open(dir)?;
    for first in (1..=messages / 2).step_by(usize::try_from(BATCH)?) {
        let mut items = Vec::new();
        for n in first..(first + BATCH).min(messages / 2 + 1) {
            items.extend(pair(sample, n)?);
        }
        store.append(&items)?;
    }
    while store.index()? {}
    Ok(())
}

fn pair(sample: &Sample, n: u64) -> Result<[Item; 2]> {
    let payload =
        task::payload(Uuid::from_u128(0x0193_5000_0000_7000_8000_0000_0000_0000 + u128::from(n)), 512)?;
    let task = task::read(&payload, n)?;
    let decision = sample.judge.decide(&task, &sample.directory, &sample.facts);
    let position = Position::new(format!("TASKS_{TENANT}"), n);
    let headers =
        Hop::of(&task, 0).headers(&position).with(header::DECISION, serde_json::to_string(&decision)?);
    let headers = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let time = sample.facts.now + SignedDuration::from_millis(i64::try_from(n)?);
    let entry = |stream: String, subject: String, headers, payload: String| {
        Item::Message(Entry { stream, sequence: n, subject, time, headers, payload: payload.into() })
    };
    let sent = json!({ "schema_version": 1, "input": "What is a tide?" }).to_string();
    Ok([
        entry(position.stream, format!("task.{TENANT}.{AGENT}.chat"), Vec::new(), payload),
        entry("WORK_CLOUD".to_owned(), format!("work.cloud.openai.interactive.{TENANT}"), headers, sent),
    ])
}
