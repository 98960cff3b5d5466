//! A record made anew from leaves and sealed bodies that were made before. What finds them follows from the leaves: the same
//! indices, tasks, positions and tiles come out. What was in segments moves into segments again on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use redb::Database;
use tidegate_schemas::ids::TaskId;

use super::lag::Lag;
use super::rows::{Rows, Tables};
use super::sweep::{self, STEP};
use super::{Heads, Options, Store, indices, tree, write};
use crate::copy::keys::{Counts, KeyLine};
use crate::copy::state::State;
use crate::error::{Failure, OpenError, SegmentError};
use crate::leaf::Leaf;
use crate::merkle::{Hash, Tree};
use crate::project::{Effect, effect};
use crate::read::Reader;
use crate::segment::{Segment, make};
use crate::table;

mod kept;

/// Records and bytes of one transaction. Larger than an append's: nobody waits for it.
const RECORDS_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;

/// A record that is made anew, in a directory of its own.
pub(crate) struct Again {
    db: Arc<Database>,
    reader: Reader,
    heads: Heads,
    tree: Tree,
    lag: Lag,
    held: Vec<Held>,
    bytes: usize,
    /// What no leaf says.
    state: State,
    /// Segments that are to come.
    segments: VecDeque<Segment>,
    /// Checkpoints that cover them, by their size.
    signed: BTreeMap<u64, String>,
    /// Tasks whose first records may be gone: their rows are taken as they are. Those of which a record was there.
    seen: BTreeSet<TaskId>,
}

enum Held {
    Record(Box<Old>),
    Pruned(Hash),
}

/// A record that was made before.
pub(crate) struct Old {
    pub(crate) leaf: Leaf,
    pub(crate) hash: Hash,
    pub(crate) line: Vec<u8>,
    pub(crate) sealed: Option<Vec<u8>>,
}

/// What is no leaf of it.
pub(crate) struct Rest {
    /// Which history it is.
    pub(crate) epoch: u64,
    /// The history that began with each break, and what was signed before.
    pub(crate) breaks: Vec<(u64, String)>,
    /// Epoch, size and note of each checkpoint.
    pub(crate) notes: Vec<((u64, u64), String)>,
    pub(crate) keys: Counts,
}

// === impl Again ===

impl Again {
    /// Begins an empty record.
    pub(crate) fn begin(
        dir: &Path,
        state: Option<State>,
        signed: BTreeMap<u64, String>,
    ) -> Result<Self, OpenError> {
        let broken = |Failure(error)| OpenError::from_redb(error, dir);
        let db = Arc::new(Store::database(dir, &Options::default())?);
        let (reader, lag) = (Reader::sealed(Arc::clone(&db), dir), Lag::load(&db, 0).map_err(broken)?);
        let state = state.unwrap_or_default();
        let heads = numbered(&db, &state).map_err(broken)?;
        let (segments, held, seen) = (state.segments().collect(), Vec::new(), BTreeSet::new());
        Ok(Self {
            db,
            reader,
            heads,
            tree: Tree::default(),
            lag,
            held,
            bytes: 0,
            state,
            segments,
            signed,
            seen,
        })
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, old: Old) -> Result<(), SegmentError> {
        self.bytes += old.line.len() + old.sealed.as_ref().map_or(0, Vec::len);
        self.hold(Held::Record(Box::new(old)))
    }

    /// Takes the hash of the next record, which was pruned.
    pub(crate) fn pruned(&mut self, hash: Hash) -> Result<(), SegmentError> {
        self.hold(Held::Pruned(hash))
    }

    fn hold(&mut self, held: Held) -> Result<(), SegmentError> {
        self.held.push(held);
        if self.held.len() < RECORDS_MAX && self.bytes < BYTES_MAX {
            return Ok(());
        }
        self.flush()?;
        self.seal()
    }

    /// Takes wrapped keys.
    pub(crate) fn keys(&mut self, lines: &[KeyLine]) -> Result<(), Failure> {
        let txn = write(&self.db)?;
        {
            let (mut keys, mut key_of) = (txn.open_table(table::KEYS)?, txn.open_table(table::KEY_OF)?);
            let mut subjects = txn.open_table(table::SUBJECTS)?;
            for line in lines {
                match line {
                    KeyLine::Key { key, wrapped, place } => {
                        keys.insert(key, hex::decode(wrapped).unwrap_or_default().as_slice())?;
                        if let Some(place) = place.as_deref().and_then(bytes::<32>) {
                            key_of.insert(&place, key)?;
                        }
                    }
                    KeyLine::Subject { subject, row } => {
                        if let Some(subject) = bytes::<16>(subject) {
                            subjects.insert(&subject, row)?;
                        }
                    }
                    KeyLine::Counts(_) => {}
                }
            }
        }
        Ok(txn.commit()?)
    }

    /// Writes what is left, and closes the record.
    pub(crate) fn end(mut self, rest: &Rest) -> Result<(), SegmentError> {
        self.flush()?;
        self.seal()?;
        if let Some(segment) = self.segments.front() {
            return Err(SegmentError::Damaged { index: segment.first });
        }
        self.index()?;
        Ok(self.rest(rest)?)
    }

    fn rest(&mut self, rest: &Rest) -> Result<(), Failure> {
        let txn = write(&self.db)?;
        {
            let mut meta = txn.open_table(table::META)?;
            let before = self.heads.clone();
            self.heads.keys = self.heads.keys.max(rest.keys.keys);
            kept::write(&txn, &self.state, &self.seen, &mut self.heads, &mut meta)?;
            self.heads.save(&txn, &before, (rest.keys.rows, rest.keys.mark), &mut meta)?;
            if rest.epoch > 1 {
                meta.insert(table::META_EPOCH, rest.epoch)?;
            }
            let mut breaks = txn.open_table(table::BREAKS)?;
            for (epoch, note) in &rest.breaks {
                breaks.insert(epoch, note.as_bytes())?;
            }
            let mut notes = txn.open_table(table::CHECKPOINTS)?;
            for (place, note) in &rest.notes {
                notes.insert(place, note.as_bytes())?;
            }
        }
        Ok(txn.commit()?)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.held);
        self.bytes = 0;
        if held.is_empty() {
            return Ok(());
        }
        let txn = write(&self.db)?;
        let meta = txn.open_table(table::META)?;
        let (mut tables, mut rows, before) = (Tables::open(&txn, meta)?, Rows::default(), self.heads.clone());
        for old in held {
            match old {
                Held::Record(old) => self.add(*old, &tables, &mut rows)?,
                Held::Pruned(hash) => {
                    self.tree.push(hash);
                    self.heads.records += 1;
                }
            }
        }
        rows.write(&txn, &mut tables)?;
        self.lag.append(&txn, &tables.rec, &mut tables.meta, self.heads.records)?;
        tree::save(&txn, &mut self.tree)?;
        self.heads.save(&txn, &before, (0, None), &mut tables.meta)?;
        drop(tables);
        txn.commit()?;
        self.lag.committed();
        Ok(())
    }

    fn add(&mut self, old: Old, tables: &Tables<'_>, rows: &mut Rows) -> Result<(), Failure> {
        let Old { leaf, hash, line, sealed } = old;
        let (heads, index) = (&mut self.heads, leaf.index);
        let last = match leaf.detail {
            Some(crate::leaf::Detail::Gap { to, .. }) => to,
            _ => leaf.source.sequence,
        };
        let stream = indices::stream(heads, &leaf.source.stream, last);
        // A number is given once, also where its key is no part of the copy.
        heads.keys = heads.keys.max(leaf.body.map_or(0, |body| body.key + 1));
        let pruned = self.state.pruned.as_ref();
        self.seen.extend(leaf.task.filter(|task| pruned.is_some_and(|pruned| pruned.knows(*task))));
        if let (Some(tenant), Some(agent), Some(task)) = (&leaf.tenant, &leaf.agent, leaf.task) {
            let place = table::task_key(task, indices::tenant(heads, tenant), agent.as_str());
            let is_kept = pruned.is_some_and(|pruned| pruned.tasks.contains_key(&hex::encode(&place)));
            if !is_kept && let Some(row) = indices::task(rows, tables, &place, index)? {
                // What was odd about it stands in the leaf.
                let effect = effect(&leaf);
                let counted = row.step(effect, index, &mut Vec::new());
                row.touch(stream, leaf.source.sequence);
                heads.accepted += u64::from(counted.accepted);
                heads.ended += u64::from(counted.ended);
                if let (Effect::Submitted(_), Some(body)) = (effect, leaf.body) {
                    row.key.get_or_insert(body.key);
                }
            }
        }
        self.lag.take(&leaf);
        indices::add(rows, heads, &leaf, stream);
        self.tree.push(hash);
        let row = [hash.as_slice(), &line].concat();
        heads.live_bytes += (row.len() + sealed.as_ref().map_or(0, Vec::len)) as u64;
        rows.rec.push((index, row));
        rows.body.extend(sealed.map(|sealed| (index, sealed)));
        Ok(())
    }

    /// Brings the index to the records.
    fn index(&mut self) -> Result<(), Failure> {
        while self.lag.is_behind(self.heads.records) {
            let txn = write(&self.db)?;
            self.lag.catch_up(&txn, self.heads.records)?;
            txn.commit()?;
            self.lag.committed();
        }
        Ok(())
    }

    /// Moves the records of segments into their files, as far as a checkpoint covers them.
    fn seal(&mut self) -> Result<(), SegmentError> {
        while let Some(mut segment) = self.segments.front().cloned() {
            let covers = self.signed.range(segment.end..).next();
            let Some((size, note)) = covers.filter(|(size, _)| **size <= self.heads.records) else {
                return Ok(());
            };
            if let Some(pruning) = &mut segment.records {
                // Its records are in no index.
                pruning.swept = segment.end - segment.first;
            } else {
                let covered = (*size, note.clone());
                // What the index does not know yet it would read back from the live file.
                self.index()?;
                segment.newest = make::again(&self.reader, &segment, (covered.0, &covered.1))?;
            }
            self.name(&segment)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Names a segment, and lets its rows go.
    fn name(&mut self, segment: &Segment) -> Result<(), Failure> {
        let mut from = segment.first;
        while from < segment.end {
            let to = segment.end.min(from + STEP);
            let txn = write(&self.db)?;
            let bytes =
                sweep::remove(&txn, table::REC, from..to)? + sweep::remove(&txn, table::BODY, from..to)?;
            self.heads.live_bytes = self.heads.live_bytes.saturating_sub(bytes);
            self.heads.live_first = to;
            {
                txn.open_table(table::SEGMENTS)?.insert(segment.first, segment.encode().as_slice())?;
                let mut meta = txn.open_table(table::META)?;
                meta.insert(table::META_LIVE_FIRST, to)?;
                meta.insert(table::META_LIVE_BYTES, self.heads.live_bytes)?;
            }
            txn.commit()?;
            from = to;
        }
        Ok(())
    }
}

/// Gives streams and tenants the numbers that they had.
fn numbered(db: &Database, state: &State) -> Result<Heads, Failure> {
    let mut heads = Heads { tenants: state.tenants.clone(), ..Heads::default() };
    let txn = write(db)?;
    {
        let mut streams = txn.open_table(table::STREAMS)?;
        for (stream, number) in &state.streams {
            heads.streams.insert(stream.clone(), (*number, 1));
            streams.insert(stream.as_str(), (*number, 1))?;
        }
        let mut tenants = txn.open_table(table::TENANTS)?;
        for (tenant, number) in &state.tenants {
            tenants.insert(tenant.as_str(), number)?;
        }
    }
    txn.commit()?;
    Ok(heads)
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
