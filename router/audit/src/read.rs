//! Reading the record: in the recorder's own process, and from the file while the recorder writes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTableMetadata as _};
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::Position;

use crate::body::{self, Body};
use crate::error::{Failure, OpenError, ReadError};
use crate::keys::MasterKey;
use crate::keys::file::KeyFile;
use crate::keys::seal;
use crate::keys::task::Wrapped;
use crate::leaf::Leaf;
use crate::store::{self, Heads};
use crate::table;

pub use prove::Head;
pub use query::{Cursor, Filter, Page};
pub use tasks::{Node, Timeline, Workflow};

mod breaks;
mod crashed;
pub(crate) mod prove;
mod query;
mod tasks;

/// Memory of a reader of the file for cached pages, bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Most records that one call returns.
pub const RECORDS_MAX: usize = 10_000;

/// Reads a record. Each call sees the newest commit.
pub struct Reader {
    source: Source,
    dir: PathBuf,
    master: Option<MasterKey>,
}

enum Source {
    /// The writer's own handle, in its process.
    Shared(Arc<Database>),
    /// The file, beside a writer in another process or none.
    File(ReadOnlyDatabase),
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it says, read.
    pub leaf: Leaf,
    /// The exact bytes of the leaf: one line of an export.
    pub line: String,
    /// The leaf hash as it is stored.
    pub hash: [u8; 32],
}

/// What could be had of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The message.
    Body(Box<Body>),
    /// The record has none: a gap.
    Nothing,
    /// It stays sealed: no master key was given.
    Sealed,
    /// Its key was destroyed, or its bytes are not those that were sealed.
    Lost,
}

/// Where the record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Records there are.
    pub records: u64,
    /// Records with an anomaly.
    pub anomalies: u64,
    /// Tasks accepted.
    pub accepted: u64,
    /// Accepted tasks that ended.
    pub ended: u64,
    /// Accepted tasks that have not; with those that ended they make up all.
    pub open: u64,
    /// Streams, each with the last sequence that is recorded.
    pub streams: Vec<(String, u64)>,
}

// === impl Reader ===

impl Reader {
    /// Opens the record in `dir`, beside a recorder or without one. Without a master key bodies stay sealed, and
    /// workflows cannot be looked up by name.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is none; [`OpenError::NeedsRepair`] when a crashed recorder has not come back.
    pub fn open(dir: &Path, master: Option<MasterKey>) -> Result<Self, OpenError> {
        let db = store::builder(CACHE_BYTES)
            .open_read_only(store::file(dir))
            .map_err(|error| OpenError::from_redb(error.into(), dir))?;
        Self { source: Source::File(db), dir: dir.to_owned(), master }.checked()
    }

    /// Opens a record that its recorder left without closing it, as it is: the files are read and nothing is written. What
    /// was committed is there. While it is open no recorder can begin.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while a recorder or a reader has it; else as [`Self::open`].
    pub fn open_crashed(dir: &Path, master: Option<MasterKey>) -> Result<Self, OpenError> {
        let db = crashed::open(&store::file(dir), CACHE_BYTES)?;
        Self { source: Source::Shared(Arc::new(db)), dir: dir.to_owned(), master }.checked()
    }

    /// The reader, where the tables have a form that it knows.
    fn checked(self) -> Result<Self, OpenError> {
        let form = self.form().map_err(|Failure(error)| OpenError::from_redb(error, &self.dir))?;
        if form == table::FORM {
            Ok(self)
        } else {
            Err(OpenError::Version { found: form, known: table::FORM })
        }
    }

    pub(crate) fn shared(db: Arc<Database>, dir: &Path, master: MasterKey) -> Self {
        Self { source: Source::Shared(db), dir: dir.to_owned(), master: Some(master) }
    }

    /// The record's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn form(&self) -> Result<u64, Failure> {
        let meta = self.begin()?.open_table(table::META)?;
        Ok(meta.get(table::META_FORM)?.map_or(0, |form| form.value()))
    }

    pub(crate) fn begin(&self) -> Result<ReadTransaction, Failure> {
        Ok(match &self.source {
            Source::Shared(db) => db.begin_read()?,
            Source::File(db) => db.begin_read()?,
        })
    }

    /// Where the record stands.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read.
    pub fn status(&self) -> Result<Status, ReadError> {
        let txn = self.begin()?;
        let heads = Heads::read(&txn)?;
        let open = txn.open_table(table::OPEN).map_err(Failure::from)?;
        let streams = heads.streams.into_iter().map(|(name, (_, next))| (name, next.saturating_sub(1)));
        Ok(Status {
            records: heads.records,
            anomalies: heads.anomalies,
            accepted: heads.accepted,
            ended: heads.ended,
            open: open.len().map_err(Failure::from)?,
            streams: streams.collect(),
        })
    }

    /// The record at an index.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be read or the record is damaged.
    pub fn get(&self, index: u64) -> Result<Option<Record>, ReadError> {
        let txn = self.begin()?;
        record(&txn, index)
    }

    /// The record of a message.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn at(&self, position: &Position) -> Result<Option<Record>, ReadError> {
        let txn = self.begin()?;
        match index_of(&txn, position)? {
            Some(index) => record(&txn, index),
            None => Ok(None),
        }
    }

    /// Whether a message is recorded.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn holds(&self, position: &Position) -> Result<bool, ReadError> {
        Ok(index_of(&self.begin()?, position)?.is_some())
    }

    /// Records from an index on, at most `limit` and at most [`RECORDS_MAX`]. Empty at the end: ask again later.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let txn = self.begin()?;
        let rec = txn.open_table(table::REC).map_err(Failure::from)?;
        let mut records = Vec::new();
        for row in rec.range(from..).map_err(Failure::from)?.take(limit.min(RECORDS_MAX)) {
            let (index, value) = row.map_err(Failure::from)?;
            records.push(read(index.value(), value.value())?);
        }
        Ok(records)
    }

    /// The sealed message of a record.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn body(&self, record: &Record) -> Result<Opened, ReadError> {
        let Some(commitment) = record.leaf.body else { return Ok(Opened::Nothing) };
        let Some(master) = &self.master else { return Ok(Opened::Sealed) };
        let txn = self.begin()?;
        let bodies = txn.open_table(table::BODY).map_err(Failure::from)?;
        let Some(sealed) = bodies.get(record.leaf.index).map_err(Failure::from)? else {
            return Ok(Opened::Lost);
        };
        let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
        let wrapped = keys.get(commitment.key).map_err(Failure::from)?;
        let Some(wrapped) = wrapped.and_then(|bytes| Wrapped::decode(bytes.value())) else {
            return Ok(Opened::Lost);
        };
        let broken = |error: std::io::Error| ReadError::Broken { what: error.to_string() };
        let file = KeyFile::read_only(&store::key_file(&self.dir), master.wrapping(), 0).map_err(broken)?;
        let mut subjects = Vec::new();
        for row in &wrapped.rows {
            match file.key(*row).map_err(broken)? {
                Ok(key) => subjects.push(key),
                Err(_) => return Ok(Opened::Lost),
            }
        }
        let source = &record.leaf.source;
        let place = body::place(&source.stream, source.sequence);
        let plain = wrapped
            .open(commitment.key, &subjects)
            .and_then(|key| seal::open(&key, &place, sealed.value()))
            .ok()
            .and_then(|plain| Body::decode(&plain));
        Ok(plain.map_or(Opened::Lost, |body| Opened::Body(Box::new(body))))
    }
}

/// The index of a message's record.
pub(crate) fn index_of(txn: &ReadTransaction, position: &Position) -> Result<Option<u64>, Failure> {
    let streams = txn.open_table(table::STREAMS)?;
    let Some((number, _)) = streams.get(position.stream.as_str())?.map(|head| head.value()) else {
        return Ok(None);
    };
    let src = txn.open_table(table::SRC)?;
    Ok(src.get(&table::source(number, position.sequence))?.map(|index| index.value()))
}

/// The record at an index.
pub(crate) fn record(txn: &ReadTransaction, index: u64) -> Result<Option<Record>, ReadError> {
    let rec = txn.open_table(table::REC).map_err(Failure::from)?;
    let value = rec.get(index).map_err(Failure::from)?;
    value.map(|value| read(index, value.value())).transpose()
}

/// A record from its row.
pub(crate) fn read(index: u64, value: &[u8]) -> Result<Record, ReadError> {
    let damaged = || ReadError::Damaged { index };
    let (hash, line) = value.split_first_chunk::<32>().ok_or_else(damaged)?;
    let line = std::str::from_utf8(line).map_err(|_| damaged())?;
    let leaf = serde_json::from_str(line).map_err(|_| damaged())?;
    Ok(Record { leaf, line: line.to_owned(), hash: *hash })
}

impl Record {
    /// The cursor of a page that ends with this record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::of(&self.leaf)
    }
}
