//! `tidegate audit`: asking the record.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_audit::{Cursor, Filter};
use tidegate_schemas::ids::{Identifier, Name, TaskId};

use super::act;
use super::record::{Erased, Record};
use crate::cell::Cell;
use crate::cli::{AuditArgs, AuditCommand, Global, QueryArgs};
use crate::output;

mod accept;
mod access;
mod cases;
mod copy;
mod egress;
mod erase;
pub(super) mod filter;
pub(super) mod judged;
mod known;
mod prove;
pub(super) mod rejudge;
mod report;
mod retain;
mod rotate;
pub(super) mod timeline;
mod trust;
mod verify;
pub(super) mod words;

/// Between two looks for new records.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a query shows that goes on for long.
const LOOKING: &str = "looking {wide_bar} {pos}/{len} records, {eta} left";
/// Records of one look.
const LOOK_MAX: usize = 1_000;

pub(super) async fn run(global: &Global, args: AuditArgs) -> Result<ExitCode> {
    match &args.command {
        AuditCommand::Verify(what) => return verify::run(global, &args, what).await,
        AuditCommand::Prove(what) => return prove::run(global, &args, what).await,
        AuditCommand::Export(what) => return prove::export(global, &args, what).await,
        AuditCommand::Backup { dir, with_keys } => return copy::backup(global, &args, dir, *with_keys).await,
        AuditCommand::Restore { dir, check } => return copy::restore(global, &args, dir, *check).await,
        AuditCommand::Rebuild { from, key_file } => {
            return copy::rebuild(global, &args, from.clone(), key_file.clone()).await;
        }
        AuditCommand::AcceptBreak { reason } => return accept::run(global, reason).await,
        AuditCommand::Prune { plan } => return retain::prune(global, &args, *plan).await,
        AuditCommand::Hold(command) => return retain::hold(global, &args, command).await,
        AuditCommand::Access(asked) => return access::run(global, &args, asked.clone()).await,
        AuditCommand::Erase(asked) => return erase::run(global, asked.clone()).await,
        AuditCommand::RotateKey(asked) => return rotate::run(global, asked.clone()).await,
        _ => {}
    }
    if let AuditCommand::Rejudge(asked) = &args.command {
        return rejudge::run(global, &args, asked.clone()).await;
    }
    if let AuditCommand::Report(report) = &args.command {
        return report::run(global, &args, report.clone()).await;
    }
    // What is wrong by itself needs no record to be told.
    match &args.command {
        AuditCommand::Query(asked) | AuditCommand::Egress(asked) => filter::check(asked.clone())?,
        AuditCommand::Task { id, tenant, agent } => drop(named(id, tenant.as_ref(), agent.as_ref())?),
        _ => {}
    }
    if let AuditCommand::Egress(asked) = &args.command {
        return egress::run(global, &args, asked.clone()).await;
    }
    let (record, bus) = match &args.record {
        Some(dir) => (Record::in_directory(dir, args.key.as_deref(), args.crashed)?, None),
        None => {
            let cell = Cell::open(&global.cell)?;
            (Record::open(&cell).await?, act::connect(&cell).await.ok())
        }
    };
    match args.command {
        AuditCommand::Tail { lines, once } => tail(global, &record, lines, once).await,
        AuditCommand::Task { id, tenant, agent } => {
            let id = named(&id, tenant.as_ref(), agent.as_ref())?;
            timeline::run(global, &record, bus, id, tenant).await
        }
        AuditCommand::Workflow { id } => workflow(global, &record, id).await,
        AuditCommand::Query(args) => {
            let found = query(global, &record, args.clone()).await?;
            if let (0, Some(bus)) = (found, &bus) {
                known::unknown_words(bus, &args.filter).await;
            }
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Verify(_)
        | AuditCommand::Egress(_)
        | AuditCommand::Prove(_)
        | AuditCommand::Export(_)
        | AuditCommand::Backup { .. }
        | AuditCommand::Restore { .. }
        | AuditCommand::Rebuild { .. }
        | AuditCommand::AcceptBreak { .. }
        | AuditCommand::Prune { .. }
        | AuditCommand::Hold(_)
        | AuditCommand::Rejudge(_)
        | AuditCommand::Access(_)
        | AuditCommand::Erase(_)
        | AuditCommand::RotateKey(_)
        | AuditCommand::Report(_) => Ok(ExitCode::SUCCESS),
    }
}

async fn tail(global: &Global, record: &Record, lines: u64, once: bool) -> Result<ExitCode> {
    let mut next = record.status().await?.records.saturating_sub(lines);
    let end = next.saturating_add(lines);
    loop {
        let filter = Filter { after: before(next), limit: Some(LOOK_MAX), ..Filter::default() };
        let (page, erased) = record.page(filter).await?;
        let found = page.records;
        for record in &found {
            if once && record.leaf.index >= end {
                return Ok(ExitCode::SUCCESS);
            }
            show(global, record, erased.get(&record.leaf.index));
            next = record.leaf.index + 1;
        }
        if found.is_empty() {
            if once {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The cursor of a page that begins with an index.
fn before(index: u64) -> Option<Cursor> {
    index.checked_sub(1).map(Cursor::at)
}

/// One record: for programs the leaf exactly as it is stored, for people also whether its message was erased.
fn show(global: &Global, record: &tidegate_audit::Record, erased: Option<&u64>) {
    let erased = erased.map(|event| format!(" [erased by EVENTS:{event}]")).unwrap_or_default();
    output::line(if global.json { record.line.clone() } else { words::line(&record.leaf) + &erased });
}

/// Records of a filter as they are found, up to the limit. One that no index serves looks at every record: it says how far it
/// is. Returns how many there are.
async fn query(global: &Global, record: &Record, mut args: QueryArgs) -> Result<usize> {
    args.filter = judged::whole(record, args.filter).await?;
    let limit = args.limit.max(1);
    let mut filter = filter::page(args)?;
    let (mut found, mut erased) = (0, Erased::new());
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(LOOKING)?);
    let next = loop {
        let most = (limit - found).min(LOOK_MAX);
        let (page, gone) = record.page(Filter { limit: Some(most), ..filter.clone() }).await?;
        if global.json {
            // Page by page: there may be more than memory holds.
            for (at, record) in page.records.iter().enumerate() {
                let before = if found + at == 0 { "{\"records\":[" } else { "," };
                output::piece(&format!("{before}{}", record.line));
            }
            erased.extend(gone);
        } else {
            let shown = page.records.iter();
            bar.suspend(|| shown.for_each(|record| show(global, record, gone.get(&record.leaf.index))));
        }
        found += page.records.len();
        let Some(next) = page.next.filter(|_| found < limit) else { break page.next };
        if bar.length() == Some(0) {
            bar.set_length(record.status().await?.records);
        }
        bar.set_position(next.index());
        filter.after = Some(next);
    };
    bar.finish_and_clear();
    if global.json {
        let begun = if found == 0 { "{\"records\":[" } else { "" };
        // A leaf stays as it is stored; what became of its message since stands beside the leaves.
        let erased = match erased.is_empty() {
            true => String::new(),
            false => format!(",\"erased\":{}", serde_json::to_string(&erased)?),
        };
        output::line(format!("{begun}]{erased},\"next\":{}}}", serde_json::to_string(&next)?));
        return Ok(found);
    }
    pruned(record, filter.from).await;
    match next {
        Some(next) => output::note(format!("{found} records; more with --after {next}")),
        None => output::note(format!("{found} records")),
    }
    Ok(found)
}

/// Says that older records were pruned, where they were asked for.
pub(super) async fn pruned(record: &Record, from: Option<jiff::Timestamp>) {
    let Ok(gone) = record.status().await.map(|status| status.pruned) else { return };
    let asked = gone.records_until.filter(|until| from.is_none_or(|from| from <= *until));
    if let Some(until) = asked {
        output::note(format!(
            "{} records up to {until:.0} were pruned by retention; their hashes are kept",
            gone.records
        ));
    }
}

/// A task by its UUID, or by its producer's own identifier.
fn named(id: &str, tenant: Option<&Name>, agent: Option<&Name>) -> Result<TaskId> {
    match (id.parse(), tenant, agent) {
        (Ok(id), ..) => Ok(id),
        (Err(_), Some(tenant), Some(agent)) => {
            let named = TaskId::named(tenant, agent, id);
            Ok(named.map_err(|error| output::usage(format!("the id: {error}")))?.0)
        }
        (Err(_), ..) => Err(output::usage(format!(
            "`{}` is no UUID; a producer's own identifier needs --tenant and --agent",
            output::visible(id)
        ))),
    }
}

async fn workflow(global: &Global, record: &Record, id: String) -> Result<ExitCode> {
    let id = Identifier::new(id).context("the workflow")?;
    let found = record.workflow(id).await?;
    if global.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.tasks.is_empty() {
        output::line("no task of that workflow is recorded");
        return Ok(ExitCode::from(2));
    }
    for node in &found.tasks {
        let indent = "  ".repeat(usize::try_from(node.depth).unwrap_or_default().min(32));
        output::line(format!(
            "{indent}{}  {}/{}  {}  {:.0}",
            node.task,
            node.tenant,
            node.agent,
            node.state.as_str(),
            node.submitted
        ));
    }
    Ok(ExitCode::SUCCESS)
}
