//! A task's story: each record with its cause and the time between, and each decision with its reasons.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidegate_audit::leaf::Leaf;
use tidegate_audit::read::Timeline;
use tidegate_audit::{Opened, Record as Found};
use tidegate_bus::Bus;
use tidegate_policies::{Bundle, explain};
use tidegate_schemas::control::BUNDLES_BUCKET;
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, TaskId};

use super::words;
use crate::cli::Global;
use crate::command::record::{Erased, Record};
use crate::output;

/// Bundles that decisions name, where the cell still has them: they hold the policies' titles and owners.
struct Bundles {
    bus: Option<Bus>,
    known: BTreeMap<Digest, Option<Bundle>>,
}

impl Bundles {
    async fn get(&mut self, hash: Digest) -> Option<&Bundle> {
        if !self.known.contains_key(&hash) {
            let found = self.fetch(hash).await;
            self.known.insert(hash, found);
        }
        self.known.get(&hash)?.as_ref()
    }

    async fn fetch(&self, hash: Digest) -> Option<Bundle> {
        let entry = self.bus.as_ref()?.kv_get(BUNDLES_BUCKET, &hash.to_string()).await.ok()??;
        Bundle::from_kept(std::str::from_utf8(&entry.value).ok()?).ok()
    }
}

pub(super) async fn run(
    global: &Global,
    record: &Record,
    bus: Option<Bus>,
    id: TaskId,
    tenant: Option<Name>,
) -> Result<ExitCode> {
    let timelines = record.task_told(tenant, id).await?;
    if timelines.is_empty() {
        if global.json {
            output::json(&json!([]))?
        } else {
            output::line("no such task is recorded");
            super::pruned(record, None).await;
        }
        return Ok(ExitCode::from(2));
    }
    if global.json {
        let told: Result<Vec<_>> = timelines.iter().map(as_json).collect();
        output::json(&told?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut bundles = Bundles { bus, known: BTreeMap::new() };
    for (timeline, _) in &timelines {
        show(record, &mut bundles, timeline).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// When a record came, and after what.
#[derive(Serialize)]
struct Step {
    index: u64,
    /// Since the task's first record.
    at_ms: i128,
    /// The record that caused it, where it is the task's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause_index: Option<u64>,
    /// Since that.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<i128>,
}

fn steps(records: &[Found]) -> Vec<Step> {
    let places: BTreeMap<String, &Leaf> =
        records.iter().map(|found| (found.leaf.position().to_string(), &found.leaf)).collect();
    let first = records.first().map(|found| found.leaf.time);
    let step = |found: &Found| {
        let leaf = &found.leaf;
        let cause = leaf.cause.as_ref().and_then(|cause| places.get(&cause.to_string()));
        Step {
            index: leaf.index,
            at_ms: first.map_or(0, |first| millis(first, leaf.time)),
            cause_index: cause.map(|cause| cause.index),
            after_ms: cause.map(|cause| millis(cause.time, leaf.time)),
        }
    };
    records.iter().map(step).collect()
}

fn as_json((timeline, erased): &(Timeline, Erased)) -> Result<serde_json::Value> {
    let records: Vec<Box<RawValue>> =
        timeline.records.iter().map(|r| RawValue::from_string(r.line.clone())).collect::<Result<_, _>>()?;
    let mut told = json!({ "tenant": timeline.tenant, "agent": timeline.agent, "task": timeline.task, "state": timeline.state,
               "deadline": timeline.deadline, "records": records, "steps": steps(&timeline.records), "cut": timeline.cut });
    if let Some(told) = told.as_object_mut().filter(|_| !erased.is_empty()) {
        told.insert("erased".to_owned(), json!(erased));
    }
    Ok(told)
}

async fn show(record: &Record, bundles: &mut Bundles, timeline: &Timeline) -> Result<()> {
    let Timeline { tenant, agent, task, state, records, .. } = timeline;
    output::line(format!("task {task} of {tenant}/{agent}: {}", state.as_str()));
    let times: BTreeMap<String, Timestamp> =
        records.iter().map(|found| (found.leaf.position().to_string(), found.leaf.time)).collect();
    let Some(first) = records.first().map(|found| found.leaf.time) else { return Ok(()) };
    for found in records {
        let leaf = &found.leaf;
        let kind = words::word(&leaf.kind);
        let at = format!("+{} ms", millis(first, leaf.time));
        output::line(format!(
            "  {at:>10}  {kind:<8}  {:<16}  {}",
            leaf.position().to_string(),
            words::what(leaf)
        ));
        if let Some(cause) = &leaf.cause {
            let after =
                times.get(&cause.to_string()).map(|then| format!(", {} ms later", millis(*then, leaf.time)));
            output::line(format!("{:24}because of {cause}{}", "", after.unwrap_or_default()));
        }
        if let Opened::Erased { event } = record.body(found).await? {
            output::line(format!("{:24}its content was erased by EVENTS:{event}", ""));
        }
        if let Some(decision) = decision(record, found).await? {
            for line in explain::text(&decision, bundles.get(decision.bundle).await).lines() {
                output::line(format!("{:24}{line}", ""));
            }
        }
    }
    if timeline.cut {
        output::line(format!("  only the first {} records are shown; more are recorded", records.len()));
    }
    Ok(())
}

fn millis(from: Timestamp, to: Timestamp) -> i128 {
    to.duration_since(from).as_millis()
}

/// The whole decision behind a record, which is sealed with it.
pub(in crate::command) async fn decision(record: &Record, found: &Found) -> Result<Option<Decision>> {
    if found.leaf.decision.is_none() {
        return Ok(None);
    }
    let Opened::Body(body) = record.body(found).await? else { return Ok(None) };
    Ok(body.header(header::DECISION).and_then(|text| serde_json::from_str(text).ok()))
}
