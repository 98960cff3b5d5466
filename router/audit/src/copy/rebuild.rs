//! A record made anew: from a backup, or from exports that cover it one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidegate_schemas::digest::Digest;

use super::files::In;
use super::keys::{self, Counts};
use super::make::{Head, Maker};
use super::manifest::{EpochNote, MANIFEST, Manifest};
use super::merge::NOTE_LINE_BYTES_MAX;
use super::source::{ExportSource, PartSource};
use super::state::State;
use super::{CopyError, rows};
use crate::bundle;
use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, PublicKey};
use crate::complete::Account;
use crate::export::{BREAKS, CHECKPOINT, CHECKPOINTS, KEYS, STATE};
use crate::store::again::Rest;

/// Longest list of breaks that is read, bytes.
const BREAKS_BYTES_MAX: u64 = 64 << 20;
/// Records between two notes of progress.
const CHUNK: u64 = 1_024;

/// What a record is made anew from.
#[derive(Debug, Clone, Copy)]
pub struct Rebuild<'a> {
    /// Directories of exports and backups, in the order of their records.
    pub from: &'a [PathBuf],
    /// The key file that the exported keys are rows of; without it no body opens. A backup has its own.
    pub key_file: Option<&'a Path>,
    /// Who must have signed the checkpoints; absent: whom the copies name themselves.
    pub key: Option<&'a PublicKey>,
}

/// What was made, or what a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Records.
    pub records: u64,
    /// Root of the tree over them.
    pub root: Digest,
    /// The newest checkpoint.
    pub signed: Option<Checkpoint>,
    /// Which history it is.
    pub epoch: u64,
    /// Bodies that the copy does not hold.
    pub bodies_missing: u64,
    /// Whether its bodies' keys are there.
    pub has_keys: bool,
    /// Legal holds; none where the copy does not say: an export without bodies.
    pub holds: Option<u64>,
    /// What is held of each stream.
    pub accounts: Vec<Account>,
}

/// Checkpoints by history and size, each with where it stands.
type Notes = BTreeMap<(u64, u64), (String, Checkpoint, PathBuf)>;

/// A copy that records are read from.
enum Copy<'a> {
    Backup(&'a Path, Box<Manifest>),
    Export { dir: &'a Path, first: u64, size: u64 },
}

/// What the copies say besides their records.
#[derive(Default)]
struct Said {
    notes: Notes,
    epoch: u64,
    breaks: BTreeMap<u64, String>,
}

/// Makes the record that a backup holds anew in a directory; with none it only reads the backup and compares: every file with
/// the manifest, leaves and bodies with what commits to them, the tree with every checkpoint. `progress` is told records done
/// and to do.
///
/// # Errors
/// [`CopyError`]; nothing is left in the directory then.
pub fn restore(
    dir: &Path,
    to: Option<&Path>,
    key: Option<&PublicKey>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, CopyError> {
    if Manifest::read(dir)?.is_none() {
        let what = "is not there: name a directory that `tidegate audit backup` wrote to its end";
        return Err(CopyError::Form { path: dir.join(MANIFEST), what });
    }
    let from = [dir.to_owned()];
    make(Rebuild { from: &from, key_file: None, key }, to, progress)
}

/// Makes a record anew: the same leaves, tiles, indices, tasks and positions.
///
/// # Errors
/// [`CopyError`]; nothing is left in the directory then.
pub fn rebuild(what: Rebuild<'_>, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Made, CopyError> {
    make(what, Some(to), progress)
}

fn make(what: Rebuild<'_>, to: Option<&Path>, progress: &mut dyn FnMut(u64, u64)) -> Result<Made, CopyError> {
    let (mut said, mut copies) = (Said { epoch: 1, ..Said::default() }, Vec::new());
    for dir in what.from {
        copies.push(said.read(dir, what.key)?);
    }
    let of = copies.iter().map(Copy::end).max().unwrap_or_default();
    let heads = said.notes.range((said.epoch, 0)..).map(|(_, (_, checkpoint, path))| Head {
        size: checkpoint.size,
        root: checkpoint.root,
        path: path.clone(),
    });
    let state = take_state(&copies, of)?;
    let holds = state.as_ref().map(|(state, _)| state.holds.len() as u64);
    let signed = said.notes.range((said.epoch, 0)..).map(|((_, size), (note, ..))| (*size, note.clone()));
    let mut maker = Maker::begin(to, heads.collect(), state, signed.collect())?;
    for copy in &copies {
        copy.feed(&mut maker, &mut |done| progress(done, of))?;
    }
    let keys = take_keys(&copies, what.key_file, &mut maker)?;
    let (records, root, bodies_missing) = (maker.records(), Digest::from(maker.root()), maker.bodies_missing);
    let Said { notes, epoch, breaks } = said;
    let signed = notes.range((epoch, 0)..).next_back().map(|(_, (_, checkpoint, _))| checkpoint.clone());
    let notes = notes.into_iter().map(|(place, (note, _, _))| (place, note)).collect();
    let rest = Rest { epoch, breaks: breaks.into_iter().collect(), notes, keys: keys.unwrap_or_default() };
    let accounts = maker.end(&rest)?;
    Ok(Made { records, root, signed, epoch, bodies_missing, has_keys: keys.is_some(), holds, accounts })
}

/// What no leaf says, by the newest copy. Where records were pruned it must be of exactly these records.
fn take_state(copies: &[Copy<'_>], records: u64) -> Result<Option<(State, PathBuf)>, CopyError> {
    let (file, path) = match copies.last() {
        Some(Copy::Backup(dir, manifest)) => {
            (In::named(dir, &manifest.state)?, dir.join(&manifest.state.name))
        }
        Some(Copy::Export { dir, .. }) if dir.join(STATE).exists() => {
            (In::open(&dir.join(STATE))?, dir.join(STATE))
        }
        _ => return Ok(None),
    };
    let state = State::read(file)?;
    if state.records != records && state.pruned.is_some() {
        let what = "is of more records than were signed, and some were pruned: use a backup, or export again";
        return Err(CopyError::Form { path, what });
    }
    Ok(Some((state, path)))
}

/// Takes the wrapped keys and the key file. Where there is no key file, keys that lead into it are of no use.
fn take_keys(
    copies: &[Copy<'_>],
    key_file: Option<&Path>,
    maker: &mut Maker,
) -> Result<Option<Counts>, CopyError> {
    let Some(last) = copies.last() else { return Ok(None) };
    let mut take = |line| maker.key(line);
    match (last, key_file) {
        (Copy::Backup(dir, manifest), _) => {
            let mut counts = Counts::default();
            for sum in &manifest.wrapped {
                let mut file = In::named(dir, sum)?;
                counts = keys::read(&mut file, &mut take)?;
                file.end()?;
            }
            maker.key_file(In::named(dir, &manifest.key_file)?)?;
            Ok(Some(counts))
        }
        (Copy::Export { dir, .. }, Some(file)) => {
            let path = dir.join(KEYS);
            if !path.exists() {
                let what = "is not there: the last export must be one with `--bodies`";
                return Err(CopyError::Form { path, what });
            }
            let counts = keys::read(&mut In::open(&path)?, &mut take)?;
            maker.key_file(In::open(file)?)?;
            Ok(Some(counts))
        }
        (Copy::Export { .. }, None) => Ok(None),
    }
}

// === impl Said ===

impl Said {
    /// Reads what a copy says besides its records.
    fn read<'a>(&mut self, dir: &'a Path, key: Option<&PublicKey>) -> Result<Copy<'a>, CopyError> {
        if let Some(manifest) = Manifest::read(dir)? {
            self.backup(dir, &manifest, key)?;
            return Ok(Copy::Backup(dir, Box::new(manifest)));
        }
        let path = dir.join(CHECKPOINT);
        let own = bundle::public_key(dir)?;
        let key = key.unwrap_or(&own);
        let newest = bundle::text(&path, NOTE_BYTES_MAX as u64)?;
        let checkpoint = self.note(key, newest, &path)?;
        let path = dir.join(CHECKPOINTS);
        for note in bundle::notes(&path)? {
            self.note(key, note?, &path)?;
        }
        let path = dir.join(BREAKS);
        if path.exists() {
            let lines = bundle::text(&path, BREAKS_BYTES_MAX)?;
            self.breaks
                .extend(EpochNote::read(&lines, &path)?.into_iter().map(|line| (line.epoch, line.note)));
        }
        let (first, size) = (bundle::first(dir)?, checkpoint.size);
        Ok(Copy::Export { dir, first, size })
    }

    fn backup(&mut self, dir: &Path, manifest: &Manifest, key: Option<&PublicKey>) -> Result<(), CopyError> {
        for part in &manifest.parts {
            // All of it is compared before any of it is believed.
            In::named(dir, &part.notes)?.end()?;
            let mut file = In::named(dir, &part.notes)?;
            let path = file.path().to_owned();
            let form =
                || CopyError::Form { path: path.clone(), what: "holds something else than checkpoints" };
            while let Some(line) = file.line(NOTE_LINE_BYTES_MAX)? {
                let EpochNote { epoch, note } = serde_json::from_slice(&line).map_err(|_| form())?;
                let (of, checkpoint) = match key {
                    Some(key) => open(key, &note, &path)?,
                    None => (epoch, Checkpoint::unverified(&note).ok_or_else(form)?),
                };
                if of != epoch {
                    return Err(form());
                }
                self.notes.insert((epoch, checkpoint.size), (note, checkpoint, path.clone()));
            }
        }
        self.epoch = self.epoch.max(manifest.epoch);
        self.breaks.extend(manifest.breaks.iter().map(|line| (line.epoch, line.note.clone())));
        Ok(())
    }

    fn note(&mut self, key: &PublicKey, note: String, path: &Path) -> Result<Checkpoint, CopyError> {
        let (epoch, checkpoint) = open(key, &note, path)?;
        self.epoch = self.epoch.max(epoch);
        self.notes.insert((epoch, checkpoint.size), (note, checkpoint.clone(), path.to_owned()));
        Ok(checkpoint)
    }
}

/// A checkpoint and the history that it is of.
fn open(key: &PublicKey, note: &str, path: &Path) -> Result<(u64, Checkpoint), CopyError> {
    let checkpoint = key.open(note).map_err(|source| CopyError::Note { path: path.to_owned(), source })?;
    Ok((key.epoch(&checkpoint.origin).unwrap_or(1), checkpoint))
}

// === impl Copy ===

impl Copy<'_> {
    /// Records up to its end.
    fn end(&self) -> u64 {
        match self {
            Self::Backup(_, manifest) => manifest.records,
            Self::Export { size, .. } => *size,
        }
    }

    /// Hands its records on, but for those that came from the copy before.
    fn feed(&self, maker: &mut Maker, progress: &mut dyn FnMut(u64)) -> Result<(), CopyError> {
        match self {
            Self::Backup(dir, manifest) => Self::feed_backup(dir, manifest, maker, progress),
            Self::Export { dir, first, size } => Self::feed_export(dir, (*first, *size), maker, progress),
        }
    }

    fn feed_backup(
        dir: &Path,
        manifest: &Manifest,
        maker: &mut Maker,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), CopyError> {
        let begun = maker.records();
        for part in &manifest.parts {
            let mut source = PartSource::open(dir, part)?;
            let (path, mut at) = (source.path(), part.first);
            while let Some(piece) = source.next()? {
                if at >= begun {
                    maker.take(piece, &path)?;
                }
                at += 1;
                if at.is_multiple_of(CHUNK) {
                    progress(at);
                }
            }
            source.end()?;
        }
        progress(manifest.records);
        if manifest.records >= begun && Digest::from(maker.root()) != manifest.root {
            return Err(CopyError::Changed { path: dir.join(MANIFEST) });
        }
        Ok(())
    }

    fn feed_export(
        dir: &Path,
        (first, size): (u64, u64),
        maker: &mut Maker,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), CopyError> {
        let begun = maker.records();
        if first > begun {
            return Err(CopyError::Absent { from: begun, to: first - 1 });
        }
        let mut source = ExportSource::open(dir, first, size)?;
        while let Some((index, piece)) = source.next()? {
            if index >= begun {
                maker.take(piece, dir)?;
            }
            if index.is_multiple_of(CHUNK) {
                progress(index);
            }
        }
        progress(size);
        match maker.records() >= size {
            true => Ok(()),
            false => {
                Err(CopyError::Record { index: maker.records(), path: dir.to_owned(), what: rows::MISSING })
            }
        }
    }
}
