//! `tidegate audit rejudge`: recorded decisions judged again, with no effect on anything.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_audit::Reader;
use tidegate_bus::{Bus, Identity};
use tidegate_policies::Bundle;
use tidegate_recorder::rejudge::{self, Brief, Difference, Fetch, RejudgeError, Rejudged, Version};
use tidegate_schemas::control::{BUNDLES_BUCKET, DIRECTORY_BUCKET};
use tidegate_schemas::digest::Digest;

use super::words::word;
use super::{filter, judged, prove};
use crate::cell::Cell;
use crate::cli::{AuditArgs, Global, RejudgeArgs};
use crate::command::record::Record;
use crate::command::{act, policy};
use crate::output;

/// More decisions differ, or could not be judged, than was allowed.
pub(in crate::command) const BEYOND: u8 = 2;
/// The record cannot be read.
const UNREADABLE: u8 = 3;
/// Differences listed for people; programs get all that were kept.
const LISTED: usize = 10;

pub(super) async fn run(global: &Global, args: &AuditArgs, asked: RejudgeArgs) -> Result<ExitCode> {
    let (record, bus) = match opened(global, args).await {
        Ok(opened) => opened,
        Err(error) => return unreadable(global, &error),
    };
    let other = asked.bundle.as_deref().map(policy::bundle_in).transpose()?.map(Arc::new);
    let (differ_max, unjudged_max) = (asked.differ_max, asked.unjudged_max);
    let found = match judge(global, &record, bus, asked, other.clone()).await {
        Ok(found) => found,
        Err(error) => return unreadable(global, &error),
    };
    let within = found.differ <= differ_max && found.unjudged() <= unjudged_max;
    show(global, &found, other.as_deref(), within)?;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::from(BEYOND) })
}

/// The record's file, and the cell's buckets where there is a cell: they hold the versions that it began with.
pub(super) async fn opened(global: &Global, args: &AuditArgs) -> Result<(Record, Option<Bus>)> {
    open(global, args.record.as_deref(), args.key.as_deref(), args.crashed).await
}

/// The same of the record in `dir`, with its master key in a file.
pub(in crate::command) async fn open(
    global: &Global,
    dir: Option<&Path>,
    key: Option<&Path>,
    crashed: bool,
) -> Result<(Record, Option<Bus>)> {
    if let Some(dir) = dir {
        return Ok((Record::in_directory(dir, key, crashed)?, None));
    }
    let cell = Cell::open(&global.cell)?;
    let bus = match act::operator() {
        Ok(operator) => cell.connect(Identity::Operator(operator)).await.ok(),
        Err(_) => None,
    };
    Ok((Record::open(&cell).await?, bus))
}

async fn judge(
    global: &Global,
    record: &Record,
    bus: Option<Bus>,
    asked: RejudgeArgs,
    other: Option<Arc<Bundle>>,
) -> Result<Rejudged> {
    let filter = filter::of(judged::whole(record, asked.filter).await?)?;
    judging(global, record, bus, move |reader, fetch, progress| {
        rejudge::run(reader, &filter, other, fetch, progress)
    })
    .await
}

/// Judges on a thread that may block, with a bar: the record's file is read while its recorder writes.
pub(in crate::command) async fn judging<T: Send + 'static>(
    global: &Global,
    record: &Record,
    bus: Option<Bus>,
    judge: impl FnOnce(&Reader, &mut Fetch<'_>, &mut dyn FnMut(u64, u64)) -> Result<T, RejudgeError>
    + Send
    + 'static,
) -> Result<T> {
    let reader = Arc::clone(record.file()?);
    let bar = prove::bar(global, "judging")?;
    let mut fetch = fetching(bus);
    let judging = move || {
        let found = judge(&reader, &mut fetch, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        found
    };
    Ok(tokio::task::spawn_blocking(judging).await.context("the record's file broke the reader")??)
}

/// Versions out of the cell's buckets, asked for on a thread that may block.
pub(super) fn fetching(bus: Option<Bus>) -> impl FnMut(Version, Digest) -> Option<Vec<u8>> + Send + 'static {
    let runtime = tokio::runtime::Handle::current();
    move |version, hash| {
        let bucket = match version {
            Version::Bundle => BUNDLES_BUCKET,
            Version::Directory => DIRECTORY_BUCKET,
        };
        let entry = runtime.block_on(bus.as_ref()?.kv_get(bucket, &format!("{hash}"))).ok()??;
        Some(entry.value.to_vec())
    }
}

/// Says that the record cannot be read.
pub(in crate::command) fn unreadable(global: &Global, error: &anyhow::Error) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "verdict": "unreadable", "why": format!("{error:#}") }))?;
    } else {
        output::line(format!("UNREADABLE: {error:#}"));
    }
    Ok(ExitCode::from(UNREADABLE))
}

fn show(global: &Global, found: &Rejudged, other: Option<&Bundle>, within: bool) -> Result<()> {
    if global.json {
        let verdict = if within { "within" } else { "beyond" };
        return output::json(
            &json!({ "verdict": verdict, "bundle": other.map(Bundle::hash), "rejudged": found }),
        );
    }
    let under = match other {
        Some(bundle) => format!("bundle {}", bundle.hash()),
        None => "the bundle that each names".to_owned(),
    };
    output::line(format!(
        "{} decisions judged again under {under}: {} equal, {} differ, {} cannot be judged",
        found.decisions,
        found.equal,
        found.differ,
        found.unjudged()
    ));
    for (why, count) in &found.unjudged {
        output::line(format!("  cannot be judged: {count} {}", word(why).replace('_', " ")));
    }
    if found.differ > 0 {
        let rows: Vec<_> =
            found.outcomes.iter().map(|(arrow, count)| vec![arrow.clone(), count.to_string()]).collect();
        output::table(&["recorded -> judged", "decisions"], &rows);
    }
    for difference in found.differences.iter().take(LISTED) {
        output::line(told(difference));
    }
    let more = usize::try_from(found.differ).unwrap_or(usize::MAX).saturating_sub(LISTED);
    if more > 0 {
        output::line(format!("  and {more} more; the first hundred with --json"));
    }
    Ok(())
}

fn told(difference: &Difference) -> String {
    let Difference { index, position, task, parts, recorded, judged } = difference;
    let parts: Vec<_> = parts.iter().map(word).collect();
    format!(
        "record {index} ({position}), task {task}: {} -> {} ({})",
        brief(recorded),
        brief(judged),
        parts.join(", ")
    )
}

/// A decision in short, in words.
pub(in crate::command) fn brief(brief: &Brief) -> String {
    let place = brief.destination.as_ref().map(|name| format!(" at {name}")).unwrap_or_default();
    let by =
        if brief.policies.is_empty() { String::new() } else { format!(" by {}", brief.policies.join(", ")) };
    format!("{}{place}{by}", brief.outcome.as_str())
}
