//! One moment of the record: where its records and bodies are, in the live file or in segments. Everything that reads
//! records by index does it here.

use std::cell::RefCell;
use std::ops::{Deref, Range};
use std::sync::Arc;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, ReadableDatabase as _};
use tidegate_schemas::ids::Position;

use super::index_of;
use crate::error::Failure;
use crate::segment::shelf::Shelf;
use crate::segment::{self, Part, Segment};
use crate::table;

/// The record in one read transaction of its live file.
pub(crate) struct View {
    txn: ReadTransaction,
    shelf: Arc<Shelf>,
    /// Index of the first record in the live file.
    live_first: u64,
    /// The segment that a record was asked of last: who follows an index asks the same one again.
    last: RefCell<Option<(Segment, Rows)>>,
}

/// Rows by index.
type Rows = ReadOnlyTable<u64, &'static [u8]>;

/// Where the records of a range are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the live file.
    Live,
    /// In this segment; its records may be pruned.
    Segment(Box<Segment>),
    /// In no file that is known.
    Nowhere,
}

/// A sealed message, as far as it is there.
pub(crate) enum SealedBody {
    Bytes(Vec<u8>),
    Pruned,
    Missing,
}

/// The sealed messages of a range.
pub(crate) struct Bodies {
    table: Option<Rows>,
}

// === impl View ===

impl View {
    pub(super) fn new(txn: ReadTransaction, shelf: Arc<Shelf>) -> Result<Self, Failure> {
        let meta = txn.open_table(table::META)?;
        let live_first = meta.get(table::META_LIVE_FIRST)?.map_or(0, |index| index.value());
        Ok(Self { txn, shelf, live_first, last: RefCell::default() })
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Index of the first record in the live file.
    pub(crate) fn live_first(&self) -> u64 {
        self.live_first
    }

    /// All segments. A record of an older form has none.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>, Failure> {
        match self.txn.open_table(table::SEGMENTS) {
            Ok(table) => segment::all(&table),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the records of a range are, in order.
    pub(crate) fn places(&self, range: Range<u64>) -> Result<Vec<(Range<u64>, Place)>, Failure> {
        let (mut places, mut at) = (Vec::new(), range.start);
        let sealed = range.end.min(self.live_first);
        if at < sealed {
            let table = self.txn.open_table(table::SEGMENTS)?;
            while at < sealed {
                let (end, place) = match segment::at(&table, at)? {
                    Some(found) => (found.end, Place::Segment(Box::new(found))),
                    None => {
                        let next = table.range(at..)?.next().transpose()?;
                        (next.map_or(sealed, |(first, _)| first.value()), Place::Nowhere)
                    }
                };
                let end = end.clamp(at + 1, sealed);
                places.push((at..end, place));
                at = end;
            }
        }
        if at < range.end {
            places.push((at..range.end, Place::Live));
        }
        Ok(places)
    }

    /// The table that holds the records of a place; none where they were pruned.
    pub(crate) fn records(&self, place: &Place) -> Result<Option<Rows>, Failure> {
        Ok(match place {
            Place::Live => Some(self.txn.open_table(table::REC)?),
            Place::Segment(found) if found.records.is_none() => {
                let db = self.shelf.take(Part::Records, found.first)?;
                Some(db.begin_read()?.open_table(table::REC)?)
            }
            Place::Segment(_) | Place::Nowhere => None,
        })
    }

    /// The bodies of a place's records.
    pub(crate) fn bodies(&self, place: &Place) -> Result<Bodies, Failure> {
        let table = match place {
            Place::Live => Some(self.txn.open_table(table::BODY)?),
            Place::Segment(found) if found.bodies.is_none() => {
                let db = self.shelf.take(Part::Bodies, found.first)?;
                Some(db.begin_read()?.open_table(table::BODY)?)
            }
            Place::Segment(_) | Place::Nowhere => None,
        };
        Ok(Bodies { table })
    }

    /// Hash and leaf of a record; none where there is none or it was pruned.
    pub(crate) fn row(&self, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        if index >= self.live_first {
            return Ok(self.txn.open_table(table::REC)?.get(index)?.map(|row| row.value().to_vec()));
        }
        let mut last = self.last.borrow_mut();
        if !last.as_ref().is_some_and(|(segment, _)| (segment.first..segment.end).contains(&index)) {
            *last = match segment::at(&self.txn.open_table(table::SEGMENTS)?, index)? {
                Some(found) => {
                    let place = Place::Segment(Box::new(found.clone()));
                    self.records(&place)?.map(|rec| (found, rec))
                }
                None => None,
            };
        }
        match &*last {
            Some((_, rec)) => Ok(rec.get(index)?.map(|row| row.value().to_vec())),
            None => Ok(None),
        }
    }

    /// Shows hash and leaf of each record of a range that is there, in order.
    pub(crate) fn rows<E: From<Failure>>(
        &self,
        range: Range<u64>,
        mut show: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (part, place) in self.places(range)? {
            let Some(rec) = self.records(&place)? else { continue };
            for row in rec.range(part).map_err(Failure::from)? {
                let (index, row) = row.map_err(Failure::from)?;
                show(index.value(), row.value())?;
            }
        }
        Ok(())
    }

    /// The sealed message of a record.
    pub(crate) fn body(&self, index: u64) -> Result<SealedBody, Failure> {
        for (_, place) in self.places(index..index.saturating_add(1))? {
            let bodies = self.bodies(&place)?;
            if bodies.is_pruned() && place != Place::Nowhere {
                return Ok(SealedBody::Pruned);
            }
            if let Some(sealed) = bodies.get(index)? {
                return Ok(SealedBody::Bytes(sealed.value().to_vec()));
            }
        }
        Ok(SealedBody::Missing)
    }

    /// Indices of records from one on, at most `limit`, without those that were pruned.
    pub(crate) fn indices(&self, from: u64, limit: usize) -> Result<Vec<u64>, Failure> {
        let mut found = Vec::new();
        let mut at = from;
        while at < self.live_first && found.len() < limit {
            let room = (limit - found.len()) as u64;
            for (part, place) in self.places(at..self.live_first)? {
                let kept = matches!(&place, Place::Segment(segment) if segment.records.is_none());
                let end = if kept { part.end.min(part.start.saturating_add(room)) } else { part.end };
                found.extend((part.start..end).filter(|_| kept));
                at = end;
                if kept {
                    break;
                }
            }
        }
        let rec = self.txn.open_table(table::REC)?;
        for row in rec.range(from.max(self.live_first)..)?.take(limit.saturating_sub(found.len())) {
            found.push(row?.0.value());
        }
        Ok(found)
    }

    /// The segment of a record that was pruned.
    pub(crate) fn pruned(&self, index: u64) -> Result<Option<Segment>, Failure> {
        let place = self.places(index..index.saturating_add(1))?.pop();
        Ok(match place {
            Some((_, Place::Segment(found))) if found.records.is_some() => Some(*found),
            _ => None,
        })
    }

    /// Whether a message's record was pruned.
    pub(crate) fn is_pruned(&self, position: &Position) -> Result<bool, Failure> {
        if self.live_first == 0 || index_of(self, position)?.is_some() {
            return Ok(false);
        }
        let streams = self.txn.open_table(table::STREAMS)?;
        let Some((number, _)) = streams.get(position.stream.as_str())?.map(|head| head.value()) else {
            return Ok(false);
        };
        let pruned = self.txn.open_table(table::PRUNED)?;
        let (start, end) = (table::source(number, 0), table::source(number, position.sequence));
        let before = pruned.range::<&[u8; 12]>(&start..=&end)?.next_back().transpose()?;
        Ok(before.is_some_and(|(_, span)| span.value().0 >= position.sequence))
    }
}

impl Deref for View {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

// === impl Bodies ===

impl Bodies {
    /// Whether there are none any more.
    pub(crate) fn is_pruned(&self) -> bool {
        self.table.is_none()
    }

    /// Those of a range, in order; none where there are none any more.
    pub(crate) fn range(
        &self,
        range: Range<u64>,
    ) -> Result<Option<redb::Range<'static, u64, &'static [u8]>>, Failure> {
        self.table.as_ref().map(|table| Ok(table.range(range)?)).transpose()
    }

    pub(crate) fn get(&self, index: u64) -> Result<Option<AccessGuard<'_, &'static [u8]>>, Failure> {
        match &self.table {
            Some(table) => Ok(table.get(index)?),
            None => Ok(None),
        }
    }
}
