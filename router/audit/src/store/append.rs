//! One append: items in, leaves and sealed bodies out, all rows gathered and written in key order.

use std::thread;

use redb::{ReadableTable as _, WriteTransaction};
use tidegate_schemas::code::Code;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::result::State;
use uuid::Uuid;

use super::lag::Lag;
use super::prepare::{self, Draft, Told, Unsealed};
use super::ring::{Ring, Sealing, Whose};
use super::rows::{Rows, Tables};
use super::{Appended, Heads, indices, tree};
use crate::body;
use crate::entry::{Entry, Gap, Item};
use crate::error::{AppendError, Failure};
use crate::hold;
use crate::keys::{Entropy, MasterKey};
use crate::leaf::{Detail, Flag, Leaf, RecordKind, Source};
use crate::merkle::Tree;
use crate::project::{Effect, Projection};
use crate::table;

struct Batch<'a, 't> {
    tables: Tables<'t>,
    rows: Rows,
    /// Its records, in order.
    drafts: Vec<Draft>,
    heads: Heads,
    ring: &'a mut Ring,
    entropy: &'a mut Entropy,
    master: &'a MasterKey,
    tree: Tree,
    /// Rows of records that are no longer in the live file.
    past: &'a Past,
    lag: &'a mut Lag,
    appended: Appended,
}

/// Gives a record's row, wherever it is.
pub(super) type Past = dyn Fn(u64) -> Result<Option<Vec<u8>>, Failure>;

/// Makes and writes the rows of one append. Nothing holds until the transaction is committed.
pub(super) fn batch(
    txn: &WriteTransaction,
    (heads, tree): (&Heads, &Tree),
    (ring, entropy, master): (&mut Ring, &mut Entropy, &MasterKey),
    past: &Past,
    lag: &mut Lag,
    items: &[Item],
) -> Result<(Heads, Tree, Appended), AppendError> {
    let meta = txn.open_table(table::META).map_err(Failure::from)?;
    let first = heads.records;
    let mut batch = Batch {
        tables: Tables::open(txn, meta)?,
        rows: Rows::default(),
        drafts: Vec::with_capacity(items.len()),
        heads: heads.clone(),
        ring,
        entropy,
        master,
        tree: tree.clone(),
        past,
        lag,
        appended: Appended { first, records: 0, duplicates: 0, anomalies: Vec::new() },
    };
    for (item, told) in items.iter().zip(prepare::read(items)) {
        batch.take(item, told)?;
    }
    if batch.appended.records > 0 {
        batch.write(txn, heads)?;
    }
    Ok((batch.heads, batch.tree, batch.appended))
}

// === impl Batch ===

impl Batch<'_, '_> {
    fn take(&mut self, item: &Item, told: Option<Told>) -> Result<(), AppendError> {
        let next = self.heads.streams.get(item.stream()).map_or(1, |(_, next)| *next);
        if item.last() < next {
            self.appended.duplicates += 1;
            return Ok(());
        }
        if item.first() != next {
            let stream = item.stream().to_owned();
            return Err(AppendError::Gap { stream, expected: next, got: item.first() });
        }
        let number = indices::stream(&mut self.heads, item.stream(), item.last());
        match (item, told) {
            (Item::Message(entry), Some(told)) => self.message(entry, told, number)?,
            (Item::Gap(gap), _) => self.gap(gap, number),
            (Item::Message(_), None) => {}
        }
        Ok(())
    }

    fn message(&mut self, entry: &Entry, told: Told, stream: u32) -> Result<(), AppendError> {
        let Told { projection: mut told, plain } = told;
        let index = self.heads.records;
        let mut flags = Vec::new();
        self.linked(&mut told)?;
        if self.cause_missing(&told)? {
            flags.push(Flag::CauseMissing);
        }
        if told.malformed {
            flags.push(Flag::Malformed);
        }
        let mut key = None;
        if let (Some(tenant), Some(agent), Some(task)) = (&told.tenant, &told.agent, told.task) {
            let place = table::task_key(task, indices::tenant(&mut self.heads, tenant), agent.as_str());
            key = self.step(place, &told, (stream, entry.sequence), index, &mut flags)?;
        }
        if let (Some(change), Some(Detail::Control { operator, .. })) = (told.hold.take(), &told.detail) {
            let operator = operator.clone();
            self.rows.holds.push(hold::Told { change, operator, time: entry.time, record: index });
        }
        let mut sealing = self.key(&told, key)?;
        let place = body::place(&entry.stream, entry.sequence);
        let workflow = told.tenant.as_ref().zip(told.workflow.as_ref());
        let workflow = workflow.map(|(t, workflow)| self.master.workflow_ref(t.as_str(), workflow.as_str()));
        let leaf = Leaf {
            v: 1,
            id: record_id(entry.time.as_millisecond(), &place),
            index,
            time: entry.time,
            kind: told.kind,
            tenant: told.tenant,
            agent: told.agent,
            task: told.task,
            workflow: workflow.map(hex::encode),
            parent: told.parent,
            subjects: std::mem::take(&mut sealing.refs),
            trace: told.trace,
            source: Source { stream: entry.stream.clone(), sequence: entry.sequence, subject: told.subject },
            cause: told.cause,
            flags,
            state: told.state,
            code: told.code,
            decision: told.decision,
            detail: told.detail,
            body: None,
        };
        let Sealing { id, key, .. } = sealing;
        let unsealed = Unsealed { id, key, nonce: self.entropy.nonce(), place, plain };
        self.record(leaf, Some(unsealed), stream);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap, stream: u32) {
        let flags = if gap.reason.is_explained() { Vec::new() } else { vec![Flag::Unexplained] };
        let tenant = tidegate_schemas::subject::tenant_of_stream(&gap.stream);
        let index = self.heads.records;
        let leaf = Leaf {
            v: 1,
            id: record_id(gap.time.as_millisecond(), &body::place(&gap.stream, gap.from)),
            index,
            time: gap.time,
            kind: RecordKind::Gap,
            tenant,
            agent: None,
            task: None,
            workflow: None,
            parent: None,
            subjects: Vec::new(),
            trace: None,
            source: Source { stream: gap.stream.clone(), sequence: gap.from, subject: None },
            cause: None,
            flags,
            state: None,
            code: None,
            decision: None,
            detail: Some(Detail::Gap { to: gap.to, reason: gap.reason }),
            body: None,
        };
        self.record(leaf, None, stream);
    }

    /// Adds a leaf and what finds it.
    fn record(&mut self, leaf: Leaf, unsealed: Option<Unsealed>, stream: u32) {
        self.lag.take(&leaf);
        let odd = leaf.flags.iter().filter(|flag| flag.is_anomaly());
        self.appended.anomalies.extend(odd.map(|flag| (leaf.index, *flag)));
        indices::add(&mut self.rows, &mut self.heads, &leaf, stream);
        self.appended.records += 1;
        self.drafts.push(Draft { leaf, unsealed });
    }

    /// A verdict and a dead letter name a message; that message says whose they are.
    fn linked(&mut self, told: &mut Projection) -> Result<(), Failure> {
        let Some(link) = told.link.take() else { return Ok(()) };
        let Some(leaf) = self.leaf_at(&link)? else { return Ok(()) };
        if leaf.tenant == told.tenant && (told.task.is_none() || told.task == leaf.task) {
            told.task = leaf.task;
            told.agent = leaf.agent;
            told.workflow = None;
        }
        Ok(())
    }

    fn index_of(&self, position: &Position) -> Result<Option<u64>, Failure> {
        let Some((number, _)) = self.heads.streams.get(&position.stream) else { return Ok(None) };
        let key = table::source(*number, position.sequence);
        if let Some(index) = self.rows.src.get(&key) {
            return Ok(Some(*index));
        }
        Ok(self.tables.src.get(&key)?.map(|index| index.value()))
    }

    fn leaf_at(&self, position: &Position) -> Result<Option<Leaf>, Failure> {
        let Some(index) = self.index_of(position)? else { return Ok(None) };
        let read = |value: &[u8]| serde_json::from_slice(value.get(32..).unwrap_or_default()).ok();
        match index.checked_sub(self.appended.first).and_then(|at| usize::try_from(at).ok()) {
            Some(at) => Ok(self.drafts.get(at).map(|draft| draft.leaf.clone())),
            None if index < self.heads.live_first => Ok((self.past)(index)?.and_then(|row| read(&row))),
            None => Ok(self.tables.rec.get(index)?.and_then(|value| read(value.value()))),
        }
    }

    fn cause_missing(&self, told: &Projection) -> Result<bool, Failure> {
        match (&told.cause, told.kind) {
            (Some(cause), _) => Ok(self.index_of(cause)?.is_none()),
            (
                None,
                RecordKind::Step
                | RecordKind::Work
                | RecordKind::Result
                | RecordKind::Attempt
                | RecordKind::Review,
            ) => Ok(true),
            (None, _) => Ok(false),
        }
    }

    /// Whether it turns away a message of the same agent whose id was used before: that answer stands under an id made from
    /// where the message is, which no task has. Any producer may cause it; it is no oddity of ours.
    fn is_refusal(&self, told: &Projection) -> Result<bool, Failure> {
        let (Some(cause), Some(Code::IdConflict)) = (&told.cause, told.code) else { return Ok(false) };
        if told.effect != Effect::Ended(State::Rejected) || told.task != Some(TaskId::from_position(cause)) {
            return Ok(false);
        }
        let of = |leaf: Leaf| {
            leaf.kind == RecordKind::Task && leaf.tenant == told.tenant && leaf.agent == told.agent
        };
        Ok(self.leaf_at(cause)?.is_some_and(of))
    }

    /// Takes a message into its task's row. Returns the key of the task, where it has one.
    fn step(
        &mut self,
        place: Vec<u8>,
        told: &Projection,
        at: (u32, u64),
        index: u64,
        flags: &mut Vec<Flag>,
    ) -> Result<Option<u64>, Failure> {
        let refusal = self.is_refusal(told)?;
        let Some(row) = indices::task(&mut self.rows, &self.tables, &place, index)? else { return Ok(None) };
        let counted = row.step(told.effect, index, flags);
        if refusal {
            flags.retain(|flag| *flag != Flag::Orphan);
        }
        row.touch(at.0, at.1);
        self.heads.accepted += u64::from(counted.accepted);
        self.heads.ended += u64::from(counted.ended);
        Ok(row.key)
    }

    /// The key that seals a message; `known` is its task's.
    fn key(&mut self, told: &Projection, known: Option<u64>) -> Result<Sealing, Failure> {
        let (Some(tenant), Some(task)) = (told.tenant.clone(), told.task) else {
            return self.ring.cell(&mut self.tables, &mut self.heads.keys, self.entropy);
        };
        if told.subjects.is_empty()
            && let Some(id) = known
            && let Some(sealing) = self.ring.numbered(id, &self.tables)?
        {
            return Ok(sealing);
        }
        let own = format!("task:{task}");
        let mut subjects: Vec<String> = told.subjects.iter().map(|s| s.as_str().to_owned()).collect();
        if subjects.is_empty() {
            subjects.push(own.clone());
        }
        let whose =
            Whose { tenant: tenant.as_str(), task, own: subjects == [own.as_str()], subjects: &subjects };
        let sealing = self.ring.sealing(&whose, &mut self.tables, &mut self.heads.keys, self.entropy)?;
        if let (Effect::Submitted(_), Some(agent)) = (told.effect, &told.agent) {
            self.own_key(task, &tenant, agent, sealing.id);
        }
        Ok(sealing)
    }

    /// Notes the task's key in its row, once.
    fn own_key(&mut self, task: TaskId, tenant: &Name, agent: &Name, id: u64) {
        let place = table::task_key(task, indices::tenant(&mut self.heads, tenant), agent.as_str());
        if let Some((row, _)) = self.rows.tasks.get_mut(&place) {
            row.key.get_or_insert(id);
        }
    }

    fn write(&mut self, txn: &WriteTransaction, before: &Heads) -> Result<(), AppendError> {
        let first = self.appended.first;
        for (index, made) in (first..).zip(prepare::make(std::mem::take(&mut self.drafts))?) {
            self.tree.push(made.hash);
            let sealed = made.sealed.map(|sealed| (index, sealed));
            self.heads.live_bytes +=
                made.row.len() as u64 + sealed.as_ref().map_or(0, |(_, row)| row.len() as u64);
            self.rows.rec.push((index, made.row));
            self.rows.body.extend(sealed);
        }
        self.ring.flush(&mut self.tables)?;
        let Self { ring, rows, tables, heads, tree, lag, .. } = self;
        let (ring, rows) = (&**ring, std::mem::take(rows));
        thread::scope(|scope| {
            // The disk takes the keys while the rows are made; they must be there before the commit.
            let keys = ring.is_changed().then(|| scope.spawn(|| ring.sync()));
            rows.write(txn, tables)?;
            lag.append(txn, &tables.rec, &mut tables.meta, heads.records)?;
            tree::save(txn, tree)?;
            heads.save(txn, before, (ring.rows(), ring.mark()), &mut tables.meta)?;
            match keys.map(thread::ScopedJoinHandle::join) {
                Some(Ok(synced)) => Ok(synced?),
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => Ok(()),
            }
        })
    }
}

/// Microseconds since 1970; 0 before.
pub(crate) fn micros(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_microsecond()).unwrap_or_default()
}

/// A UUIDv7 (RFC 9562 §5.7) whose random bits come from where the message stands, so that it is the same each time.
fn record_id(ms: i64, place: &[u8]) -> Uuid {
    let digest = tidegate_schemas::digest::Digest::plain(place);
    let mut bits = [0; 10];
    bits.copy_from_slice(&digest.as_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(ms).unwrap_or_default(), &bits).into_uuid()
}
