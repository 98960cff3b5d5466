//! The tree against the records: tiles, frontier, and every checkpoint by its root.

use std::collections::BTreeMap;

use redb::ReadTransaction;

use super::{Fault, GivenUp, Report, Trust};
use crate::checkpoint::{Checkpoint, NoteError};
use crate::copy::EpochNote;
use crate::error::Failure;
use crate::merkle::{Frontier, Hash, TILE_HEIGHT, TILE_WIDTH, hashes, proof};
use crate::store::tree::Stored;
use crate::table;

/// A signed head that the records must have.
struct Head {
    checkpoint: Checkpoint,
    of: Of,
}

/// Whose head it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Somebody kept it outside.
    Outside,
    /// The same, and the record went on without it after a break.
    GivenUp,
    /// The record's own, of its newest history.
    Record,
    /// The record's own, of a history before: it only says how far that agrees.
    Before,
}

/// Grows the tree anew, and compares.
pub(super) struct TreeCheck {
    frontier: Frontier,
    /// What is stored as the frontier.
    held: Option<Vec<u8>>,
    heads: Vec<Head>,
    /// Leaves of the last head that fitted.
    good: u64,
    /// The same of those that were kept outside, by origin.
    agreed: BTreeMap<String, u64>,
    /// Heads that are larger than the record, and were given up.
    beyond: Vec<Checkpoint>,
    /// A record is missing, so no root after it can fit.
    broken: bool,
    /// Tiles at hand, by level: index, hashes, and whether one was found wrong.
    tiles: BTreeMap<u8, (u64, Vec<Hash>, bool)>,
}

// === impl TreeCheck ===

impl TreeCheck {
    /// Gathers the heads that are to be found in `records` records, of which those from `from` on will be read. Checkpoints
    /// before that are compared with the stored tiles.
    pub(super) fn begin(
        txn: &ReadTransaction,
        trust: &Trust,
        range: std::ops::Range<u64>,
        newest_only: bool,
        report: &mut Report,
    ) -> Result<Self, Failure> {
        let stored = Stored::open(txn)?;
        let (from, records) = (range.start, range.end);
        let held = txn.open_table(table::TREE)?.get(table::FRONTIER)?.map(|row| row.value().to_vec());
        let mut heads = signed(txn, trust, newest_only, report)?;
        let given_up = given_up(txn, trust, &heads)?;
        for pinned in &trust.pinned {
            let of = if given_up.covers(pinned) { Of::GivenUp } else { Of::Outside };
            heads.push(Head { checkpoint: pinned.clone(), of });
        }
        heads.sort_by_key(|head| (head.checkpoint.size, head.of == Of::Record));
        let mut check = Self {
            frontier: proof::frontier(&stored, from)?,
            held,
            heads: Vec::new(),
            good: 0,
            agreed: BTreeMap::new(),
            beyond: Vec::new(),
            broken: false,
            tiles: BTreeMap::new(),
        };
        for head in heads {
            let size = head.checkpoint.size;
            if size > records {
                match head.of {
                    Of::GivenUp => check.beyond.push(head.checkpoint),
                    Of::Before => {}
                    Of::Outside | Of::Record => {
                        let places = format!("records {records} to {}", size - 1);
                        report.add(Some(records), Some(places), Fault::RolledBack);
                    }
                }
            } else if size < from {
                let root = proof::root(&stored, size)?;
                check.compare(&head, &root, report);
            } else {
                check.heads.push(head);
            }
        }
        check.heads.reverse();
        Ok(check)
    }

    /// Takes the next record's hash.
    pub(super) fn leaf(&mut self, stored: &Stored, leaf: Hash, report: &mut Report) -> Result<(), Failure> {
        if self.broken {
            return Ok(());
        }
        self.due(report);
        let mut made = Vec::new();
        self.frontier.push(leaf, |level, hash| {
            if level % TILE_HEIGHT == 0 {
                made.push((level, hash));
            }
        });
        let size = self.frontier.size();
        for (level, hash) in made {
            let tile = u8::try_from(level / TILE_HEIGHT).unwrap_or(u8::MAX);
            self.tile(stored, tile, (size >> level) - 1, &hash, size - 1, report)?;
        }
        Ok(())
    }

    /// Records that were taken in.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The tree over them; none once one is missing whose hash nobody has.
    pub(super) fn frontier(&self) -> Option<&Frontier> {
        (!self.broken).then_some(&self.frontier)
    }

    /// The next record is missing, or is none: its tile says what it was.
    pub(super) fn lose(&mut self, stored: &Stored, report: &mut Report) -> Result<(), Failure> {
        let (index, at) =
            (self.frontier.size() / TILE_WIDTH as u64, self.frontier.size() % TILE_WIDTH as u64);
        let row = if self.broken { None } else { stored.row(0, index)? };
        let hash = row.and_then(|row| hashes(&row).nth(usize::try_from(at).unwrap_or_default()));
        match hash {
            Some(hash) => self.leaf(stored, hash, report),
            None => {
                self.broken = true;
                Ok(())
            }
        }
    }

    /// All records are read.
    pub(super) fn end(mut self, report: &mut Report) {
        self.due(report);
        let held = self.held.take();
        let empty = self.frontier.size() == 0 && held.is_none();
        // Where a record is bad already, that it does not fit says nothing more.
        let placed = report.problems.iter().any(|problem| problem.index.is_some());
        if !self.broken && !placed && !empty && held.as_deref() != Some(&self.frontier.encode()[..]) {
            report.add(None, None, Fault::Frontier);
        }
        for kept in std::mem::take(&mut self.beyond) {
            self.differs(&kept, Fault::GivenUp, self.agreed(&kept), report);
        }
    }

    /// Compares with the heads that are signed for exactly the records so far.
    fn due(&mut self, report: &mut Report) {
        while self.heads.last().is_some_and(|head| head.checkpoint.size == self.frontier.size()) {
            let Some(head) = self.heads.pop() else { return };
            if !self.broken {
                let root = self.frontier.root();
                self.compare(&head, &root, report);
            }
        }
    }

    fn compare(&mut self, head: &Head, root: &Hash, report: &mut Report) {
        let Head { checkpoint, of } = head;
        if checkpoint.root == *root {
            self.good = checkpoint.size;
            if *of != Of::Record {
                self.agreed.insert(checkpoint.origin.clone(), checkpoint.size);
            }
            return;
        }
        match of {
            Of::Outside => self.differs(checkpoint, Fault::Pinned, self.agreed(checkpoint), report),
            Of::GivenUp => self.differs(checkpoint, Fault::GivenUp, self.agreed(checkpoint), report),
            Of::Record => self.differs(checkpoint, Fault::Signed, self.good, report),
            Of::Before => {}
        }
    }

    /// How many records a history that somebody kept a checkpoint of has in common with these, as far as is known.
    fn agreed(&self, kept: &Checkpoint) -> u64 {
        self.agreed.get(&kept.origin).copied().unwrap_or_default()
    }

    fn differs(&self, head: &Checkpoint, fault: Fault, good: u64, report: &mut Report) {
        let places = format!("records {good} to {}", head.size.saturating_sub(1));
        // What comes after the first one that does not fit cannot fit either.
        if !report.problems.iter().any(|known| known.fault == fault) {
            report.add(None, Some(places), fault);
        }
    }

    /// Compares one hash with the tile that holds it. Of each tile the first that is wrong is told.
    fn tile(
        &mut self,
        stored: &Stored,
        level: u8,
        n: u64,
        hash: &Hash,
        record: u64,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let index = n / TILE_WIDTH as u64;
        if self.tiles.get(&level).is_none_or(|(held, ..)| *held != index) {
            let row = stored.row(level, index)?.map(|row| hashes(&row).collect()).unwrap_or_default();
            self.tiles.insert(level, (index, row, false));
        }
        let at = usize::try_from(n % TILE_WIDTH as u64).unwrap_or_default();
        // The open tile of the lowest level is the records themselves.
        let open = level == 0 && self.held_size() / TILE_WIDTH as u64 == index;
        let Some((_, row, told)) = self.tiles.get_mut(&level) else { return Ok(()) };
        if !open && !*told && row.get(at) != Some(hash) {
            *told = true;
            report.add(Some(record), None, Fault::Tile);
        }
        Ok(())
    }

    /// Records that the stored frontier is of.
    fn held_size(&self) -> u64 {
        let size = self.held.as_ref().and_then(|held| held.first_chunk::<8>());
        size.map_or(0, |size| u64::from_be_bytes(*size))
    }
}

/// The checkpoints of the newest history, each opened.
fn signed(
    txn: &ReadTransaction,
    trust: &Trust,
    newest_only: bool,
    report: &mut Report,
) -> Result<Vec<Head>, Failure> {
    let epoch = txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value());
    report.epoch = epoch;
    let rows = txn.open_table(table::CHECKPOINTS)?;
    let mut rows = rows.range((epoch, 0)..=(epoch, u64::MAX))?;
    let mut heads = Vec::new();
    let newest = if newest_only { rows.next_back() } else { None };
    for row in newest.into_iter().chain(rows.take_while(|_| !newest_only)) {
        let (key, note) = row?;
        let size = key.value().1;
        let note = String::from_utf8_lossy(note.value());
        let opened = match &trust.key {
            Some(key) => key.open(&note),
            None => Checkpoint::unverified(&note).ok_or(NoteError::Malformed),
        };
        let of = |origin: &str| trust.key.as_ref().is_none_or(|key| key.epoch(origin) == Some(epoch));
        match opened {
            Ok(checkpoint) if checkpoint.size == size && of(&checkpoint.origin) => {
                heads.push(Head { checkpoint, of: Of::Record })
            }
            _ => report.add(None, Some(format!("checkpoint of {size} records")), Fault::Checkpoint),
        }
    }
    // Each history begins with a checkpoint, and the first one has its first within a second.
    if epoch > 1 && heads.is_empty() && report.is_ok() {
        report.add(None, Some(format!("history {epoch}")), Fault::Checkpoint);
    }
    report.checkpoints = heads.len() as u64;
    report.signed = heads.last().map(|head| head.checkpoint.size);
    let origin = heads.last().map(|head| head.checkpoint.origin.clone());
    // Who kept a checkpoint of a history before wants to know how far this record agrees with it.
    if let Some(key) = &trust.key
        && trust.pinned.iter().any(|kept| Some(&kept.origin) != origin.as_ref())
    {
        for row in txn.open_table(table::CHECKPOINTS)?.range(..(epoch, 0))? {
            let opened = key.open(&String::from_utf8_lossy(row?.1.value()));
            heads.extend(opened.ok().map(|checkpoint| Head { checkpoint, of: Of::Before }));
        }
    }
    Ok(heads)
}

/// What breaks gave up.
fn given_up(txn: &ReadTransaction, trust: &Trust, heads: &[Head]) -> Result<GivenUp, Failure> {
    if trust.pinned.is_empty() {
        return Ok(GivenUp::default());
    }
    let signed = heads.iter().filter_map(|head| trust.key.as_ref()?.epoch(&head.checkpoint.origin));
    Ok(GivenUp::new(EpochNote::breaks(txn)?, trust.key.as_ref(), signed.max()))
}
