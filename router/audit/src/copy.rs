//! Copies of a record as files: a backup that grows with it, and a record made anew from a backup or from exports.
//!
//! ```text
//! manifest.json      what the backup holds: files with sizes and digests, the newest checkpoint, how far each stream is
//! parts/<n>.jsonl    leaves, a line each           parts/<n>.keys    wrapped keys, a line each
//! parts/<n>.bodies   sealed bodies, in order       parts/<n>.notes   checkpoints, a line each
//! keys-<n>.bin       the key file                  state-<n>.json    what no leaf says: segments, holds, erasures
//! ```
//!
//! Leaves and bodies never change, in whichever file the record has them, so each is copied once; keys and state are small and
//! copied each time. What was pruned leaves the parts at the next backup: in a leaf's place is its hash.
//!
//! What finds a record (indices, tasks, positions, tiles) is no part of a copy: it follows from the leaves, and is made again
//! from them. So a copy needs no key, and one that was changed cannot lead elsewhere than the leaves do; that something was
//! pruned must be said by a record. Where replays stood is no part either: an old cursor would publish again what was
//! published since.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bundle::BundleError;
use crate::checkpoint::NoteError;
use crate::error::{AppendError, Failure, OpenError, ProveError, ReadError, SegmentError};
use crate::export::{BODIES, KEYS, STATE};
use crate::read::Reader;
use files::Out;
use state::State;

pub(crate) use attached::Attached;
pub use backup::Backup;
pub use manifest::{EpochNote, Manifest, StreamEnd};
pub use rebuild::{Made, Rebuild, rebuild, restore};

mod attached;
mod backup;
mod files;
mod gone;
pub(crate) mod keys;
mod make;
mod manifest;
mod merge;
mod rebuild;
mod rows;
mod source;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod tests;
mod thin;

/// Why there is no copy, or no record from one.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The record is not the one that was signed, or cannot be proven.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The record could not be opened or made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new record could not be written.
    #[error(transparent)]
    Write(#[from] AppendError),
    /// An export could not be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file could not be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("`{}` {what}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// A backup of another form.
    #[error("the backup has form {found}, this program reads form {known}; use the program that wrote it")]
    Version {
        /// Its form.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Something is where the new one should be.
    #[error("`{}` is there already and is left as it is: name a directory that is not there, or move it away", path.display())]
    There {
        /// What is there.
        path: PathBuf,
    },
    /// A file of a backup is not the one that was written.
    #[error("`{}` is not the file that the manifest names: it was changed or cut short; use another backup", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A record of a copy is not the one that was recorded.
    #[error("record {index} of `{}` {what}", path.display())]
    Record {
        /// Its place.
        index: u64,
        /// Where it was read.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Records are in none of the copies.
    #[error(
        "records {from} to {to} are in none of the directories: name one that holds them, in their order"
    )]
    Absent {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The records do not have the root that was signed.
    #[error(
        "records {from} to {to} of `{}` are not those that its checkpoint of {} records signs: edited, exchanged or written \
         anew", path.display(), to + 1
    )]
    Root {
        /// The first that may be another.
        from: u64,
        /// The last.
        to: u64,
        /// Where they were read.
        path: PathBuf,
    },
    /// A checkpoint does not open.
    #[error("a checkpoint of `{}` cannot be used: {source}", path.display())]
    Note {
        /// Where it stands.
        path: PathBuf,
        /// Why.
        source: NoteError,
    },
    /// Something was pruned while it was copied.
    #[error("records were pruned while they were copied; try again")]
    Meanwhile,
    /// A segment could not be made anew.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The backup is of another history.
    #[error(
        "the backup in `{}` is not the beginning of this record: it is another one's, or the record was restored from an \
         older copy; begin another directory", path.display()
    )]
    Another {
        /// The backup's directory.
        path: PathBuf,
    },
}

/// Writes the sealed bodies of an export, their wrapped keys, what no leaf says, and the sums of these.
pub(crate) fn export_bodies(reader: &Reader, dir: &Path, range: Range<u64>) -> Result<(), CopyError> {
    let view = reader.begin()?;
    let state = State::take(&view)?.write(dir, STATE)?;
    let mut lines = Out::create(dir, KEYS)?;
    keys::write(&view, keys::Counts::default(), &mut lines)?;
    let lines = lines.finish()?;
    drop(view);
    let mut bodies = Out::create(dir, BODIES)?;
    let mut take = |_, row: rows::Taken<'_>| match row {
        rows::Taken::Record { sealed, .. } => bodies.body(sealed),
        rows::Taken::Pruned(_) => bodies.body(None),
    };
    rows::each(reader, range, &mut take, &mut |_| {})?;
    attached::sums(dir, &[bodies.finish()?, lines, state])
}

impl From<Failure> for CopyError {
    fn from(failure: Failure) -> Self {
        Self::Prove(failure.into())
    }
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        Self::Prove(error.into())
    }
}
