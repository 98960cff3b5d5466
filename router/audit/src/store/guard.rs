//! The guard: on opening, what the newest checkpoints say must be the beginning of what the store holds.

use std::path::Path;

use redb::{Database, ReadableDatabase as _};

use super::tree::{self, Stored};
use super::{Options, checkpoint_file, write};
use crate::checkpoint::sink::Sink;
use crate::checkpoint::{PublicKey, Signer};
use crate::error::{Failure, OpenError};
use crate::merkle::{Tree, proof};
use crate::table;

/// Where the record's checkpoints stand.
pub(super) struct Signed {
    pub(super) sink: Sink,
    /// Which history this is.
    pub(super) epoch: u64,
    /// Leaves of its newest checkpoint.
    pub(super) signed: Option<u64>,
}

/// The newest checkpoint that the store itself holds, of the newest epoch.
struct Newest {
    epoch: u64,
    note: Option<(u64, String)>,
}

/// Checks the store against its own newest checkpoint and that of the checkpoint file, and gives the tree to grow.
pub(super) fn check(
    db: &Database,
    dir: &Path,
    signer: &Signer,
    options: &Options,
    records: u64,
) -> Result<(Tree, Signed), OpenError> {
    let broken = |Failure(error)| OpenError::from_redb(error, dir);
    let path = checkpoint_file(dir, options);
    let file = |source| OpenError::CheckpointFile { path: path.clone(), source };
    let key = signer.public();
    let mut sink = Sink::open(&path, key.name()).map_err(file)?;
    let newest = newest(db).map_err(broken)?;
    let mut notes = Vec::new();
    if let Some((_, note)) = &newest.note {
        notes.push(("the record".to_owned(), note.as_str()));
    }
    if let Some(note) = sink.newest() {
        notes.push((format!("`{}`", path.display()), note));
    }
    if let Some(note) = published(&key, options) {
        notes.push(("the cell's streams".to_owned(), note));
    }
    let begun = newest.begun(&key);
    for (place, note) in notes {
        continues(db, dir, &key, begun, records, &place, note)?;
    }
    // With no checkpoint anywhere nothing was given up either.
    if begun != newest.epoch {
        let what = "it says that it broke with what was signed, and nothing was signed since".to_owned();
        return Err(OpenError::Corrupt { what });
    }
    // A crash came between the commit and the file, or the file was moved away.
    if let Some((size, note)) = &newest.note
        && sink.newest().and_then(|held| key.open(held).ok()).is_none_or(|held| {
            (key.epoch(&held.origin).unwrap_or_default(), held.size) < (newest.epoch, *size)
        })
    {
        sink.append(note).map_err(file)?;
    }
    let tree = loaded(db, dir, records)?;
    let signed = newest.note.map(|(size, _)| size);
    Ok((tree, Signed { sink, epoch: newest.epoch, signed }))
}

/// The checkpoint that was published, if it is of this key: one of another key is another log's, and nobody could move it away.
fn published<'a>(key: &PublicKey, options: &'a Options) -> Option<&'a str> {
    options.published.as_deref().filter(|note| key.open(note).is_ok())
}

/// Whether the store continues what a note says; `epoch` is the newest history that the store can show was begun.
fn continues(
    db: &Database,
    dir: &Path,
    key: &PublicKey,
    epoch: u64,
    records: u64,
    place: &str,
    note: &str,
) -> Result<(), OpenError> {
    let broken = |Failure(error)| OpenError::from_redb(error, dir);
    let signed =
        key.open(note).map_err(|source| OpenError::Checkpoint { place: place.to_owned(), source })?;
    let of = key.epoch(&signed.origin).unwrap_or_default();
    // What an older history signed and this one no longer holds was accepted when this one began.
    if of < epoch {
        return Ok(());
    }
    let held = if of == epoch && signed.size <= records {
        let stored = db.begin_read().map_err(Failure::from).and_then(|txn| Stored::open(&txn));
        stored.and_then(|stored| proof::root(&stored, signed.size)).map_err(broken)? == signed.root
    } else {
        false
    };
    if held { Ok(()) } else { Err(OpenError::Fork { place: place.to_owned(), signed: signed.size, records }) }
}

/// The newest checkpoint where the store does not continue what was signed, and its epoch.
pub(super) fn fork(
    db: &Database,
    dir: &Path,
    signer: &Signer,
    options: &Options,
) -> Result<(u64, String), OpenError> {
    let broken = |Failure(error)| OpenError::from_redb(error, dir);
    let records = super::Heads::load(db).map_err(broken)?.records;
    match check(db, dir, signer, options, records) {
        Ok(_) => return Err(OpenError::NoFork),
        Err(OpenError::Fork { .. }) => {}
        Err(other) => return Err(other),
    }
    let path = checkpoint_file(dir, options);
    let key = signer.public();
    let sink = Sink::open(&path, key.name())
        .map_err(|source| OpenError::CheckpointFile { path: path.clone(), source })?;
    let newest = newest(db).map_err(broken)?;
    let held = newest.note.map(|(_, note)| note);
    let published = published(&key, options).map(str::to_owned);
    let notes = sink.newest().map(str::to_owned).into_iter().chain(held).chain(published);
    let opened = notes.filter_map(|note| {
        let signed = key.open(&note).ok()?;
        Some(((key.epoch(&signed.origin)?, signed.size), note))
    });
    let Some(((epoch, _), note)) = opened.max() else { return Err(OpenError::NoFork) };
    Ok((epoch.max(newest.epoch), note))
}

/// Begins the epoch after `epoch`, with its first checkpoint, and keeps the note that the break is with. All of it in one
/// transaction: a history that nobody signed is one that somebody wrote into the file.
pub(super) fn accept(
    db: &Database,
    dir: &Path,
    signer: &Signer,
    epoch: u64,
    note: &str,
) -> Result<(), OpenError> {
    let broken = |Failure(error)| OpenError::from_redb(error, dir);
    let records = super::Heads::load(db).map_err(broken)?.records;
    let tree = loaded(db, dir, records)?;
    let epoch = epoch.saturating_add(1);
    let first = signer.sign(epoch, records, tree.frontier().root());
    let begin = || -> Result<(), Failure> {
        let txn = write(db)?;
        txn.open_table(table::META)?.insert(table::META_EPOCH, epoch)?;
        txn.open_table(table::BREAKS)?.insert(epoch, note.as_bytes())?;
        txn.open_table(table::CHECKPOINTS)?.insert((epoch, records), first.as_bytes())?;
        Ok(txn.commit()?)
    };
    begin().map_err(broken)
}

/// The tree over the records, where it is the one that is stored.
fn loaded(db: &Database, dir: &Path, records: u64) -> Result<Tree, OpenError> {
    let what = "its tree is not that of its records; run a full verify".to_owned();
    let tree = tree::load(db, records).map_err(|Failure(error)| OpenError::from_redb(error, dir))?;
    tree.ok_or(OpenError::Corrupt { what })
}

// === impl Newest ===

impl Newest {
    /// The history that the store can show was begun: the first one, or one that was signed. A number alone shows nothing, so
    /// that no note of before is passed over for it: 0 then.
    fn begun(&self, key: &PublicKey) -> u64 {
        let signed = self.note.as_ref().and_then(|(_, note)| key.epoch(&key.open(note).ok()?.origin));
        if self.epoch == 1 || signed == Some(self.epoch) { self.epoch } else { 0 }
    }
}

fn newest(db: &Database) -> Result<Newest, Failure> {
    let txn = db.begin_read()?;
    let epoch = txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value());
    let rows = txn.open_table(table::CHECKPOINTS)?;
    let note = match rows.range((epoch, 0)..=(epoch, u64::MAX))?.next_back() {
        Some(row) => {
            let (key, note) = row?;
            Some((key.value().1, String::from_utf8_lossy(note.value()).into_owned()))
        }
        None => None,
    };
    Ok(Newest { epoch, note })
}
