//! Verifying an exported record: files alone, one leaf at a time. Whoever has the public key needs nothing else of ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, PublicKey, sink};
use crate::complete::{Account, Accounts};
use crate::export::{
    CHECKPOINT, CHECKPOINTS, ENTRIES, FIRST, PRUNED, PUBLIC_KEY, PrunedRange, PrunedSequences, RECORDS,
    tile_path, tiles,
};
use crate::leaf::{Flag, LEAF_BYTES_MAX, Leaf, RecordKind, leaf_hash};
use crate::merkle::{Frontier, Hash, TILE_HEIGHT, TILE_WIDTH, hashes};
use crate::segment::Part;
use crate::verify::{Fault, Level, Report, Trust};

#[cfg(test)]
mod tests;

/// Longest file of checkpoints that is read, bytes.
const CHECKPOINTS_BYTES_MAX: u64 = 1 << 30;
/// Longest entry bundle, bytes.
const ENTRIES_BYTES_MAX: u64 = (TILE_WIDTH * (2 + LEAF_BYTES_MAX)) as u64;
/// Longest list of what was pruned, bytes.
const PRUNED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Records between two notes of progress.
const CHUNK: u64 = 4_096;

/// Why a bundle could not be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is missing or cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("`{}` is not what its name says: {what}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
}

/// What a bundle holds.
#[derive(Debug)]
pub struct Verified {
    /// What was found.
    pub report: Report,
    /// What its checkpoint says.
    pub checkpoint: Checkpoint,
    /// What it holds of each stream.
    pub accounts: Vec<Account>,
}

/// The key that a bundle brings itself: a stranger's, until somebody compares it.
///
/// # Errors
/// [`BundleError`] when there is none.
pub fn public_key(dir: &Path) -> Result<PublicKey, BundleError> {
    let path = dir.join(PUBLIC_KEY);
    let text = text(&path, 4_096)?;
    text.trim_end().parse().map_err(|_| BundleError::Form { path, what: "it holds no public key" })
}

/// The first record of a bundle: 0, but for one that is of a range.
pub(crate) fn first(dir: &Path) -> Result<u64, BundleError> {
    let path = dir.join(FIRST);
    if !path.exists() {
        return Ok(0);
    }
    let what = "it must hold the index of the first record";
    text(&path, 32)?.trim_end().parse().map_err(|_| BundleError::Form { path, what })
}

/// Verifies the bundle in a directory against `trust`, whose key must be given. `progress` is told records done and to do.
///
/// # Errors
/// [`BundleError`] when a file cannot be read; what is wrong in it stands in the report.
pub fn verify(
    dir: &Path,
    key: &PublicKey,
    trust: &Trust,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, BundleError> {
    let path = dir.join(CHECKPOINT);
    let note = text(&path, NOTE_BYTES_MAX as u64)?;
    let mut check = Check::new(dir);
    let checkpoint = match key.open(&note) {
        Ok(opened) => opened,
        Err(_) => {
            check.report.add(None, Some("the newest".to_owned()), Fault::Checkpoint);
            let what = "it is no checkpoint";
            Checkpoint::unverified(&note).ok_or(BundleError::Form { path, what })?
        }
    };
    check.gather(&text(&dir.join(CHECKPOINTS), CHECKPOINTS_BYTES_MAX)?, key, trust, &checkpoint);
    let size = checkpoint.size;
    let first = first(dir)?.min(size);
    check.begin(first)?;
    let mut leaves = Leaves::open(dir, first, size)?;
    let gone = pruned(dir)?;
    loop {
        while let Some(range) = gone.iter().find(|gone| gone.first == check.lines && gone.end <= size) {
            check.pruned(range, size);
            leaves.skip_to(check.lines);
        }
        let Some(line) = leaves.next()? else { break };
        check.leaf(&line, size);
        if check.lines.is_multiple_of(CHUNK) {
            progress(check.lines, size);
        }
    }
    progress(check.lines, size);
    Ok(check.end(checkpoint))
}

/// A signed head that the leaves must have.
struct Head {
    checkpoint: Checkpoint,
    fault: Fault,
}

struct Check<'a> {
    dir: &'a Path,
    report: Report,
    accounts: Accounts,
    /// Over the leaves as they are here.
    leaves: Frontier,
    /// Over the hashes that the tiles hold.
    tiles: Frontier,
    tile: Vec<Hash>,
    lines: u64,
    /// Hashes of the tiles above the lowest level, by level.
    upper: BTreeMap<u32, Vec<Hash>>,
    /// Leaves that are not those of their tile.
    suspects: Vec<u64>,
    /// In reverse order.
    heads: Vec<Head>,
    /// Leaves of the last head that fitted: of all, and of those that were kept outside.
    good: u64,
    agreed: u64,
    /// Whether the tiles had the last head's root.
    tiles_fit: bool,
}

// === impl Check ===

impl<'a> Check<'a> {
    fn new(dir: &'a Path) -> Self {
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
            agreed: 0,
            tiles_fit: false,
        }
    }

    /// Of records before a range the tiles hold the hashes; what they said is not known here.
    fn begin(&mut self, first: u64) -> Result<(), BundleError> {
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
    fn gather(&mut self, text: &str, key: &PublicKey, trust: &Trust, newest: &Checkpoint) {
        self.report.signed = Some(newest.size);
        self.report.epoch = key.epoch(&newest.origin).unwrap_or(1);
        for note in sink::notes(text) {
            match key.open(&note) {
                Ok(checkpoint) if checkpoint.size <= newest.size => {
                    self.report.checkpoints += 1;
                    self.heads.push(Head { checkpoint, fault: Fault::Signed });
                }
                _ => self.report.add(None, Some("one of all".to_owned()), Fault::Checkpoint),
            }
        }
        self.heads.push(Head { checkpoint: newest.clone(), fault: Fault::Signed });
        for pinned in &trust.pinned {
            if pinned.size > newest.size {
                let places = format!("records {} to {}", newest.size, pinned.size - 1);
                self.report.add(Some(newest.size), Some(places), Fault::RolledBack);
            } else {
                self.heads.push(Head { checkpoint: pinned.clone(), fault: Fault::Pinned });
            }
        }
        self.heads.sort_by_key(|head| std::cmp::Reverse(head.checkpoint.size));
    }

    fn leaf(&mut self, line: &[u8], size: u64) {
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
        match serde_json::from_slice::<Leaf>(line) {
            Ok(leaf) => self.says(&leaf, index),
            Err(_) => self.report.add(Some(index), None, Fault::LeafForm),
        }
    }

    /// Takes the hashes of records that were pruned, and the sequences that they accounted for. A record must say so.
    fn pruned(&mut self, gone: &PrunedRange, size: u64) {
        while self.lines < gone.end {
            self.due();
            let held = self.held(self.lines, size).unwrap_or_default();
            self.lines += 1;
            self.push(held, Some(held));
            self.report.pruned += 1;
            self.report.pruned_bodies += 1;
        }
        for PrunedSequences { stream, from, to } in &gone.streams {
            if !self.accounts.take_pruned(stream, *from, *to) {
                self.report.add(Some(gone.first), Some(format!("{stream}:{from}")), Fault::Sequence);
            }
        }
        if !self.says_so(gone, size) {
            let places = format!("records {} to {}", gone.first, gone.end.saturating_sub(1));
            self.report.add(Some(gone.first), Some(places), Fault::NotPruned);
        }
    }

    fn says_so(&self, gone: &PrunedRange, size: u64) -> bool {
        let Ok(leaf) = serde_json::from_str::<Leaf>(&gone.leaf) else { return false };
        let at = usize::try_from(gone.act % TILE_WIDTH as u64).unwrap_or_default();
        let hash = tile(self.dir, gone.act, size).get(at).copied();
        gone.act < size
            && leaf.index == gone.act
            && hash == Some(leaf_hash(gone.leaf.as_bytes()))
            && Part::Records.is_pruned_by(gone.first..gone.end, &leaf)
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
            let pinned = fault == Fault::Pinned;
            let good = if pinned { self.agreed } else { self.good };
            if self.leaves.root() == checkpoint.root {
                self.good = checkpoint.size;
                self.agreed = if pinned { checkpoint.size } else { self.agreed };
            } else if !self.report.problems.iter().any(|known| known.fault == fault) {
                let places = format!("records {good} to {}", checkpoint.size.saturating_sub(1));
                self.report.add(None, Some(places), fault);
            }
        }
    }

    fn end(mut self, checkpoint: Checkpoint) -> Verified {
        self.due();
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
        Verified { report: self.report, checkpoint, accounts: self.accounts.into_vec() }
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

/// The ranges that were pruned; none where there is no list.
pub(crate) fn pruned(dir: &Path) -> Result<Vec<PrunedRange>, BundleError> {
    let path = dir.join(PRUNED);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let what = "it is no list of what was pruned";
    serde_json::from_str(&text(&path, PRUNED_BYTES_MAX)?).map_err(|_| BundleError::Form { path, what })
}

/// The leaves of a bundle, in either form.
pub(crate) enum Leaves<'a> {
    Lines { file: BufReader<File>, path: PathBuf, line: Vec<u8> },
    Tiles { dir: &'a Path, size: u64, at: u64, rest: Vec<u8>, read: usize },
}

// === impl Leaves ===

impl<'a> Leaves<'a> {
    /// Opens those of a bundle of `size` records that begins with record `first`; a tile directory begins with a tile.
    pub(crate) fn open(dir: &'a Path, first: u64, size: u64) -> Result<Self, BundleError> {
        let path = dir.join(RECORDS);
        if dir.join(ENTRIES).is_dir() && !path.exists() {
            return Ok(Self::Tiles { dir, size, at: first, rest: Vec::new(), read: 0 });
        }
        let file = File::open(&path).map_err(|source| BundleError::File { path: path.clone(), source })?;
        Ok(Self::Lines { file: BufReader::with_capacity(1 << 20, file), path, line: Vec::new() })
    }

    /// Goes on at an index: those before were pruned, and have no bundle.
    pub(crate) fn skip_to(&mut self, index: u64) {
        if let Self::Tiles { at, .. } = self {
            *at = index.max(*at);
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        match self {
            Self::Lines { file, path, line } => {
                line.clear();
                let mut limited = file.take(LEAF_BYTES_MAX as u64 + 1);
                let read = limited.read_until(b'\n', line);
                read.map_err(|source| BundleError::File { path: path.clone(), source })?;
                if line.is_empty() {
                    return Ok(None);
                }
                // A line that is too long or not ended is no leaf; as it is, its hash fits nowhere.
                if line.last() == Some(&b'\n') {
                    line.pop();
                } else {
                    line.push(b'\n');
                }
                Ok(Some(std::mem::take(line)))
            }
            Self::Tiles { dir, size, at, rest, read } => {
                if *read == rest.len() {
                    if *at >= *size {
                        return Ok(None);
                    }
                    let width = usize::try_from((*size - *at).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
                    let path = dir.join(tile_path("entries", *at / TILE_WIDTH as u64, width));
                    (*rest, *read) = (bytes(&path, ENTRIES_BYTES_MAX)?, 0);
                    *at += width as u64;
                }
                let tail = rest.get(*read..).unwrap_or_default();
                let leaf = tail
                    .split_first_chunk::<2>()
                    .and_then(|(length, tail)| tail.get(..usize::from(u16::from_be_bytes(*length))));
                // What is cut short is handed on as it is, and fits nowhere.
                let leaf = leaf.map_or_else(|| tail.to_vec(), <[u8]>::to_vec);
                *read = (*read + 2 + leaf.len()).min(rest.len());
                Ok(if rest.is_empty() { None } else { Some(leaf) })
            }
        }
    }
}

pub(crate) fn bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, BundleError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(std::io::Error::other("it is too long"));
        }
        Ok(bytes)
    };
    read().map_err(|source| BundleError::File { path: path.to_owned(), source })
}

pub(crate) fn text(path: &Path, bytes_max: u64) -> Result<String, BundleError> {
    let what = "it is no text";
    String::from_utf8(bytes(path, bytes_max)?).map_err(|_| BundleError::Form { path: path.to_owned(), what })
}
