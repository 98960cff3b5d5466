//! One error an operation. They name files, streams and sequences; never content, never keys.

use std::path::PathBuf;

use crate::checkpoint::NoteError;
use crate::copy::CopyError;
use crate::keys::KeyError;

/// Why the record could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another recorder has it.
    #[error("another recorder holds the record in `{}`; stop it first, or let this one stand by; who reads beside it leaves `--crashed` out", dir.display())]
    Locked {
        /// The record's directory.
        dir: PathBuf,
    },
    /// There is none.
    #[error("there is no record in `{}`; start the recorder once to make one", dir.display())]
    Absent {
        /// The record's directory.
        dir: PathBuf,
    },
    /// A writer crashed and none has opened it since.
    #[error(
        "the record was not closed cleanly; start the recorder once, which repairs it in milliseconds, or read it as it is with \
         `--crashed`"
    )]
    NeedsRepair,
    /// The master key is another one.
    #[error(
        "the master key is not this record's, or not any more: name the key file that it was made with, or last went over to"
    )]
    WrongKey,
    /// The master key could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key file is missing rows or is another record's.
    #[error("the key file `{}` does not fit the record: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was written by another version.
    #[error("the record has form {found}, this program reads form {known}; use the program that wrote it")]
    Version {
        /// Its form.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// It does not continue what was signed.
    #[error(
        "the record has {records} records and does not continue the checkpoint of {signed} that stands in {place}: it is an \
         older copy, was emptied or was changed; restore the newest copy, or go on under a new origin with `tidegate audit \
         accept-break`"
    )]
    Fork {
        /// Where the checkpoint stands.
        place: String,
        /// Records that were signed.
        signed: u64,
        /// Records there are.
        records: u64,
    },
    /// There is no break to accept.
    #[error("the record continues all that was signed; there is no break to accept")]
    NoFork,
    /// A checkpoint cannot be read.
    #[error(
        "the newest checkpoint in {place} cannot be used: {source}; restore the file or the key that it was signed with"
    )]
    Checkpoint {
        /// Where it stands.
        place: String,
        /// Why.
        source: NoteError,
    },
    /// The checkpoint file failed.
    #[error("cannot use the checkpoint file `{}`: {source}; restore it, or move it away to begin another", path.display())]
    CheckpointFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is damaged.
    #[error(
        "the record's file is damaged, or none of a record ({what}); keep it as it is and restore a copy"
    )]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The file system failed.
    #[error("cannot open the record in `{}`: {source}", dir.display())]
    Io {
        /// The record's directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why nothing was recorded. After [`AppendError::DiskFull`] and [`AppendError::Broken`] the store must be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room.
    #[error(
        "the disk is full, or the record may not grow any more; free space, the recorder goes on by itself"
    )]
    DiskFull,
    /// A message that does not follow the last one of its stream, and no gap record between.
    #[error("stream {stream}: expected sequence {expected}, got {got}; record the gap between first")]
    Gap {
        /// The stream.
        stream: String,
        /// The sequence that comes next.
        expected: u64,
        /// The sequence that came.
        got: u64,
    },
    /// The file system failed; what was not acknowledged is not recorded.
    #[error("the record cannot be written: {what}; check the disk")]
    Broken {
        /// Why.
        what: String,
    },
}

/// A segment's file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the segment file `{file}` {}; restore it from a backup", self.what())]
pub struct SegmentFile {
    /// Its name in the directory `segments` of the record.
    pub file: String,
    /// Whether it is not there at all.
    pub missing: bool,
    /// Why.
    pub why: String,
}

/// Why the record's segments could not be made, kept in order or pruned. What is recorded stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record could not be written; the store must be opened anew.
    #[error(transparent)]
    Write(#[from] AppendError),
    /// A file could not be written.
    #[error("cannot write the segment file `{}`: {source}; check the disk", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two copies of the oldest records for a while are more than there is room for.
    #[error(
        "{free} bytes are free where the record is, and moving its oldest records into a segment needs {needed}; free space, the \
         recorder goes on by itself"
    )]
    NoRoom {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// What is not sound stays where it is.
    #[error("record {index} is not the one that was signed, so it is not moved; run a full verify")]
    Damaged {
        /// Its place.
        index: u64,
    },
    /// The record is not where it was.
    #[error("the record has moved on since; try again")]
    Stale,
    /// Nothing is pruned that is not on record before.
    #[error("no act on record prunes it")]
    NoAct,
    /// Something keeps it.
    #[error("it must stay: {0}")]
    Blocked(crate::retain::Block),
}

/// Why the record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A part of it is not there.
    #[error(transparent)]
    Segment(#[from] SegmentFile),
    /// The file system failed.
    #[error("the record cannot be read: {what}; check the disk")]
    Broken {
        /// Why.
        what: String,
    },
    /// Something in it is not what this program writes.
    #[error("record {index} cannot be read; run a full verify")]
    Damaged {
        /// Its place.
        index: u64,
    },
    /// Names cannot be looked up without the master key.
    #[error("workflows and persons are looked up by keyed digests; name the master key file")]
    KeyNeeded,
    /// The master key opens none of the record's keys.
    #[error(
        "the master key is not this record's, or not any more: name the key file that it was made with, or last went over to"
    )]
    WrongKey,
    /// A person's key was destroyed.
    #[error("that person's key was destroyed: what was recorded of that person can be found by nobody")]
    Erased,
    /// The record went over to another master key since it was opened.
    #[error("the record has another master key by now; open it again with that one")]
    KeyChanged,
    /// A cursor that no page gave.
    #[error("`after` must be the `next` of an earlier page")]
    BadCursor,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Nothing is signed.
    #[error("nothing is signed yet: the recorder signs a second after the first record")]
    Unsigned,
    /// The record is newer than the newest checkpoint.
    #[error(
        "record {index} is not signed yet, the newest checkpoint is of {signed} records: try again in a second"
    )]
    NotSigned {
        /// The record.
        index: u64,
        /// Records that are signed.
        signed: u64,
    },
    /// A checkpoint of no records.
    #[error("the checkpoint is of no records, and every record goes on from that: name a later one")]
    Nothing,
    /// The newest checkpoint does not open.
    #[error("the record's newest checkpoint cannot be used: {0}")]
    Note(#[from] NoteError),
    /// The record does not go on from the older checkpoint.
    #[error(
        "the record does not go on from the checkpoint of {records} records: it is another one, or was written anew"
    )]
    Fork {
        /// Records of the older checkpoint.
        records: u64,
    },
    /// The record is shorter than a checkpoint that was kept outside.
    #[error(
        "a checkpoint of {signed} records was kept outside, and the record's newest is of {records}: it is an older copy, or was \
         cut short or emptied; run a full verify"
    )]
    RolledBack {
        /// Records that the checkpoint is of.
        signed: u64,
        /// Records of the record's own.
        records: u64,
    },
    /// What is stored proves nothing.
    #[error("the record is not the one that was signed; run a full verify")]
    Broken,
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why the record could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is nothing to prove.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// A record is missing or is none.
    #[error("record {index} cannot be read; run a full verify")]
    Damaged {
        /// Its place.
        index: u64,
    },
    /// Its sealed bodies could not be written.
    #[error(transparent)]
    Copy(Box<CopyError>),
    /// A file could not be written.
    #[error("cannot write `{}`; name a directory that is not there yet", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<Failure> for ProveError {
    fn from(failure: Failure) -> Self {
        Self::Read(failure.into())
    }
}

impl From<CopyError> for ExportError {
    fn from(error: CopyError) -> Self {
        Self::Copy(Box::new(error))
    }
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        Self::Prove(failure.into())
    }
}

/// Any failure of the store, before it is said to whom.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) redb::Error);

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Failure> for AppendError {
    fn from(Failure(error): Failure) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            other => Self::Broken { what: other.to_string() },
        }
    }
}

impl From<std::io::Error> for AppendError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => Self::DiskFull,
            _ => Self::Broken { what: error.to_string() },
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure.segment() {
            Some(file) => Self::Segment(file.clone()),
            None => Self::Broken { what: what(failure.0) },
        }
    }
}

/// What is wrong with a file that is read. One that ends before its pages do is no disk's fault.
fn what(error: redb::Error) -> String {
    match error {
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            "its file was cut short, restore a copy of it".to_owned()
        }
        other => other.to_string(),
    }
}

impl From<SegmentFile> for Failure {
    fn from(file: SegmentFile) -> Self {
        Self(redb::Error::Io(std::io::Error::other(file)))
    }
}

impl From<Failure> for SegmentError {
    fn from(failure: Failure) -> Self {
        Self::Read(failure.into())
    }
}

impl Failure {
    /// The segment's file that failed.
    pub(crate) fn segment(&self) -> Option<&SegmentFile> {
        match &self.0 {
            redb::Error::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl SegmentFile {
    fn what(&self) -> String {
        if self.missing { "is missing".to_owned() } else { format!("cannot be read ({})", self.why) }
    }
}

impl ReadError {
    pub(crate) fn of_file(error: std::io::Error) -> Self {
        Self::Broken { what: error.to_string() }
    }
}

impl OpenError {
    pub(crate) fn from_redb(error: redb::Error, dir: &std::path::Path) -> Self {
        let dir = dir.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked { dir },
            redb::Error::RepairAborted => Self::NeedsRepair,
            redb::Error::Io(source) if source.kind() == std::io::ErrorKind::NotFound => Self::Absent { dir },
            // Not what this program writes, or less of it: no disk's fault, and another copy is needed.
            redb::Error::Io(source)
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Corrupt { what: source.to_string() }
            }
            redb::Error::Io(source) => Self::Io { dir, source },
            other => Self::Corrupt { what: other.to_string() },
        }
    }
}
