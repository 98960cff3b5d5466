//! Backup: what a record holds into a directory, or what it holds more than the directory, while its recorder writes.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use jiff::Timestamp;
use redb::ReadTransaction;
use tidegate_schemas::digest::Digest;

use super::files::{FileSum, Out, at, sync_dir};
use super::keys::{self, Counts};
use super::manifest::{EpochNote, Manifest, PARTIAL, Part, StreamEnd};
use super::{CopyError, rows};
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::error::{Failure, ProveError};
use crate::merkle::proof;
use crate::read::Reader;
use crate::store::tree::Stored;
use crate::store::{self, Heads};
use crate::table;

/// Where the parts are.
const PARTS: &str = "parts";

/// Times that a key file which was written anew is read again.
const KEY_FILE_TRIES: u32 = 8;

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
        let before = Manifest::read(dir)?;
        if before.is_none() {
            begin(dir)?;
        }
        let _alone = alone(dir)?;
        let txn = self.begin()?;
        let now = Snapshot::take(&txn)?;
        let signed = now.signed(&txn, key)?;
        let mut manifest = match before {
            Some(before) => continued(before, &txn, &now, dir)?,
            None => now.nothing(),
        };
        let (first, number) = (manifest.records, manifest.parts.len() + 1);
        let name = |what: &str| format!("{PARTS}/{number:06}.{what}");
        let mut key_rows = Out::create(dir, &name("keys"))?;
        let counts = keys::write(&txn, manifest.keys, &mut key_rows)?;
        let mut notes = Out::create(dir, &name("notes"))?;
        for line in since(&txn, &manifest)? {
            notes.line(&line)?;
        }
        drop(txn);
        // After the transaction: the rows that it counts were durable before it could see them.
        let key_file = self.key_file(dir, number)?;
        let of = now.heads.records - first;
        let (leaves, bodies, missing) =
            self.part(dir, [&name("jsonl"), &name("bodies")], first..now.heads.records, &mut |done| {
                progress(done, of);
            })?;
        let part =
            Part { first, records: of, leaves, bodies, keys: key_rows.finish()?, notes: notes.finish()? };
        sync_dir(&dir.join(PARTS))?;
        let old = std::mem::replace(&mut manifest.key_file, key_file);
        manifest.parts.push(part);
        manifest.bodies_missing += missing;
        now.told(&mut manifest, counts, taken);
        manifest.write(dir)?;
        // What was erased since must not live on in the key file of an older backup.
        if !old.name.is_empty() && old.name != manifest.key_file.name {
            let path = dir.join(&old.name);
            fs::remove_file(&path).map_err(at(&path))?;
            sync_dir(dir)?;
        }
        Ok(Backup { manifest, added: of, signed })
    }

    /// Copies the key file as it is: its keys are wrapped. One that was written anew meanwhile, without keys that were
    /// destroyed, is read anew: what it replaced may be overwritten while it is read.
    fn key_file(&self, dir: &Path, number: usize) -> Result<FileSum, CopyError> {
        let path = store::key_file(self.dir());
        let name = format!("keys-{number:06}.bin");
        for _ in 0..KEY_FILE_TRIES {
            let mut file = File::open(&path).map_err(at(&path))?;
            let opened = file.metadata().map_err(at(&path))?.ino();
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

    /// Writes leaves and bodies of a range. Also tells how many bodies were not there.
    fn part(
        &self,
        dir: &Path,
        [leaves, bodies]: [&str; 2],
        range: std::ops::Range<u64>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(FileSum, FileSum, u64), CopyError> {
        let (mut leaves, mut bodies, mut missing) = (Out::create(dir, leaves)?, Out::create(dir, bodies)?, 0);
        let mut take = |row: rows::Taken<'_>| {
            leaves.put(row.line)?;
            leaves.put(b"\n")?;
            bodies.body(row.sealed)?;
            missing += u64::from(row.lacks_body);
            Ok(())
        };
        rows::each(self, range, &mut take, progress)?;
        Ok((leaves.finish()?, bodies.finish()?, missing))
    }
}

// === impl Snapshot ===

impl Snapshot {
    fn take(txn: &ReadTransaction) -> Result<Self, Failure> {
        let heads = Heads::read(txn)?;
        let root = Digest::from(proof::root(&Stored::open(txn)?, heads.records)?);
        let epoch = txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value());
        let newest = crate::read::prove::notes(txn, true)?.pop();
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
            bodies_missing: 0,
            keys: Counts::default(),
            parts: Vec::new(),
            key_file: FileSum { name: String::new(), bytes: 0, sha256: self.root },
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
    let parts = before.parts.iter().flat_map(|part| [&part.leaves, &part.bodies, &part.keys, &part.notes]);
    for file in parts.chain([&before.key_file]) {
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
        if name != PARTS && !name.starts_with("keys-") && name != PARTIAL {
            return Err(CopyError::There { path: dir.to_owned() });
        }
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&parts).map_err(at(&parts))
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

/// Checkpoints that came after the newest one of a backup, the oldest first.
fn since(txn: &ReadTransaction, manifest: &Manifest) -> Result<Vec<EpochNote>, Failure> {
    let newest = manifest.checkpoint.as_deref().and_then(Checkpoint::unverified);
    let from = newest.map_or((0, 0), |newest| (manifest.epoch, newest.size + 1));
    let mut notes = Vec::new();
    for row in txn.open_table(table::CHECKPOINTS)?.range(from..)? {
        let (place, note) = row?;
        let note = String::from_utf8_lossy(note.value()).into_owned();
        notes.push(EpochNote { epoch: place.value().0, note });
    }
    Ok(notes)
}
