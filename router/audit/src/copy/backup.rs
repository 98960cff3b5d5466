//! Backup: what a record holds into a directory, or what it holds more than the directory, while its recorder writes.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use jiff::Timestamp;
use redb::ReadTransaction;
use tidegate_schemas::digest::Digest;

use super::files::{FileSum, Out, at, sync_dir};
use super::keys::{self, Counts};
use super::manifest::{EpochNote, Manifest, PARTIAL, Part, StreamEnd};
use super::rows::BodyIs;
use super::state::{State, Thinned};
use super::{CopyError, merge, rows, thin};
use crate::checkpoint::thin as checkpoints;
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::error::{Failure, ProveError};
use crate::merkle::proof;
use crate::read::Reader;
use crate::segment::Segment;
use crate::store::tree::Stored;
use crate::store::{self, Heads};
use crate::table;

/// Where the parts are.
pub(super) const PARTS: &str = "parts";

/// Files of wrapped keys that a backup may have.
const WRAPPED_MAX: usize = 256;
/// Times that a key file which was written anew is read again.
const KEY_FILE_TRIES: u32 = 8;
/// Times that a backup begins again because something was pruned while it was taken.
const PRUNING_TRIES: u32 = 3;

/// What one backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What the directory holds now.
    pub manifest: Manifest,
    /// Records that were added.
    pub added: u64,
    /// Records that are signed.
    pub signed: u64,
}

/// The record as one transaction sees it: what it holds by then does not change any more.
struct Snapshot {
    heads: Heads,
    root: Digest,
    epoch: u64,
    newest: Option<String>,
    breaks: Vec<EpochNote>,
}

impl Reader {
    /// Copies the record into a directory, beside its recorder or without one. Where the directory holds a backup already, it
    /// must be the beginning of this record, and only what came since is added. `key`, where given, must have signed the
    /// newest checkpoint. `progress` is told records done and to do.
    ///
    /// # Errors
    /// [`CopyError`]; the backup stays as it was then.
    pub fn backup(
        &self,
        dir: &Path,
        key: Option<&PublicKey>,
        taken: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Backup, CopyError> {
        for _ in 0..PRUNING_TRIES {
            match self.try_backup(dir, key, taken, progress) {
                Err(CopyError::Meanwhile) => {}
                other => return other,
            }
        }
        Err(CopyError::Meanwhile)
    }

    fn try_backup(
        &self,
        dir: &Path,
        key: Option<&PublicKey>,
        taken: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Backup, CopyError> {
        let before = Manifest::read(dir)?;
        if before.is_none() {
            begin(dir)?;
        }
        let _alone = alone(dir)?;
        let txn = self.begin()?;
        let (now, mut state) = (Snapshot::take(&txn)?, State::take(&txn)?);
        let signed = now.signed(&txn, key)?;
        let mut manifest = match before {
            Some(before) => continued(before, &txn, &now, dir)?,
            None => now.nothing(),
        };
        let (first, number) = (manifest.records, manifest.backups + 1);
        let name = |what: &str| format!("{PARTS}/{number:06}.{what}");
        let segments: Vec<Segment> = state.segments().collect();
        thin::parts(dir, &mut manifest, number, &segments)?;
        let counts = take_keys(&txn, &mut manifest, &state, dir, &name("keys"))?;
        let mut notes = Out::create(dir, &name("notes"))?;
        let noted = put_notes(&txn, &manifest, &mut notes)?;
        drop(txn);
        // After the transaction: the rows that it counts were durable before it could see them.
        manifest.key_file = self.key_file(dir, number, counts.rows)?;
        // After the key file: which of its rows go was durable before they went.
        state.erasures(&self.begin()?)?;
        manifest.state = state.write(dir, &format!("state-{number:06}.json"))?;
        let of = now.heads.records - first;
        let range = first..now.heads.records;
        let mut part = self.part(dir, &name, range, &segments, &mut |done| progress(done, of))?;
        part.notes = notes.finish()?;
        // What adds nothing is named by no manifest, and goes with the rest of what none names.
        if of > 0 || noted > 0 {
            manifest.parts.push(part);
        }
        merge::parts(dir, &mut manifest, number, merge::PARTS_MAX)?;
        sync_dir(&dir.join(PARTS))?;
        now.told(&mut manifest, counts, taken);
        manifest.backups = number;
        manifest.write(dir)?;
        clear(dir, &manifest)?;
        Ok(Backup { manifest, added: of, signed })
    }

    /// Copies so many rows of the key file as they are: their keys are wrapped. What was made ahead is of nobody yet, and would be
    /// of somebody who comes later. Never a link, which what is destroyed would be overwritten in, or
    /// live on in. One that was written anew meanwhile, without keys that were destroyed, is read anew: what it replaced may be
    /// overwritten while it is read.
    fn key_file(&self, dir: &Path, number: u64, rows: u64) -> Result<FileSum, CopyError> {
        let path = store::key_file(self.dir());
        let name = format!("keys-{number:06}.bin");
        for _ in 0..KEY_FILE_TRIES {
            let file = File::open(&path).map_err(at(&path))?;
            let opened = file.metadata().map_err(at(&path))?.ino();
            let mut file = file.take(crate::keys::file::bytes(rows));
            let (mut out, mut buffer) = (Out::create(dir, &name)?, vec![0; 1 << 16]);
            loop {
                let read = file.read(&mut buffer).map_err(at(&path))?;
                match buffer.get(..read) {
                    Some(bytes) if !bytes.is_empty() => out.put(bytes)?,
                    _ => break,
                }
            }
            let sum = out.finish()?;
            if fs::metadata(&path).map_err(at(&path))?.ino() == opened {
                return Ok(sum);
            }
        }
        Err(CopyError::Form { path, what: "is written anew again and again; try again later" })
    }

    /// Writes leaves and bodies of a range.
    fn part(
        &self,
        dir: &Path,
        name: &dyn Fn(&str) -> String,
        range: std::ops::Range<u64>,
        segments: &[Segment],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Part, CopyError> {
        let (mut leaves, mut bodies) =
            (Out::create(dir, &name("jsonl"))?, Out::create(dir, &name("bodies"))?);
        let nothing = FileSum { name: String::new(), bytes: 0, sha256: Digest::from([0; 32]) };
        let mut part = Part {
            first: range.start,
            records: range.end - range.start,
            pruned: 0,
            pruned_bodies: 0,
            missing: 0,
            leaves: nothing.clone(),
            bodies: nothing.clone(),
            notes: nothing,
        };
        (part.pruned, part.pruned_bodies) = thin::gone(&part, segments);
        let mut missing = 0;
        let mut take = |index: u64, row: rows::Taken<'_>| {
            let segment = segments.iter().find(|segment| (segment.first..segment.end).contains(&index));
            match row {
                rows::Taken::Record { line, sealed, body } => {
                    if body == BodyIs::Pruned && segment.is_none_or(|segment| segment.bodies.is_none()) {
                        return Err(CopyError::Meanwhile);
                    }
                    missing += u64::from(body == BodyIs::Missing);
                    leaves.leaf(line)?;
                    bodies.body(sealed)
                }
                rows::Taken::Pruned(hash) => {
                    if segment.is_none_or(|segment| segment.records.is_none()) {
                        return Err(CopyError::Meanwhile);
                    }
                    leaves.pruned(&hash)?;
                    bodies.body(None)
                }
            }
        };
        rows::each(self, range, &mut take, progress)?;
        (part.leaves, part.bodies, part.missing) = (leaves.finish()?, bodies.finish()?, missing);
        Ok(part)
    }
}

/// Writes the wrapped keys that came since; all of them anew where some were taken away.
fn take_keys(
    txn: &ReadTransaction,
    manifest: &mut Manifest,
    state: &State,
    dir: &Path,
    name: &str,
) -> Result<Counts, CopyError> {
    let thinned = state.thinned();
    // A file a backup: of too many all become one.
    if manifest.thinned != thinned || manifest.wrapped.len() >= WRAPPED_MAX {
        (manifest.keys, manifest.thinned) = (Counts::default(), thinned);
        manifest.wrapped.clear();
    }
    let mut rows = Out::create(dir, name)?;
    let counts = keys::write(txn, manifest.keys, &mut rows)?;
    let rows = rows.finish()?;
    if counts != manifest.keys || manifest.wrapped.is_empty() {
        manifest.wrapped.push(rows);
    }
    Ok(counts)
}

// === impl Snapshot ===

impl Snapshot {
    fn take(txn: &ReadTransaction) -> Result<Self, Failure> {
        let heads = Heads::read(txn)?;
        let root = Digest::from(proof::root(&Stored::open(txn)?, heads.records)?);
        let epoch = txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value());
        let newest = crate::read::prove::newest_note(txn)?;
        let breaks = EpochNote::breaks(txn)?;
        Ok(Self { heads, root, epoch, newest, breaks })
    }

    /// Records of the newest checkpoint, which must be the beginning of the record: what is not what was signed is not copied.
    fn signed(&self, txn: &ReadTransaction, key: Option<&PublicKey>) -> Result<u64, CopyError> {
        let Some(note) = &self.newest else { return Ok(0) };
        let signed = match key {
            Some(key) => key.open(note).map_err(ProveError::Note)?,
            None => Checkpoint::unverified(note).ok_or(ProveError::Broken)?,
        };
        if signed.size > self.heads.records || proof::root(&Stored::open(txn)?, signed.size)? != signed.root {
            return Err(ProveError::Broken.into());
        }
        Ok(signed.size)
    }

    /// The manifest of a backup that holds nothing yet.
    fn nothing(&self) -> Manifest {
        Manifest {
            form: Manifest::FORM,
            taken: Timestamp::UNIX_EPOCH,
            records: 0,
            root: self.root,
            epoch: self.epoch,
            checkpoint: None,
            breaks: Vec::new(),
            streams: Vec::new(),
            backups: 0,
            parts: Vec::new(),
            keys: Counts::default(),
            thinned: Thinned::default(),
            wrapped: Vec::new(),
            key_file: FileSum { name: String::new(), bytes: 0, sha256: self.root },
            state: FileSum { name: String::new(), bytes: 0, sha256: self.root },
        }
    }

    /// Says in the manifest where the record stands.
    fn told(self, manifest: &mut Manifest, keys: Counts, taken: Timestamp) {
        let Self { heads, root, epoch, newest, breaks } = self;
        let streams = heads.streams.into_iter();
        let streams = streams.map(|(stream, (_, next))| StreamEnd { stream, last: next.saturating_sub(1) });
        *manifest = Manifest {
            taken,
            records: heads.records,
            root,
            epoch,
            checkpoint: newest,
            breaks,
            streams: streams.collect(),
            keys,
            ..manifest.clone()
        };
    }
}

/// A backup's manifest, if it is the beginning of this record and its files are there.
fn continued(
    before: Manifest,
    txn: &ReadTransaction,
    now: &Snapshot,
    dir: &Path,
) -> Result<Manifest, CopyError> {
    let another = || CopyError::Another { path: dir.to_owned() };
    if before.records > now.heads.records || before.epoch > now.epoch {
        return Err(another());
    }
    let root = proof::root(&Stored::open(txn)?, before.records)?;
    if Digest::from(root) != before.root {
        return Err(another());
    }
    for file in before.files() {
        let path = dir.join(&file.name);
        if fs::metadata(&path).map_err(at(&path))?.len() != file.bytes {
            return Err(CopyError::Changed { path });
        }
    }
    Ok(before)
}

/// Begins a backup in a directory that is new or empty, or holds what a first backup left that did not come to its end.
fn begin(dir: &Path) -> Result<(), CopyError> {
    let parts = dir.join(PARTS);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let name = entry.map_err(at(dir))?.file_name();
        let name = name.to_string_lossy();
        if name != PARTS && name != PARTIAL && !is_ours(&name) {
            return Err(CopyError::There { path: dir.to_owned() });
        }
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&parts).map_err(at(&parts))
}

/// Whether a file beside the parts is a backup's.
fn is_ours(name: &str) -> bool {
    name.starts_with("keys-") || name.starts_with("state-")
}

/// Removes what the manifest no longer names: what was erased or pruned since must not live on in an older backup's files.
fn clear(dir: &Path, manifest: &Manifest) -> Result<(), CopyError> {
    let named: HashSet<&str> = manifest.files().map(|file| file.name.as_str()).collect();
    let parts = dir.join(PARTS);
    for (place, prefix) in [(dir, String::new()), (parts.as_path(), format!("{PARTS}/"))] {
        for entry in fs::read_dir(place).map_err(at(place))? {
            let path = entry.map_err(at(place))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ours = !prefix.is_empty() || is_ours(&name);
            if ours && !named.contains(format!("{prefix}{name}").as_str()) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        sync_dir(place)?;
    }
    Ok(())
}

/// The directory, held until this is dropped: two backups at a time would write each other's files.
fn alone(dir: &Path) -> Result<File, CopyError> {
    let held = File::open(dir).map_err(at(dir))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => {
            let what = "is being written by another backup; wait for it";
            Err(CopyError::Form { path: dir.to_owned(), what })
        }
        Err(TryLockError::Error(source)) => Err(at(dir)(source)),
    }
}

/// Writes the checkpoints that came after the newest one of a backup, the oldest first; of many not all. Returns how many.
fn put_notes(txn: &ReadTransaction, manifest: &Manifest, out: &mut Out) -> Result<u64, CopyError> {
    let newest = manifest.checkpoint.as_deref().and_then(Checkpoint::unverified);
    let from = newest.map_or((0, 0), |newest| (manifest.epoch, newest.size + 1));
    let rows = txn.open_table(table::CHECKPOINTS).map_err(Failure::from)?;
    let mut stay = Vec::new();
    let newest_first = rows.range(from..).map_err(Failure::from)?.rev();
    let sifted =
        checkpoints::sift(newest_first.map(|row| Ok::<_, Failure>(row?.0.value())), |place, stays| {
            stay.extend(stays.then_some(place));
            ControlFlow::Continue(())
        });
    sifted?;
    for place in stay.iter().rev() {
        if let Some(note) = rows.get(place).map_err(Failure::from)? {
            let note = String::from_utf8_lossy(note.value()).into_owned();
            out.line(&EpochNote { epoch: place.0, note })?;
        }
    }
    Ok(stay.len() as u64)
}
