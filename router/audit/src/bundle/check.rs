//! The check of a bundle: both trees grown anew, over the leaves as they are and over the hashes of the tiles, and compared with
//! what is signed; each leaf against those before it, each sealed body against its leaf.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::{BundleError, Verified, bytes};
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::complete::Accounts;
use crate::copy::Attached;
use crate::export::{BODIES, PrunedRange, PrunedSequences, tile_path, tiles};
use crate::leaf::{Flag, Leaf, RecordKind, leaf_hash};
use crate::merkle::{Frontier, Hash, TILE_HEIGHT, TILE_WIDTH, hashes};
use crate::segment::{Part, Pruning};
use crate::verify::{Fault, GivenUp, Level, Report, Trust, body_fault};

/// A signed head that the leaves must have.
struct Head {
    checkpoint: Checkpoint,
    fault: Fault,
}

pub(super) struct Check<'a> {
    dir: &'a Path,
    pub(super) report: Report,
    accounts: Accounts,
    /// Over the leaves as they are here.
    leaves: Frontier,
    /// Over the hashes that the tiles hold.
    tiles: Frontier,
    tile: Vec<Hash>,
    pub(super) lines: u64,
    /// Hashes of the tiles above the lowest level, by level.
    upper: BTreeMap<u32, Vec<Hash>>,
    /// Leaves that are not those of their tile.
    suspects: Vec<u64>,
    /// In reverse order.
    heads: Vec<Head>,
    /// Leaves of the last head that fitted: of all, and by origin of those that were kept outside.
    good: u64,
    agreed: BTreeMap<String, u64>,
    /// Heads that are larger than the bundle, and were given up by a break.
    beyond: Vec<Checkpoint>,
    /// Sealed bodies, where the export has them.
    bodies: Option<Attached>,
    /// The first record of the segment whose pruning was asked for last.
    asked: Option<u64>,
    has_bodies: bool,
    /// Whether the tiles had the last head's root.
    tiles_fit: bool,
}

// === impl Check ===

impl<'a> Check<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            report: Report::new(Level::Full, 0, 0),
            accounts: Accounts::default(),
            leaves: Frontier::default(),
            tiles: Frontier::default(),
            tile: Vec::new(),
            lines: 0,
            upper: BTreeMap::new(),
            suspects: Vec::new(),
            heads: Vec::new(),
            good: 0,
            agreed: BTreeMap::new(),
            beyond: Vec::new(),
            bodies: None,
            asked: None,
            has_bodies: false,
            tiles_fit: false,
        }
    }

    /// Opens what belongs to bodies, of which those before a range are skipped.
    pub(super) fn attach(&mut self, skip: u64) {
        let (bodies, bad) = Attached::open(self.dir);
        self.has_bodies = bodies.is_some() || !bad.is_empty();
        self.bodies = bodies;
        for name in bad {
            self.report.add(None, Some(name.to_owned()), Fault::Attached);
        }
        for _ in 0..skip {
            self.sealed();
        }
    }

    /// The next sealed body. Where their file is cut short no more are read.
    fn sealed(&mut self) -> Option<Option<Vec<u8>>> {
        let sealed = self.bodies.as_mut()?.next();
        if sealed.is_none() {
            self.bodies = None;
            self.report.add(None, Some(BODIES.to_owned()), Fault::Attached);
        }
        sealed
    }

    /// Of records before a range the tiles hold the hashes; what they said is not known here.
    pub(super) fn begin(&mut self, first: u64) -> Result<(), BundleError> {
        self.report.from = first;
        self.accounts = if first > 0 { Accounts::from_the_middle() } else { Accounts::default() };
        for (index, width) in tiles(self.report.signed.unwrap_or_default()) {
            if index * TILE_WIDTH as u64 >= first {
                break;
            }
            let tile = bytes(&self.dir.join(tile_path("0", index, width)), (TILE_WIDTH * 32) as u64)?;
            for hash in hashes(&tile).take(usize::try_from(first - self.lines).unwrap_or(TILE_WIDTH)) {
                self.due();
                self.push(hash, Some(hash));
                self.lines += 1;
            }
        }
        Ok(())
    }

    /// Gathers what is signed: the bundle's own checkpoints, and those that were kept outside.
    pub(super) fn gather(
        &mut self,
        notes: &mut dyn Iterator<Item = Result<String, BundleError>>,
        key: &PublicKey,
        trust: &Trust,
        given_up: &GivenUp,
        newest: &Checkpoint,
    ) -> Result<(), BundleError> {
        self.report.signed = Some(newest.size);
        self.report.epoch = key.epoch(&newest.origin).unwrap_or(1);
        for note in notes {
            match key.open(&note?) {
                Ok(checkpoint) if checkpoint.size <= newest.size => {
                    self.report.checkpoints += 1;
                    self.heads.push(Head { checkpoint, fault: Fault::Signed });
                }
                _ => self.report.add(None, Some("one of all".to_owned()), Fault::Checkpoint),
            }
        }
        self.heads.push(Head { checkpoint: newest.clone(), fault: Fault::Signed });
        for pinned in &trust.pinned {
            let given_up = given_up.covers(pinned);
            if pinned.size > newest.size && given_up {
                self.beyond.push(pinned.clone());
            } else if pinned.size > newest.size {
                let places = format!("records {} to {}", newest.size, pinned.size - 1);
                self.report.add(Some(newest.size), Some(places), Fault::RolledBack);
            } else {
                let fault = if given_up { Fault::GivenUp } else { Fault::Pinned };
                self.heads.push(Head { checkpoint: pinned.clone(), fault });
            }
        }
        self.heads.sort_by_key(|head| std::cmp::Reverse(head.checkpoint.size));
        Ok(())
    }

    /// What is found where the newest checkpoint does not open.
    pub(super) fn unsigned(self, said: Checkpoint) -> Verified {
        Verified { report: self.report, checkpoint: said, has_bodies: false, accounts: Vec::new() }
    }

    pub(super) fn leaf(&mut self, line: &[u8], size: u64) {
        self.due();
        let index = self.lines;
        self.lines += 1;
        if index >= size {
            self.report.add(Some(index), None, Fault::Added);
            return;
        }
        let hash = leaf_hash(line);
        let held = self.held(index, size);
        if held != Some(hash) {
            self.suspects.push(index);
        }
        self.push(hash, held);
        self.report.records += 1;
        let sealed = self.sealed();
        match serde_json::from_slice::<Leaf>(line) {
            Ok(leaf) => {
                self.says(&leaf, index);
                if let Some(sealed) = sealed {
                    self.body(&leaf, index, sealed.as_deref(), size);
                }
            }
            Err(_) => self.report.add(Some(index), None, Fault::LeafForm),
        }
    }

    /// Compares a sealed body with its leaf. One that was pruned is not there, and a record must say so.
    fn body(&mut self, leaf: &Leaf, index: u64, sealed: Option<&[u8]>, size: u64) {
        let pruned = self.bodies.as_mut().and_then(|bodies| bodies.pruned(index));
        let fault = match (&pruned, sealed) {
            (Some(_), None) => {
                self.report.pruned_bodies += u64::from(leaf.body.is_some());
                None
            }
            _ => body_fault(leaf, sealed),
        };
        self.report.bodies += u64::from(sealed.is_some());
        if let Some(fault) = fault {
            self.report.add(Some(index), Some(leaf.position().to_string()), fault);
        }
        if let Some(segment) = pruned
            && self.asked.replace(segment.first) != Some(segment.first)
            && let Some(Pruning { act, leaf, .. }) = &segment.bodies
            && !self.says_so(Part::Bodies, segment.first..segment.end, *act, leaf, size)
        {
            let places = format!("records {} to {}", segment.first, segment.end.saturating_sub(1));
            self.report.add(Some(segment.first), Some(places), Fault::NotPruned);
        }
    }

    /// Takes the hashes of records that were pruned, and the sequences that they accounted for. A record must say so.
    pub(super) fn pruned(&mut self, gone: &PrunedRange, size: u64) {
        while self.lines < gone.end {
            self.due();
            let held = self.held(self.lines, size).unwrap_or_default();
            self.lines += 1;
            self.push(held, Some(held));
            self.sealed();
            self.report.pruned += 1;
            self.report.pruned_bodies += 1;
        }
        for PrunedSequences { stream, from, to } in &gone.streams {
            if !self.accounts.take_pruned(stream, *from, *to) {
                self.report.add(Some(gone.first), Some(format!("{stream}:{from}")), Fault::Sequence);
            }
        }
        if !self.says_so(Part::Records, gone.first..gone.end, gone.act, &gone.leaf, size) {
            let places = format!("records {} to {}", gone.first, gone.end.saturating_sub(1));
            self.report.add(Some(gone.first), Some(places), Fault::NotPruned);
        }
    }

    /// Whether the record at `act`, whose leaf this is, prunes a part of these records.
    fn says_so(&self, part: Part, range: Range<u64>, act: u64, line: &str, size: u64) -> bool {
        let Ok(leaf) = serde_json::from_str::<Leaf>(line) else { return false };
        let at = usize::try_from(act % TILE_WIDTH as u64).unwrap_or_default();
        let hash = tile(self.dir, act, size).get(at).copied();
        act < size
            && leaf.index == act
            && hash == Some(leaf_hash(line.as_bytes()))
            && part.is_pruned_by(range, &leaf)
    }

    /// The hash that the tiles hold of the next leaf.
    fn held(&mut self, index: u64, size: u64) -> Option<Hash> {
        let at = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        if at == 0 || self.tile.is_empty() {
            self.tile = tile(self.dir, index, size);
        }
        self.tile.get(at).copied()
    }

    /// Grows both trees, by a leaf's hash and by the one that its tile holds.
    fn push(&mut self, hash: Hash, held: Option<Hash>) {
        let upper = &mut self.upper;
        self.leaves.push(hash, |level, hash| {
            if level > 0 && level % TILE_HEIGHT == 0 {
                upper.entry(level / TILE_HEIGHT).or_default().push(hash);
            }
        });
        self.tiles.push(held.unwrap_or_default(), |_, _| {});
    }

    /// Checks what a leaf says against those before it.
    fn says(&mut self, leaf: &Leaf, index: u64) {
        let position = || Some(leaf.position().to_string());
        if leaf.index != index {
            self.report.add(Some(index), position(), Fault::LeafIndex);
        }
        if let Some(cause) = &leaf.cause
            && !leaf.flags.contains(&Flag::CauseMissing)
            && !self.accounts.holds(&cause.stream, cause.sequence)
        {
            self.report.add(Some(index), position(), Fault::CauseMissing);
        }
        if !self.accounts.take(leaf) {
            self.report.add(Some(index), position(), Fault::Sequence);
        }
        self.report.anomalies += u64::from(leaf.flags.iter().any(|flag| flag.is_anomaly()));
        if (leaf.kind == RecordKind::Gap) != leaf.body.is_none() {
            self.report.add(Some(index), position(), Fault::LeafForm);
        }
    }

    /// Compares with the heads that are signed for exactly the leaves so far.
    fn due(&mut self) {
        while self.heads.last().is_some_and(|head| head.checkpoint.size <= self.lines) {
            let Some(Head { checkpoint, fault }) = self.heads.pop() else { return };
            self.tiles_fit = self.tiles.root() == checkpoint.root;
            let pinned = fault != Fault::Signed;
            let good = if pinned { self.agreed(&checkpoint) } else { self.good };
            if self.leaves.root() == checkpoint.root {
                self.good = checkpoint.size;
                if pinned {
                    self.agreed.insert(checkpoint.origin, checkpoint.size);
                }
            } else if !self.report.problems.iter().any(|known| known.fault == fault) {
                let places = format!("records {good} to {}", checkpoint.size.saturating_sub(1));
                self.report.add(None, Some(places), fault);
            }
        }
    }

    /// How many records a history that somebody kept a checkpoint of has in common with these, as far as is known.
    fn agreed(&self, kept: &Checkpoint) -> u64 {
        self.agreed.get(&kept.origin).copied().unwrap_or_default()
    }

    pub(super) fn end(mut self, checkpoint: Checkpoint) -> Verified {
        self.due();
        for kept in std::mem::take(&mut self.beyond) {
            let places = format!("records {} to {}", self.agreed(&kept), kept.size.saturating_sub(1));
            self.report.add(None, Some(places), Fault::GivenUp);
        }
        for name in self.bodies.take().map(Attached::end).unwrap_or_default() {
            self.report.add(None, Some(name.to_owned()), Fault::Attached);
        }
        let (size, signed) = (checkpoint.size, self.leaves.root() == checkpoint.root);
        if self.lines < size {
            let places = format!("records {} to {}", self.lines, size - 1);
            self.report.add(Some(self.lines), Some(places), Fault::Missing);
        }
        // Hashes that have the signed root are those that were signed: then each leaf is judged by its own.
        let fault = if !signed && self.tiles_fit { Fault::LeafHash } else { Fault::Tile };
        for index in std::mem::take(&mut self.suspects) {
            self.report.add(Some(index), None, fault);
        }
        // Where leaves are bad the tiles above them cannot be judged by them.
        if signed {
            self.upper_tiles();
        }
        let (report, has_bodies, accounts) = (self.report, self.has_bodies, self.accounts.into_vec());
        Verified { report, checkpoint, has_bodies, accounts }
    }
}

impl Check<'_> {
    fn upper_tiles(&mut self) {
        for (level, made) in &self.upper {
            for (index, width) in tiles(made.len() as u64) {
                let path = tile_path(&level.to_string(), index, width);
                let held = bytes(&self.dir.join(&path), (TILE_WIDTH * 32) as u64).unwrap_or_default();
                let from = usize::try_from(index).unwrap_or_default() * TILE_WIDTH;
                if made.get(from..from + width).map(<[Hash]>::concat) != Some(held) {
                    self.report.add(None, Some(path), Fault::Tile);
                }
            }
        }
    }
}

/// The lowest tile that holds a leaf's hash.
fn tile(dir: &Path, index: u64, size: u64) -> Vec<Hash> {
    let first = index / TILE_WIDTH as u64 * TILE_WIDTH as u64;
    let width = usize::try_from(size.saturating_sub(first).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
    let path = dir.join(tile_path("0", index / TILE_WIDTH as u64, width));
    hashes(&bytes(&path, (TILE_WIDTH * 32) as u64).unwrap_or_default()).collect()
}
