//! One segment's file by itself: whoever has the public key needs nothing else of the record.

use std::path::{Path, PathBuf};

use redb::{ReadOnlyDatabase, ReadableDatabase as _, ReadableTableMetadata as _};

use super::{END, HEAD, NOTE, PROOF, START};
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::error::Failure;
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::{Frontier, Hash, TILE_WIDTH, hashes, proof};
use crate::store::builder;
use crate::table;
use crate::verify::{Fault, Level, Report, body_fault};

/// Memory for cached pages, bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Records between two notes of progress.
const CHUNK: u64 = 4_096;

/// Why a segment could not be verified at all.
#[derive(Debug, thiserror::Error)]
#[error("the segment file `{}` cannot be read: {what}", path.display())]
pub struct AloneError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub what: String,
}

/// A segment that was read.
#[derive(Debug)]
pub struct Alone {
    /// Indices of its records.
    pub range: std::ops::Range<u64>,
    /// What was found.
    pub report: Report,
    /// The checkpoint that covers it, where it opens.
    pub checkpoint: Option<Checkpoint>,
}

/// What a segment's file says of itself, as it stands there.
pub(crate) struct Head {
    start: Frontier,
    end: u64,
    note: String,
    proof: Vec<Hash>,
}

/// Verifies a segment's file, and the bodies in the file beside it where that is there. `progress` is told records done and
/// to do.
///
/// # Errors
/// [`AloneError`] when it cannot be read; what is wrong in it stands in the report.
pub fn verify(path: &Path, key: &PublicKey, progress: &mut dyn FnMut(u64, u64)) -> Result<Alone, AloneError> {
    let failed = |Failure(error)| AloneError { path: path.to_owned(), what: error.to_string() };
    let db = open(path).map_err(failed)?;
    let head = Head::read(&db).map_err(failed)?;
    let what = "it is no segment".to_owned();
    let head = head.ok_or(AloneError { path: path.to_owned(), what })?;
    let first = head.start.size();
    let beside = path.with_file_name(super::Part::Bodies.file(first));
    let bodies = beside.exists().then(|| open(&beside)).transpose().map_err(failed)?;
    let mut report = Report::new(Level::Full, first, 0);
    let tree = walk(&db, bodies.as_ref(), &head, &mut report, progress).map_err(failed)?;
    let checkpoint = head.signs(&tree, key);
    if checkpoint.is_none() {
        let places = format!("records {first} to {}", head.end.saturating_sub(1));
        report.add(None, Some(places), Fault::Signed);
    } else {
        // The tiles that the leaves were compared with have the signed root.
        report.signed = checkpoint.as_ref().map(|signed| signed.size);
        report.checkpoints = 1;
    }
    Ok(Alone { range: first..head.end, report, checkpoint })
}

fn open(path: &Path) -> Result<ReadOnlyDatabase, Failure> {
    Ok(builder(CACHE_BYTES).open_read_only(path)?)
}

/// Compares leaves with tiles and bodies with leaves. Returns the tree over the hashes that the tiles hold.
fn walk(
    db: &ReadOnlyDatabase,
    bodies: Option<&ReadOnlyDatabase>,
    head: &Head,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Frontier, Failure> {
    let txn = db.begin_read()?;
    let (rec, tiles) = (txn.open_table(table::REC)?, txn.open_table(table::TILES)?);
    let bodies = bodies.map(|db| Ok::<_, Failure>(db.begin_read()?.open_table(table::BODY)?)).transpose()?;
    let (first, mut tree, mut tile) = (head.start.size(), head.start.clone(), Vec::<Hash>::new());
    // An end that was changed must not have us look for more than there is.
    let there = rec.len()?.max(tiles.len()?.saturating_mul(TILE_WIDTH as u64));
    let upto = first.saturating_add(there).min(head.end);
    for index in first..upto {
        let at = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        if at == 0 {
            let row = tiles.get((0, index / TILE_WIDTH as u64))?;
            tile = row.map(|row| hashes(row.value()).collect()).unwrap_or_default();
        }
        let held = tile.get(at).copied().unwrap_or_default();
        tree.push(held, |_, _| {});
        if (index - first).is_multiple_of(CHUNK) {
            progress(index - first, upto - first);
        }
        let Some(row) = rec.get(index)? else {
            report.add(Some(index), None, Fault::Missing);
            continue;
        };
        report.records += 1;
        let (hash, line) = row.value().split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        let found = leaf_hash(line);
        if found != *hash {
            report.add(Some(index), None, Fault::LeafHash);
        }
        if found != held {
            report.add(Some(index), None, Fault::Tile);
        }
        let Ok(leaf) = serde_json::from_slice::<Leaf>(line) else {
            report.add(Some(index), None, Fault::LeafForm);
            continue;
        };
        if let Some(bodies) = &bodies {
            let sealed = bodies.get(index)?;
            let sealed = sealed.as_ref().map(|sealed| sealed.value());
            report.bodies += u64::from(leaf.body.is_some() && sealed.is_some());
            if let Some(fault) = body_fault(&leaf, sealed) {
                report.add(Some(index), Some(leaf.position().to_string()), fault);
            }
        }
    }
    progress(upto - first, upto - first);
    if upto < head.end {
        let places = format!("records {upto} to {}", head.end - 1);
        report.add(Some(upto), Some(places), Fault::Missing);
    }
    Ok(tree)
}

// === impl Head ===

impl Head {
    pub(crate) fn read(db: &ReadOnlyDatabase) -> Result<Option<Self>, Failure> {
        let table = db.begin_read()?.open_table(HEAD)?;
        let value = |name: &str| -> Result<Vec<u8>, Failure> {
            Ok(table.get(name)?.map(|row| row.value().to_vec()).unwrap_or_default())
        };
        let (start, end, note, proven) = (value(START)?, value(END)?, value(NOTE)?, value(PROOF)?);
        let end = end.try_into().map(u64::from_be_bytes).ok();
        let read = Frontier::decode(&start).zip(end).map(|(start, end)| {
            let note = String::from_utf8_lossy(&note).into_owned();
            Self { start, end, note, proof: hashes(&proven).collect() }
        });
        Ok(read.filter(|head| head.end > head.start.size()))
    }

    /// The frontier before the first record.
    pub(crate) fn start(&self) -> &Frontier {
        &self.start
    }

    /// The checkpoint, where it is signed by this key and goes on from this tree.
    pub(crate) fn signs(&self, tree: &Frontier, key: &PublicKey) -> Option<Checkpoint> {
        let signed = key.open(&self.note).ok()?;
        self.leads(tree, &signed).then_some(signed)
    }

    /// The same, whoever signed it.
    pub(crate) fn signs_unverified(&self, tree: &Frontier) -> bool {
        Checkpoint::unverified(&self.note).is_some_and(|signed| self.leads(tree, &signed))
    }

    fn leads(&self, tree: &Frontier, signed: &Checkpoint) -> bool {
        tree.size() == self.end
            && proof::extends(&self.proof, self.end, &tree.root(), signed.size, &signed.root)
    }
}
