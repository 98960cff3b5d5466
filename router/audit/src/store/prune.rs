//! Pruning: a segment's file goes once an act on record says so and nothing keeps it. Hashes stay.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use redb::{ReadableTable as _, WriteTransaction};
use tidegate_schemas::ids::TaskId;

use super::sweep::STEP;
use super::{Store, write};
use crate::erase::names::{self, Names};
use crate::erase::with_acts;
use crate::error::{Failure, SegmentError};
use crate::find::{BLOCK, block_of};
use crate::keys::task::Wrapped;
use crate::leaf::{Detail, Leaf, RecordKind};
use crate::read::tasks::records_of;
use crate::read::view::{Place, View};
use crate::segment::{Part, Pruning, Segment, make};
use crate::table;
use crate::task::Row;

/// Stream's number → first and last sequence.
type Spans = BTreeMap<u32, (u64, u64)>;

impl Store {
    /// Prunes a part of the segment that begins with a record. `act` is the record that says so: the recorder's own act about
    /// exactly these records. Pruning records prunes their bodies too. Of records the file goes with [`Self::tidy`].
    ///
    /// # Errors
    /// [`SegmentError::NoAct`] when the record does not say so; [`SegmentError::Blocked`] while a hold or an open task keeps
    /// it; [`SegmentError::Stale`] when there is no such segment.
    pub fn prune(&mut self, part: Part, first: u64, act: u64, now: Timestamp) -> Result<(), SegmentError> {
        let view = self.reader().begin()?;
        let segment = view.segments()?.into_iter().find(|segment| segment.first == first);
        let mut segment =
            segment.filter(|found| found.end <= view.live_first()).ok_or(SegmentError::Stale)?;
        if segment.pruning(part).is_some() {
            return Ok(());
        }
        // What explains it must itself be signed, or nobody outside could be shown.
        if self.signed.is_none_or(|signed| act >= signed) {
            return Err(SegmentError::NoAct);
        }
        let told = crate::read::record(&view, act)?.filter(|told| segment.is_pruned_by(part, &told.leaf));
        let told = told.ok_or(SegmentError::NoAct)?;
        if let Some(block) = crate::retain::block(&view, &segment, now)? {
            return Err(SegmentError::Blocked(block));
        }
        let (spans, called, erasures) = match part {
            Part::Records => {
                let (spans, called) = self.said(&view, &segment)?;
                (spans, called, with_acts(&view, segment.first..segment.end)?)
            }
            Part::Bodies => (BTreeMap::new(), Names::new(), Vec::new()),
        };
        drop(view);
        let pruning = Pruning { act, leaf: told.line, swept: 0 };
        if part == Part::Records {
            segment.records = Some(pruning.clone());
        }
        segment.bodies.get_or_insert(pruning);
        let txn = write(&self.db)?;
        self.save(&txn, &segment)?;
        for erasure in &erasures {
            super::erase::put(&txn, erasure)?;
        }
        {
            let mut meta = txn.open_table(table::META).map_err(Failure::from)?;
            names::keep(&txn, &called, &mut meta)?;
            let mut pruned = txn.open_table(table::PRUNED).map_err(Failure::from)?;
            for (stream, (from, to)) in spans {
                pruned.insert(&table::source(stream, from), (to, first)).map_err(Failure::from)?;
            }
        }
        txn.commit().map_err(Failure::from)?;
        self.remove(Part::Bodies, first)
    }

    /// What is kept of what the leaves of a segment say: the sequences of each stream, by its number, without a break in each;
    /// and what they call the data subjects of their keys, which other records may be sealed with.
    fn said(&self, view: &View, segment: &Segment) -> Result<(Spans, Names), Failure> {
        let heads = super::Heads::read(view)?;
        let (mut spans, mut called) = (Spans::new(), Names::new());
        view.rows(segment.first..segment.end, |_, row| -> Result<(), Failure> {
            let Ok(leaf) = serde_json::from_slice::<Leaf>(row.get(32..).unwrap_or_default()) else {
                return Ok(());
            };
            called.extend(names::of(view, &heads.tenants, &self.master, &leaf)?);
            let Some((number, _)) = heads.streams.get(&leaf.source.stream) else { return Ok(()) };
            let to = match leaf.detail {
                Some(Detail::Gap { to, .. }) => to,
                _ => leaf.source.sequence,
            };
            let span = spans.entry(*number).or_insert((leaf.source.sequence, to));
            span.1 = span.1.max(to);
            Ok(())
        })?;
        Ok((spans, called))
    }

    /// Takes the next records of a pruned segment out of the indices; after the last the file goes.
    pub(super) fn unindex(&mut self, segment: &Segment) -> Result<(), SegmentError> {
        let mut segment = segment.clone();
        let Some(pruning) = &mut segment.records else { return Ok(()) };
        let from = segment.first + pruning.swept;
        let to = segment.end.min(from + STEP);
        let leaves = self.pruned_leaves(segment.first, from..to)?;
        pruning.swept = to - segment.first;
        let done = to == segment.end;
        let ended = self.without_records(leaves.iter().filter_map(|leaf| leaf.task).collect())?;
        let txn = write(&self.db)?;
        for leaf in &leaves {
            self.unindex_leaf(&txn, leaf)?;
        }
        self.forget_tasks(&txn, ended)?;
        if done {
            self.forget_blocks(&txn, &segment)?;
        }
        self.save(&txn, &segment)?;
        txn.commit().map_err(Failure::from)?;
        // A key at hand may be of a task that was forgotten.
        self.ring.discard();
        if done { self.remove(Part::Records, segment.first) } else { Ok(()) }
    }

    /// Leaves of a segment that readers no longer see. One that cannot be read is in no index that could be found.
    fn pruned_leaves(&self, first: u64, range: std::ops::Range<u64>) -> Result<Vec<Leaf>, Failure> {
        use redb::ReadableDatabase as _;
        let rec = self.shelf.take(Part::Records, first)?.begin_read()?.open_table(table::REC)?;
        let mut leaves = Vec::new();
        for row in rec.range(range)? {
            let row = row?.1;
            leaves.extend(serde_json::from_slice::<Leaf>(row.value().get(32..).unwrap_or_default()).ok());
        }
        Ok(leaves)
    }

    fn save(&self, txn: &WriteTransaction, segment: &Segment) -> Result<(), Failure> {
        txn.open_table(table::SEGMENTS)?.insert(segment.first, segment.encode().as_slice())?;
        Ok(())
    }

    fn remove(&self, part: Part, first: u64) -> Result<(), SegmentError> {
        self.shelf.forget(part, first);
        let dir = self.shelf.dir();
        make::remove(dir, part, first)
            .map_err(|source| SegmentError::File { path: self.shelf.path(part, first), source })?;
        make::sync_dir(dir)
    }

    fn unindex_leaf(&self, txn: &WriteTransaction, leaf: &Leaf) -> Result<(), Failure> {
        if let Some((number, _)) = self.heads.streams.get(&leaf.source.stream) {
            let place = table::source(*number, leaf.source.sequence);
            match leaf.kind {
                RecordKind::Gap => drop(txn.open_table(table::GAPS)?.remove(&place)?),
                _ => drop(txn.open_table(table::SRC)?.remove(&place)?),
            }
        }
        Ok(())
    }

    /// Those of the tasks of which no record is left. What is being pruned is not shown by a view any more.
    fn without_records(&self, mut tasks: BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, SegmentError> {
        let view = self.reader().begin()?;
        let mut kept = BTreeSet::new();
        for task in &tasks {
            if !records_of(&view, *task, 1)?.0.is_empty() {
                kept.insert(*task);
            }
        }
        tasks.retain(|task| !kept.contains(task));
        Ok(tasks)
    }

    /// Forgets the index of blocks of which all records are pruned now.
    fn forget_blocks(&self, txn: &WriteTransaction, segment: &Segment) -> Result<(), Failure> {
        let view = self.reader().begin()?;
        let (mut terms, mut windows) = (txn.open_table(table::TERMS)?, txn.open_table(table::WINDOWS)?);
        for block in block_of(segment.first)..=block_of(segment.end.saturating_sub(1)) {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let gone = |place: &Place| matches!(place, Place::Segment(found) if found.records.is_some());
            if view.places(range)?.iter().all(|(_, place)| gone(place)) {
                windows.remove(block)?;
                terms.retain_in::<&[u8; 12], _>(
                    &table::found(block, 0)..=&table::found(block, u64::MAX),
                    |_, _| false,
                )?;
            }
        }
        Ok(())
    }

    /// Forgets tasks of which no record is left, with their keys. What they count for in the whole stays counted.
    fn forget_tasks(&self, txn: &WriteTransaction, tasks: BTreeSet<TaskId>) -> Result<(), Failure> {
        let (mut accepted, mut ended) = (0, 0);
        for task in tasks {
            let mut rows = txn.open_table(table::TASKS)?;
            let mut found = Vec::new();
            for row in rows.range(task.0.as_bytes().as_slice()..)? {
                let (key, row) = row?;
                if !key.value().starts_with(task.0.as_bytes()) {
                    break;
                }
                found.push((key.value().to_vec(), serde_json::from_slice::<Row>(row.value()).ok()));
            }
            for (key, row) in found {
                rows.remove(key.as_slice())?;
                let opened = row.as_ref().is_some_and(|row| row.opened.is_some());
                accepted += u64::from(opened);
                ended += u64::from(opened && row.is_some_and(|row| row.terminal.is_some()));
            }
            forget_keys(txn, task)?;
        }
        let mut meta = txn.open_table(table::META)?;
        for (name, more) in [(table::META_PRUNED_ACCEPTED, accepted), (table::META_PRUNED_ENDED, ended)] {
            let before = meta.get(name)?.map_or(0, |count| count.value());
            meta.insert(name, before + more)?;
        }
        Ok(())
    }
}

/// Removes a task's keys, and what its own data subject was called: nothing is left that they could open.
pub(crate) fn forget_keys(txn: &WriteTransaction, task: TaskId) -> Result<(), Failure> {
    let (mut start, mut end) = ([0; 32], [u8::MAX; 32]);
    start[..16].copy_from_slice(task.0.as_bytes());
    end[..16].copy_from_slice(task.0.as_bytes());
    let (mut key_of, mut keys) = (txn.open_table(table::KEY_OF)?, txn.open_table(table::KEYS)?);
    let mut found = Vec::new();
    for row in key_of.range::<&[u8; 32]>(&start..=&end)? {
        let (place, key) = row?;
        found.push((*place.value(), key.value()));
    }
    let mut rows = BTreeSet::new();
    for (place, key) in found {
        key_of.remove(&place)?;
        let wrapped = keys.remove(key)?.and_then(|row| Wrapped::decode(row.value()));
        rows.extend(wrapped.map(|wrapped| wrapped.rows).unwrap_or_default());
    }
    names::forget(txn, &rows)
}
