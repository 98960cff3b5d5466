//! Export: the record as files that anybody can check, without this program too.
//!
//! ```text
//! checkpoint     the newest signed note            records.jsonl  each line the exact bytes of a leaf (form `lines`)
//! checkpoints    those of this history             tile/entries/  the leaves as C2SP entry bundles (form `tiles`)
//! public.key     the key that signed them          tile/<L>/<N>   hashes of the tree (C2SP tlog-tiles)
//! pruned.json    records that retention took away, and what on record says so; where there are any
//! breaks         breaks that were accepted, where there are any
//!
//! first          the first record, of a range      bodies         sealed bodies in order, each with its length (32 bits)
//! state.json     what no leaf says: with bodies    keys           their wrapped keys: with bodies only
//! sums           SHA-256 of these three, as `sha256sum -c` reads it
//! ```
//!
//! A leaf commits to its body. Keys and state are in no leaf: their sums find what a disk changed, and what somebody changed who
//! left the sums as they were; a record that is made anew from them is compared with what is signed.
//!
//! With bodies a record can be made anew from it, for whoever has the key file and the master key too.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{PublicKey, sink};
use crate::copy::{EpochNote, export_bodies};
use crate::error::{ExportError, Failure, ProveError};
use crate::merkle::{TILE_HEIGHT, TILE_WIDTH};
use crate::read::Reader;
use crate::read::prove::{self, Head};
use crate::read::view::View;
use crate::retain;
use crate::store::tree::Stored;

/// The newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// All checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// The key that signed them, a line.
pub const PUBLIC_KEY: &str = "public.key";
/// Leaves, a line each.
pub const RECORDS: &str = "records.jsonl";
/// Records that were pruned: a list of [`PrunedRange`].
pub const PRUNED: &str = "pruned.json";
/// Leaves in bundles.
pub const ENTRIES: &str = "tile/entries";

/// The index of the first record.
pub const FIRST: &str = "first";
/// Sealed bodies.
pub const BODIES: &str = "bodies";
/// Wrapped keys.
pub const KEYS: &str = "keys";
/// Breaks that were accepted.
pub const BREAKS: &str = "breaks";
/// Sums of what belongs to bodies.
pub const SUMS: &str = "sums";
/// What no leaf says and a record made anew needs: holds, erasures, segments.
pub const STATE: &str = "state.json";

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How leaves are written.
    pub form: Form,
    /// The first record; a tile directory begins with the tile that it lies in.
    pub since: u64,
    /// Sealed bodies and their wrapped keys too.
    pub bodies: bool,
}

/// Records that were pruned: of them a bundle has hashes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedRange {
    /// Index of the first.
    pub first: u64,
    /// The index after the last.
    pub end: u64,
    /// Index of the record that says so.
    pub act: u64,
    /// Its leaf.
    pub leaf: String,
    /// Sequences of each stream that they accounted for.
    pub streams: Vec<PrunedSequences>,
}

/// Sequences of a stream whose records were pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedSequences {
    /// The stream.
    pub stream: String,
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// How leaves are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One file of lines.
    Lines,
    /// Entry bundles, as C2SP tlog-tiles has them.
    Tiles,
}

impl Reader {
    /// Writes the records of the newest checkpoint into a new directory. `progress` is told records done and to do.
    ///
    /// # Errors
    /// [`ExportError`]; what was written by then stays.
    pub fn export(
        &self,
        dir: &Path,
        form: Form,
        key: &PublicKey,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Head, ExportError> {
        self.export_extent(dir, Extent { form, since: 0, bodies: false }, key, progress)
    }

    /// The same of a part of them, or with their sealed bodies.
    ///
    /// # Errors
    /// As [`Self::export`]; [`ProveError::NotSigned`] where nothing from there on is signed.
    pub fn export_extent(
        &self,
        dir: &Path,
        extent: Extent,
        key: &PublicKey,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Head, ExportError> {
        let file = |path: &Path, source| ExportError::File { path: path.to_owned(), source };
        let txn = self.begin()?;
        let head = prove::head(&txn, key)?;
        let size = head.checkpoint.size;
        let Extent { form, since, bodies } = extent;
        let since = if form == Form::Tiles { since - since % TILE_WIDTH as u64 } else { since };
        // What was pruned as a whole is told as a whole.
        let since = txn.pruned(since)?.map_or(since, |segment| segment.first);
        if since > 0 && since >= size {
            return Err(ProveError::NotSigned { index: since, signed: size }.into());
        }
        fs::create_dir(dir).map_err(|source| file(dir, source))?;
        let epoch = key.epoch(&head.checkpoint.origin).unwrap_or(1);
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| file(&path, source))
        };
        put(CHECKPOINT, &head.note)?;
        put_notes(&txn, &dir.join(CHECKPOINTS))?;
        put(PUBLIC_KEY, &format!("{}\n", key.line(epoch)))?;
        let breaks = EpochNote::breaks(&txn)?;
        if !breaks.is_empty() {
            put(BREAKS, &EpochNote::lines(&breaks))?;
        }
        let gone = pruned(&txn, size)?;
        if !gone.is_empty() {
            put(PRUNED, &serde_json::to_string(&gone).unwrap_or_default())?;
        }
        if since > 0 {
            put(FIRST, &format!("{since}\n"))?;
        }
        drop(txn);
        let out = Out { dir, since, size };
        let stored = Stored::open(&*self.begin()?)?;
        out.upper_tiles(&stored)?;
        out.tiles_before(&stored)?;
        out.leaves(self, form, progress)?;
        if bodies {
            export_bodies(self, dir, since..size)?;
        }
        Ok(head)
    }
}

/// Writes the checkpoints of this history, one after the other.
fn put_notes(txn: &View, path: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::File { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    prove::notes(txn, |note| file.write_all(sink::entry(note).as_bytes()).map_err(failed))?;
    file.flush().map_err(failed)
}

struct Out<'a> {
    dir: &'a Path,
    since: u64,
    size: u64,
}

// === impl Out ===

impl Out<'_> {
    /// Writes the tiles above the lowest level.
    fn upper_tiles(&self, stored: &Stored) -> Result<(), ExportError> {
        for level in 1..=u8::MAX {
            let hashes = self.size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0);
            if hashes == 0 {
                return Ok(());
            }
            for (index, width) in tiles(hashes) {
                let tile = stored.row(level, index)?.unwrap_or_default();
                let tile = tile.get(..width * 32).unwrap_or(&tile);
                self.put(&tile_path(&level.to_string(), index, width), tile)?;
            }
        }
        Ok(())
    }

    /// Writes the tiles of the lowest level that lie before the first record.
    fn tiles_before(&self, stored: &Stored) -> Result<(), ExportError> {
        for index in 0..self.since / TILE_WIDTH as u64 {
            let damaged = || ExportError::Damaged { index: index * TILE_WIDTH as u64 };
            let tile = stored.row(0, index)?.ok_or_else(damaged)?;
            self.put(&tile_path("0", index, TILE_WIDTH), &tile)?;
        }
        Ok(())
    }

    /// Writes the leaves and the tiles of the lowest level.
    fn leaves(
        &self,
        reader: &Reader,
        form: Form,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ExportError> {
        let path = self.dir.join(RECORDS);
        let file = |source| ExportError::File { path: path.clone(), source };
        let mut lines = match form {
            Form::Lines => Some(BufWriter::new(File::create(&path).map_err(file)?)),
            Form::Tiles => None,
        };
        for (index, width) in tiles(self.size) {
            let first = index * TILE_WIDTH as u64;
            if first + width as u64 <= self.since {
                continue;
            }
            let (mut hashes, mut entries, mut found) = (Vec::new(), Vec::new(), 0);
            let txn = reader.begin()?;
            if txn.pruned(first)?.is_some() {
                let tile = Stored::open(&txn)?.row(0, index)?.unwrap_or_default();
                self.put(&tile_path("0", index, width), &tile)?;
                progress(first + width as u64, self.size);
                continue;
            }
            txn.rows(first..first + width as u64, |_, row| -> Result<(), ExportError> {
                let damaged = || ExportError::Damaged { index: first + found };
                let (hash, leaf) = row.split_first_chunk::<32>().ok_or_else(damaged)?;
                hashes.extend_from_slice(hash);
                if let Some(lines) = &mut lines {
                    if first + found < self.since {
                        found += 1;
                        return Ok(());
                    }
                    lines.write_all(leaf).and_then(|()| lines.write_all(b"\n")).map_err(file)?;
                } else {
                    let length = u16::try_from(leaf.len()).map_err(|_| damaged())?;
                    entries.extend_from_slice(&length.to_be_bytes());
                    entries.extend_from_slice(leaf);
                }
                found += 1;
                Ok(())
            })?;
            if found != width as u64 {
                return Err(ExportError::Damaged { index: first + found });
            }
            self.put(&tile_path("0", index, width), &hashes)?;
            if form == Form::Tiles {
                self.put(&tile_path("entries", index, width), &entries)?;
            }
            progress(first + found, self.size);
        }
        match lines {
            Some(lines) => {
                let whole = lines.into_inner().map_err(|error| file(error.into_error()))?;
                whole.sync_all().map_err(file)
            }
            None => Ok(()),
        }
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.dir.join(path);
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, bytes)
        };
        write().map_err(|source| ExportError::File { path: path.clone(), source })
    }
}

/// What was pruned of the first `size` records.
fn pruned(view: &View, size: u64) -> Result<Vec<PrunedRange>, Failure> {
    let mut gone = Vec::new();
    for segment in view.segments()?.into_iter().filter(|segment| segment.end <= size) {
        let Some(pruning) = &segment.records else { continue };
        let sequences = |span: retain::Span| {
            let retain::Span { stream, from, to } = span;
            PrunedSequences { stream, from, to }
        };
        gone.push(PrunedRange {
            first: segment.first,
            end: segment.end,
            act: pruning.act,
            leaf: pruning.leaf.clone(),
            streams: retain::spans(view, &segment)?.into_iter().map(sequences).collect(),
        });
    }
    Ok(gone)
}

/// Index and width of each tile over so many hashes.
pub(crate) fn tiles(hashes: u64) -> impl Iterator<Item = (u64, usize)> {
    let (full, rest) = (hashes / TILE_WIDTH as u64, hashes % TILE_WIDTH as u64);
    let open = (rest > 0).then(|| (full, usize::try_from(rest).unwrap_or_default()));
    (0..full).map(|index| (index, TILE_WIDTH)).chain(open)
}

/// Where a tile stands: `tile/<level>/x001/x234/067`, and `.p/<width>` for one that is not full.
pub(crate) fn tile_path(level: &str, index: u64, width: usize) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    let part = if width < TILE_WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{level}/{path}{part}")
}
