//! `tidegate audit egress`: the ledger of what left. A line is a request that was sent, backed by the attempt's record.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_audit::leaf::{Detail, PhaseWord};
use tidegate_audit::{Filter, ProveError, PublicKey, Reader, Record as Found, RecordKind};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::subject::Lane;
use uuid::Uuid;

use super::{filter, judged, prove, words};
use crate::cell::Cell;
use crate::cli::{AuditArgs, Global, QueryArgs};
use crate::command::record::Record;
use crate::output;

/// Tasks whose records are kept while lines of them may follow, count.
const TASKS_KEPT_MAX: usize = 256;
/// Records of one look.
const LOOK_MAX: usize = 1_000;

/// One request that was sent.
#[derive(Debug, Serialize)]
struct Line {
    /// Index of the record that was durable before the first byte left.
    index: u64,
    tenant: Option<Name>,
    agent: Option<Name>,
    task: Option<TaskId>,
    ticket: Option<Uuid>,
    attempt: u32,
    provider: Name,
    host: Option<String>,
    bytes: Option<u64>,
    /// Salted digest of the exact bytes.
    digest: Option<Digest>,
    /// When that record was stored.
    began: Timestamp,
    /// How it ended, where that is on record.
    end: Option<End>,
    /// SHA-256 of the record, as the signed tree has it.
    leaf_hash: String,
    /// The record, exactly as it is stored.
    leaf: String,
    /// Its proof (C2SP tlog-proof); none where no checkpoint covers it yet, or nobody was named who signs.
    proof: Option<String>,
}

/// How a request ended.
#[derive(Debug, Clone, Serialize)]
struct End {
    /// `retried`, `returned`, `late`, or the state of the task's result.
    how: String,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Index of the record that says so.
    index: u64,
}

/// The record, and what was looked up of it.
struct Ledger {
    record: Record,
    signed: Option<(Reader, PublicKey)>,
    tasks: BTreeMap<(Option<Name>, TaskId), Vec<Found>>,
}

pub(super) async fn run(global: &Global, args: &AuditArgs, mut asked: QueryArgs) -> Result<ExitCode> {
    let limit = asked.limit.max(1);
    let record = match &args.record {
        Some(dir) => Record::in_directory(dir, args.key.as_deref(), args.crashed)?,
        None => Record::open(&Cell::open(&global.cell)?).await?,
    };
    asked.filter = judged::whole(&record, asked.filter).await?;
    let mut filter = Filter { kind: Some(RecordKind::Attempt), ..filter::page(asked)? };
    let signed = prove::open(global, args);
    if let Err(error) = &signed {
        output::note(format!("without proofs: {error:#}"));
    }
    let mut ledger = Ledger { record, signed: signed.ok(), tasks: BTreeMap::new() };
    let mut found = 0;
    let next = loop {
        let (page, _) = ledger.record.page(Filter { limit: Some(LOOK_MAX), ..filter.clone() }).await?;
        for attempt in &page.records {
            let Some(line) = ledger.line(attempt).await? else { continue };
            show(global, &line)?;
            found += 1;
            filter.after = Some(tidegate_audit::Cursor::at(attempt.leaf.index));
            if found == limit {
                break;
            }
        }
        if found == limit {
            break filter.after;
        }
        let Some(next) = page.next else { break None };
        filter.after = Some(next);
    };
    match next {
        Some(next) => output::note(format!("{found} requests; more with --after {next}")),
        None => output::note(format!("{found} requests")),
    }
    Ok(ExitCode::SUCCESS)
}

impl Ledger {
    /// The line of an attempt that sent something; none for what ran inside, and for an attempt's end.
    async fn line(&mut self, found: &Found) -> Result<Option<Line>> {
        let leaf = &found.leaf;
        let Some(Detail::Attempt {
            attempt,
            phase: PhaseWord::Started,
            lane: Lane::Cloud,
            target,
            ticket,
            content,
            content_bytes,
            host,
            ..
        }) = &leaf.detail
        else {
            return Ok(None);
        };
        Ok(Some(Line {
            index: leaf.index,
            tenant: leaf.tenant.clone(),
            agent: leaf.agent.clone(),
            task: leaf.task,
            ticket: *ticket,
            attempt: *attempt,
            provider: target.clone(),
            host: host.clone(),
            bytes: *content_bytes,
            digest: *content,
            began: leaf.time,
            end: self.end(found, *attempt).await?,
            leaf_hash: hex::encode(found.hash),
            leaf: found.line.clone(),
            proof: self.proof(leaf.index)?,
        }))
    }

    async fn end(&mut self, begun: &Found, attempt: u32) -> Result<Option<End>> {
        let Some(task) = begun.leaf.task else { return Ok(None) };
        let key = (begun.leaf.tenant.clone(), task);
        if !self.tasks.contains_key(&key) {
            if self.tasks.len() >= TASKS_KEPT_MAX {
                self.tasks.clear();
            }
            let timelines = self.record.task(key.0.clone(), task).await?;
            self.tasks.insert(key.clone(), timelines.into_iter().flat_map(|one| one.records).collect());
        }
        let records = self.tasks.get(&key).map(Vec::as_slice).unwrap_or_default();
        Ok(end(begun, attempt, records))
    }

    fn proof(&self, index: u64) -> Result<Option<String>> {
        let Some((reader, key)) = &self.signed else { return Ok(None) };
        match reader.prove_inclusion(key, index) {
            Ok(proof) => Ok(Some(proof.to_string())),
            Err(ProveError::NotSigned { .. } | ProveError::Unsigned) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The first record after an attempt's beginning that ends it: of the same work, by its own number, or the work's result.
fn end(begun: &Found, attempt: u32, records: &[Found]) -> Option<End> {
    let of_this = |found: &&Found| {
        found.leaf.index > begun.leaf.index
            && begun.leaf.cause.is_some()
            && found.leaf.cause == begun.leaf.cause
    };
    records.iter().filter(of_this).find_map(|found| {
        let (how, status) = match &found.leaf.detail {
            Some(Detail::Attempt { attempt: number, phase, status, .. }) => {
                let ends = *number == attempt && *phase != PhaseWord::Started;
                ends.then(|| (words::word(phase), *status))?
            }
            Some(Detail::Result { attempts, .. }) => (*attempts == attempt)
                .then(|| (found.leaf.state.as_ref().map(words::word).unwrap_or_default(), None))?,
            _ => return None,
        };
        Some(End { how, at: found.leaf.time, status, index: found.leaf.index })
    })
}

fn show(global: &Global, line: &Line) -> Result<()> {
    if global.json {
        return output::json(line);
    }
    let id = |id: Option<String>| id.unwrap_or_else(|| "-".to_owned());
    let end = line.end.as_ref().map_or_else(
        || "no end on record".to_owned(),
        |end| {
            let status = end.status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
            format!("{} {:.3}{status}", end.how, end.at)
        },
    );
    let digest = line.digest.map(|digest| digest.to_string());
    output::line(format!(
        "{:>6}  {:.3}  {}/{}  task {}  ticket {}  attempt {}  {} at {}  {} bytes  sha256 {}  {end}  {}",
        line.index,
        line.began,
        id(line.tenant.as_ref().map(ToString::to_string)),
        id(line.agent.as_ref().map(ToString::to_string)),
        id(line.task.map(|task| task.to_string())),
        id(line.ticket.map(|ticket| ticket.to_string())),
        line.attempt,
        line.provider,
        id(line.host.clone()),
        id(line.bytes.map(|bytes| bytes.to_string())),
        digest.as_deref().and_then(|digest| digest.get(..16)).unwrap_or("-"),
        if line.proof.is_some() { "proven" } else { "not signed yet" },
    ));
    Ok(())
}
