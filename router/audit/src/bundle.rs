//! Verifying an exported record: files alone, one leaf at a time. Whoever has the public key needs nothing else of ours.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::checkpoint::notes::Notes;
use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, PublicKey};
use crate::complete::Account;
use crate::copy::EpochNote;
use crate::export::{BREAKS, CHECKPOINT, CHECKPOINTS, FIRST, PRUNED, PUBLIC_KEY, PrunedRange};
use crate::merkle::TILE_WIDTH;
use crate::verify::{Fault, GivenUp, Level, Report, Trust};
use check::Check;

pub(crate) use leaves::Leaves;

mod check;
mod leaves;
#[cfg(test)]
mod tests;

/// Longest list of breaks that is read, bytes.
const BREAKS_BYTES_MAX: u64 = 64 * 1024 * 1024;
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
    /// Whether it holds sealed bodies, which were compared with their leaves then.
    pub has_bodies: bool,
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
    verify_since(dir, key, trust, 0, progress)
}

/// The same of the records from one on, or from the beginning of the tile that it lies in. Those before are taken by the hashes
/// that the tiles hold, which must still give what is signed.
///
/// # Errors
/// As [`verify`].
pub fn verify_since(
    dir: &Path,
    key: &PublicKey,
    trust: &Trust,
    since: u64,
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
            let said = Checkpoint::unverified(&note).ok_or(BundleError::Form { path, what })?;
            // Nobody signed how many records there are: what the files say of themselves can be judged by nothing.
            return Ok(check.unsigned(said));
        }
    };
    let given_up = GivenUp::new(breaks(dir)?, Some(key), key.epoch(&checkpoint.origin));
    check.gather(&mut notes(&dir.join(CHECKPOINTS))?, key, trust, &given_up, &checkpoint)?;
    let (size, gone) = (checkpoint.size, pruned(dir)?);
    let held = first(dir)?.min(size);
    let first = begin(since.min(size), &gone).max(held);
    check.report.level = if since > 0 { Level::Since(first) } else { Level::Full };
    check.begin(first)?;
    check.attach(first - held);
    let mut leaves = Leaves::open(dir, held, size)?;
    let before = gone.iter().filter(|gone| gone.end <= first);
    let skipped: u64 = before.map(|gone| gone.end.saturating_sub(gone.first.max(held))).sum();
    leaves.begin(first, first - held - skipped)?;
    loop {
        let next =
            |lines| gone.iter().find(|gone| gone.first == lines && (lines + 1..=size).contains(&gone.end));
        while let Some(range) = next(check.lines) {
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

/// Where reading begins: with a tile, and with the whole of what was pruned.
fn begin(since: u64, gone: &[PrunedRange]) -> u64 {
    let since = since - since % TILE_WIDTH as u64;
    gone.iter().find(|gone| (gone.first..gone.end).contains(&since)).map_or(since, |gone| gone.first)
}

/// The notes of a file of checkpoints, one at a time.
pub(crate) fn notes(path: &Path) -> Result<impl Iterator<Item = Result<String, BundleError>>, BundleError> {
    let owned = path.to_owned();
    let failed = move |source| BundleError::File { path: owned.clone(), source };
    let file = File::open(path).map_err(&failed)?;
    Ok(Notes::new(BufReader::new(file)).map(move |note| note.map_err(&failed)))
}

/// Notes of the breaks that were accepted; none where there is no list.
fn breaks(dir: &Path) -> Result<Vec<EpochNote>, BundleError> {
    let path = dir.join(BREAKS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let what = "it is no list of breaks";
    let lines: Result<_, _> =
        text(&path, BREAKS_BYTES_MAX)?.lines().map(serde_json::from_str::<EpochNote>).collect();
    lines.map_err(|_| BundleError::Form { path, what })
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

/// The ranges that were pruned; none where there is no list.
pub(crate) fn pruned(dir: &Path) -> Result<Vec<PrunedRange>, BundleError> {
    let path = dir.join(PRUNED);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let what = "it is no list of what was pruned";
    serde_json::from_str(&text(&path, PRUNED_BYTES_MAX)?).map_err(|_| BundleError::Form { path, what })
}
