//! Making a segment: files beside the live file, durable before anything names them.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use redb::Database;
use serde::Deserialize;

use super::{END, HEAD, NOTE, PROOF, Part, START, Segment};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::thin::{self, Place};
use crate::error::{Failure, SegmentError};
use crate::leaf::leaf_hash;
use crate::merkle::{TILE_WIDTH, proof};
use crate::read::Reader;
use crate::read::prove::newest_note;
use crate::read::search::indexed;
use crate::read::view::View;
use crate::store::tree::Stored;
use crate::store::{self, Heads};
use crate::table;

/// Records copied in one transaction; long reads would pin pages that the writer wants back.
const CHUNK: u64 = 8 * TILE_WIDTH as u64;
/// Memory for cached pages of a file that is written, bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Checkpoints that go at once at most; more go with the next segments.
const NOTES_AT_ONCE: usize = 100_000;
/// How a file ends that is not whole yet.
const PARTIAL: &str = "partial";

/// When the oldest records move into a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealing {
    /// As soon as the live file has so many bytes of records and bodies; about as many move.
    pub bytes: u64,
    /// As soon as its oldest record is this old.
    pub age: SignedDuration,
}

/// A segment whose files are durable, and that the record does not name yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub(crate) segment: Segment,
    /// Checkpoints that need not stay any more.
    pub(crate) notes: Vec<Place>,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { bytes: 256 * 1024 * 1024, age: SignedDuration::from_hours(24) }
    }
}

// === impl Sealed ===

impl Sealed {
    /// Indices of its records.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        self.segment.first..self.segment.end
    }
}

impl Reader {
    /// Writes the oldest records of the live file into a segment's files, where that is due and a checkpoint covers them.
    /// Nothing of the record changes: that is [`Store::name`](crate::Store::name)'s part.
    ///
    /// # Errors
    /// [`SegmentError`]; what was written by then is written over the next time.
    pub fn seal(&self, sealing: &Sealing, now: Timestamp) -> Result<Option<Sealed>, SegmentError> {
        let view = self.begin()?;
        let segments = view.segments()?;
        let first = segments.last().map_or(0, |last| last.end);
        let Some((signed, note)) = signed(&view)? else { return Ok(None) };
        let heads = Heads::read(&view)?;
        // What the index does not know yet, it reads back from the live file.
        let limit = signed.min(indexed(&view)?) / TILE_WIDTH as u64 * TILE_WIDTH as u64;
        // One segment at a time.
        if limit <= first || view.live_first() < first {
            return Ok(None);
        }
        let oldest = head(&view, first)?;
        if heads.live_bytes < sealing.bytes && oldest.duration_until(now) < sealing.age {
            return Ok(None);
        }
        let (shelf, notes) = (view.shelf().dir().to_owned(), old_notes(&view)?);
        drop(view);
        store::make_dir(&shelf).map_err(|source| SegmentError::File { path: shelf.clone(), source })?;
        let free = free(&shelf).map_err(|source| SegmentError::File { path: shelf.clone(), source })?;
        has_room(free, room(sealing, heads.live_bytes))?;
        let segment = whole_or_nothing(&shelf, first, || {
            let files = Files::create(&shelf, first)?;
            let (mut end, mut bytes, mut newest) = (first, 0, Timestamp::MIN);
            while end < limit && (end == first || bytes < sealing.bytes) {
                let to = limit.min(end + CHUNK);
                let copied = files.copy(&self.begin()?, end..to)?;
                (end, bytes, newest) = (to, bytes + copied.0, newest.max(copied.1));
            }
            files.head(&self.begin()?, first, end, signed, &note)?;
            files.finish()?;
            Ok(Segment { first, end, newest, bodies: None, records: None })
        })?;
        Ok(Some(Sealed { segment, notes }))
    }
}

/// Makes files of a segment. Where that fails what is not whole goes at once: a full disk is not kept full by it.
fn whole_or_nothing<T>(
    dir: &Path,
    first: u64,
    make: impl FnOnce() -> Result<T, SegmentError>,
) -> Result<T, SegmentError> {
    let made = make();
    if made.is_err() {
        for part in [Part::Records, Part::Bodies] {
            // What cannot be removed goes when the record is opened the next time.
            let _ = fs::remove_file(partial(dir, part, first));
        }
    }
    made
}

/// Bytes that must be free before a segment is made: its files, and as much again for what is recorded meanwhile.
pub(super) fn room(sealing: &Sealing, live_bytes: u64) -> u64 {
    live_bytes.min(sealing.bytes).saturating_mul(2)
}

/// Refuses where there is no room for a segment's files.
pub(super) fn has_room(free: u64, needed: u64) -> Result<(), SegmentError> {
    if free < needed { Err(SegmentError::NoRoom { free, needed }) } else { Ok(()) }
}

/// Bytes that are free where a directory is.
fn free(dir: &Path) -> std::io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Checkpoints that need not stay, as many as go at once.
fn old_notes(view: &View) -> Result<Vec<Place>, Failure> {
    let (notes, mut old) = (view.open_table(table::CHECKPOINTS)?, Vec::new());
    let newest_first = redb::ReadableTable::iter(&notes)?.rev();
    thin::sift(newest_first.map(|row| Ok::<_, Failure>(row?.0.value())), |place, stays| {
        old.extend((!stays).then_some(place));
        if old.len() < NOTES_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(old)
}

/// Writes the files of a segment that was sealed before, from a live file that holds its records again. The note of a checkpoint
/// over `signed` records covers it. Returns the time of its newest record.
pub(crate) fn again(
    reader: &Reader,
    segment: &Segment,
    (signed, note): (u64, &str),
) -> Result<Timestamp, SegmentError> {
    let (shelf, mut newest, mut at) =
        (reader.begin()?.shelf().dir().to_owned(), Timestamp::MIN, segment.first);
    let files = Files::create(&shelf, segment.first)?;
    while at < segment.end {
        let to = segment.end.min(at + CHUNK);
        newest = newest.max(files.copy(&reader.begin()?, at..to)?.1);
        at = to;
    }
    files.head(&reader.begin()?, segment.first, segment.end, signed, note)?;
    files.finish()?;
    if segment.bodies.is_some() {
        remove(&shelf, Part::Bodies, segment.first)
            .map_err(|source| SegmentError::File { path: shelf, source })?;
    }
    Ok(newest)
}

/// Leaves and note of the newest checkpoint.
fn signed(view: &View) -> Result<Option<(u64, String)>, Failure> {
    let note = newest_note(view)?;
    Ok(note.and_then(|note| Some((Checkpoint::unverified(&note)?.size, note))))
}

#[derive(Deserialize)]
struct Timed {
    time: Timestamp,
}

/// When a record was stored.
fn head(view: &View, index: u64) -> Result<Timestamp, SegmentError> {
    let row = view.row(index)?.ok_or(SegmentError::Damaged { index })?;
    time(index, &row)
}

/// The time of a record whose bytes are those that were recorded.
fn time(index: u64, row: &[u8]) -> Result<Timestamp, SegmentError> {
    let damaged = || SegmentError::Damaged { index };
    let (hash, line) = row.split_first_chunk::<32>().ok_or_else(damaged)?;
    let timed: Timed = serde_json::from_slice(line).map_err(|_| damaged())?;
    if leaf_hash(line) == *hash { Ok(timed.time) } else { Err(damaged()) }
}

/// The two files while they are written.
struct Files {
    dir: PathBuf,
    first: u64,
    records: Database,
    bodies: Database,
}

// === impl Files ===

impl Files {
    fn create(dir: &Path, first: u64) -> Result<Self, SegmentError> {
        let made = || -> std::io::Result<()> {
            store::make_dir(dir)?;
            // The directory itself must be there after a crash.
            dir.parent().map_or(Ok(()), |record| File::open(record)?.sync_all())
        };
        made().map_err(|source| SegmentError::File { path: dir.to_owned(), source })?;
        let open = |part: Part| -> Result<Database, SegmentError> {
            let path = partial(dir, part, first);
            let fresh = || match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => store::owner_only(&path),
            };
            fresh().map_err(|source| SegmentError::File { path: path.clone(), source })?;
            Ok(store::builder(CACHE_BYTES).create(&path).map_err(Failure::from)?)
        };
        Ok(Self { dir: dir.to_owned(), first, records: open(Part::Records)?, bodies: open(Part::Bodies)? })
    }

    /// Copies records and bodies of whole tiles. Returns their bytes and the newest record's time.
    fn copy(&self, view: &View, range: std::ops::Range<u64>) -> Result<(u64, Timestamp), SegmentError> {
        let stored = Stored::open(view)?;
        let (mut bytes, mut newest, mut at) = (0, Timestamp::MIN, range.start);
        let txn = store::write(&self.records)?;
        {
            let mut rec = txn.open_table(table::REC).map_err(Failure::from)?;
            let mut tiles = txn.open_table(table::TILES).map_err(Failure::from)?;
            let mut tile = Vec::with_capacity(TILE_WIDTH * 32);
            view.rows(range.clone(), |index, row| -> Result<(), SegmentError> {
                if index != at {
                    return Err(SegmentError::Damaged { index: at });
                }
                at += 1;
                newest = newest.max(time(index, row)?);
                bytes += row.len() as u64;
                rec.insert(index, row).map_err(Failure::from)?;
                tile.extend_from_slice(row.get(..32).unwrap_or_default());
                if tile.len() == TILE_WIDTH * 32 {
                    let place = (0, index / TILE_WIDTH as u64);
                    // What the tree was built from, or nothing.
                    if stored.row(place.0, place.1)?.as_ref() != Some(&tile) {
                        return Err(SegmentError::Damaged { index: index + 1 - TILE_WIDTH as u64 });
                    }
                    tiles.insert(place, tile.as_slice()).map_err(Failure::from)?;
                    tile.clear();
                }
                Ok(())
            })?;
        }
        if at != range.end {
            return Err(SegmentError::Damaged { index: at });
        }
        txn.commit().map_err(Failure::from)?;
        bytes += self.copy_bodies(view, range)?;
        Ok((bytes, newest))
    }

    fn copy_bodies(&self, view: &View, range: std::ops::Range<u64>) -> Result<u64, SegmentError> {
        let mut bytes = 0;
        let txn = store::write(&self.bodies)?;
        {
            let mut body = txn.open_table(table::BODY).map_err(Failure::from)?;
            let live = view.open_table(table::BODY).map_err(Failure::from)?;
            for row in live.range(range).map_err(Failure::from)? {
                let (index, row) = row.map_err(Failure::from)?;
                bytes += row.value().len() as u64;
                body.insert(index.value(), row.value()).map_err(Failure::from)?;
            }
        }
        txn.commit().map_err(Failure::from)?;
        Ok(bytes)
    }

    /// Writes what lets the file verify alone.
    fn head(&self, view: &View, first: u64, end: u64, signed: u64, note: &str) -> Result<(), SegmentError> {
        let stored = Stored::open(view)?;
        let start = proof::frontier(&stored, first)?.encode();
        let proven = proof::consistency(&stored, end, signed)?.concat();
        let txn = store::write(&self.records)?;
        {
            let mut head = txn.open_table(HEAD).map_err(Failure::from)?;
            let rows: [(&str, &[u8]); 4] =
                [(START, &start), (END, &end.to_be_bytes()), (NOTE, note.as_bytes()), (PROOF, &proven)];
            for (name, value) in rows {
                head.insert(name, value).map_err(Failure::from)?;
            }
        }
        Ok(txn.commit().map_err(Failure::from)?)
    }

    /// Makes the files as small as they can be, durable, and gives them their names.
    fn finish(self) -> Result<(), SegmentError> {
        let Self { dir, first, records, bodies } = self;
        for (part, mut db) in [(Part::Records, records), (Part::Bodies, bodies)] {
            db.compact().map_err(Failure::from)?;
            drop(db);
            let (path, named) = (partial(&dir, part, first), dir.join(part.file(first)));
            let name = || {
                File::open(&path)?.sync_all()?;
                fs::rename(&path, &named)
            };
            name().map_err(|source| SegmentError::File { path: path.clone(), source })?;
        }
        sync_dir(&dir)
    }
}

fn partial(dir: &Path, part: Part, first: u64) -> PathBuf {
    dir.join(part.file(first)).with_extension(PARTIAL)
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), SegmentError> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(|source| SegmentError::File { path: dir.to_owned(), source })
}

/// Removes what a crash left: files that are not whole, whose records are still in the live file, and those of parts that
/// were pruned. A whole file that no segment names is written over when its records are moved again.
pub(crate) fn clear(dir: &Path, segments: &[Segment]) -> std::io::Result<()> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            fs::remove_file(&path)?;
        }
    }
    for segment in segments {
        for part in segment.gone() {
            remove(dir, part, segment.first)?;
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub(crate) fn remove(dir: &Path, part: Part, first: u64) -> std::io::Result<()> {
    match fs::remove_file(dir.join(part.file(first))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
