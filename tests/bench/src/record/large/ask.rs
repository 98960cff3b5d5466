//! First pages of all that a record of a million messages can be asked by, alone and together.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tidegate_audit::{Filter, Reader, RecordKind};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::ids::{Identifier, Name, Position};
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::result::State;
use tidegate_schemas::task::Kind;

use super::{MESSAGES, at};
use crate::row::{Row, Table, Target};

/// Each question is asked so often; the slowest answer counts.
const ASKED: usize = 5;
/// Longest time for the first page where an index serves.
const PAGE_MS_MAX: f64 = 20.0;
/// Records of a page where there are as many.
const PAGE: usize = 100;

pub(super) fn run(table: &mut Table, reader: &Reader, now: Timestamp) -> Result<()> {
    let middle = reader.get(MESSAGES / 2)?.context("a record")?.leaf;
    let task = middle.task.context("a task")?;
    let source = Position::new(middle.source.stream.clone(), middle.source.sequence);
    let one_task = slowest(|| {
        ensure!(reader.task(None, task)?.len() == 1, "no such task");
        Ok(())
    })?;
    let message = slowest(|| {
        ensure!(reader.at(&source)?.is_some(), "no such message");
        Ok(())
    })?;
    let mut rows = vec![("task's timeline", one_task), ("message", message)];
    for (name, records, filter) in questions(reader, now)? {
        let ms = slowest(|| {
            let found = reader.query(&filter)?.records.len();
            ensure!(found == records, "{name}: {found} records of {records}");
            Ok(())
        })?;
        rows.push((name, ms));
    }
    for (name, ms) in rows {
        let row = Row::alone(format!("first page by {name}"), ms, "ms", "");
        table.add(row.target(Target::AtMost(PAGE_MS_MAX)))?;
    }
    // What no index serves looks at every record, a part at a time.
    let mut filter = Filter { trace: Some("0".repeat(32)), ..Filter::default() };
    let begun = Instant::now();
    while let Some(next) = reader.query(&filter)?.next {
        filter.after = Some(next);
    }
    let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
    table.add(Row::alone("looked at where no index serves", rate, "records/s", "streams, with progress"))
}

/// Name, records that the first page must have, and the question.
fn questions(reader: &Reader, now: Timestamp) -> Result<Vec<(&'static str, usize, Filter)>> {
    let work = reader.get(MESSAGES / 2 / 3 * 3 + 1)?.context("a record")?.leaf;
    let decision = work.decision.as_ref().context("a decision")?;
    let subject = work.subjects.first().context("a data subject")?.clone();
    let name = |text: &str| Name::new(text).map(Some);
    let plain = Filter::default;
    let (middle, end) = (Some(at(now, MESSAGES / 2)), Some(at(now, MESSAGES - 50)));
    let dense = Filter { tenant: name("acme")?, state: Some(State::Completed), ..plain() };
    Ok(vec![
        ("tenant", PAGE, Filter { tenant: name("acme")?, ..plain() }),
        ("agent", PAGE, Filter { agent: name("bot")?, ..plain() }),
        ("agent, rare", 3, Filter { agent: name("rare")?, ..plain() }),
        ("agent that is not there", 0, Filter { agent: name("nobody")?, ..plain() }),
        ("task", 3, Filter { task: work.task, ..plain() }),
        ("kind", PAGE, Filter { kind: Some(RecordKind::Work), ..plain() }),
        ("kind of work", PAGE, Filter { task_kind: Some(Kind::Chat), ..plain() }),
        ("state", PAGE, Filter { state: Some(State::Completed), ..plain() }),
        ("code that is not there", 0, Filter { code: Some(Code::ModelFailed), ..plain() }),
        ("outcome", PAGE, Filter { outcome: Some(Outcome::Local), ..plain() }),
        ("destination", PAGE, Filter { destination: name("local-small")?, ..plain() }),
        ("policy", PAGE, Filter { policy: Some("permit-local".to_owned()), ..plain() }),
        ("policy that is not there", 0, Filter { policy: Some("no-such-policy".to_owned()), ..plain() }),
        ("bundle", PAGE, Filter { bundle: Some(decision.bundle), ..plain() }),
        ("sensitivity", PAGE, Filter { sensitivity: Some(Sensitivity::Internal), ..plain() }),
        ("stakes", PAGE, Filter { stakes: Some(Stakes::Low), ..plain() }),
        ("category", PAGE, Filter { category: name("personal")?, ..plain() }),
        ("regulation", PAGE, Filter { regulation: name("gdpr")?, ..plain() }),
        ("residency", PAGE, Filter { residency: name("eu")?, ..plain() }),
        ("consent", PAGE, Filter { consent: name("support")?, ..plain() }),
        ("purpose", PAGE, Filter { purpose: name("support")?, ..plain() }),
        ("category that is not there", 0, Filter { category: name("card")?, ..plain() }),
        ("subject reference", 3, Filter { subject_ref: Some(subject), ..plain() }),
        ("person", 3, Filter { subject: Some(Identifier::new("customer-rare")?), ..plain() }),
        ("workflow that is not there", 0, Filter { workflow: Some(Identifier::new("none")?), ..plain() }),
        ("anomaly", 0, Filter { anomalies: true, ..plain() }),
        ("time", PAGE, Filter { from: middle, ..plain() }),
        ("time, the last records", 50, Filter { from: end, ..plain() }),
        ("tenant and time", PAGE, Filter { tenant: name("acme")?, from: middle, ..plain() }),
        ("tenant, state, rare agent", 1, Filter { agent: name("rare")?, ..dense.clone() }),
        ("kind and state, never together", 0, Filter { kind: Some(RecordKind::Task), ..dense }),
    ])
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
