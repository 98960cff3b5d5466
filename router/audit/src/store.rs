//! The store: the record's one writer. Each append is one transaction; what it returned is durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, ConcurrencyMode, Database, ReadableTable as _, WriteTransaction};

use crate::entry::Item;
use crate::error::{AppendError, Failure, OpenError};
use crate::keys::file::KeyFile;
use crate::keys::{Entropy, MasterKey};
use crate::leaf::Flag;
use crate::read::Reader;
use crate::table;
use ring::Ring;

pub(crate) mod append;
mod heads;
mod ring;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

/// The record's file in its directory, named by the first index that it holds.
const FILE: &str = "seg-0.redb";
/// The key file in its directory.
const KEY_FILE: &str = "keys.bin";
/// Most items that one append should take: a writer collects up to here while the last batch is committed.
pub const BATCH_ITEMS_MAX: usize = 1_024;
/// Most bytes that one append should take.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Memory for cached pages, bytes.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024 }
    }
}

/// The one writer of a record. Others read meanwhile ([`Reader`]), in this process and in others.
pub struct Store {
    db: Arc<Database>,
    dir: PathBuf,
    master: MasterKey,
    ring: Ring,
    entropy: Entropy,
    heads: Heads,
}

/// What one append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Index of the first record that was written; the next one to come where nothing was.
    pub first: u64,
    /// Records written.
    pub records: u64,
    /// Items that the record held already.
    pub duplicates: u64,
    /// What was odd: index and flag.
    pub anomalies: Vec<(u64, Flag)>,
}

/// Where the record stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) records: u64,
    pub(crate) anomalies: u64,
    pub(crate) accepted: u64,
    pub(crate) ended: u64,
    pub(crate) keys: u64,
    /// stream → (its number, next sequence)
    pub(crate) streams: BTreeMap<String, (u32, u64)>,
    /// tenant → its number
    pub(crate) tenants: BTreeMap<String, u32>,
}

// === impl Store ===

impl Store {
    /// Opens the record in `dir` for writing, or begins one there. After a crash it repairs itself first, in milliseconds.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another recorder holds it; [`OpenError::WrongKey`] and [`OpenError::KeyFile`] when the
    /// keys are another record's; else what is wrong with the files.
    pub fn open(dir: &Path, master: MasterKey, options: Options) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        make_dir(dir).map_err(io)?;
        let path = dir.join(FILE);
        owner_only(&path).map_err(io)?;
        let db = builder(options).create(&path);
        let db = db.map_err(|error| OpenError::from_redb(error.into(), dir))?;
        Self::with_database(db, dir, master, Entropy::from_os())
    }

    pub(crate) fn with_database(
        db: Database,
        dir: &Path,
        master: MasterKey,
        mut entropy: Entropy,
    ) -> Result<Self, OpenError> {
        let broken = |Failure(error)| OpenError::from_redb(error, dir);
        let found = begin(&db).map_err(broken)?;
        if found.form != table::FORM {
            return Err(OpenError::Version { found: found.form, known: table::FORM });
        }
        let path = dir.join(KEY_FILE);
        let file = KeyFile::open(&path, master.wrapping(), found.key_rows)
            .map_err(|source| OpenError::KeyFile { path: path.clone(), source })?;
        let mut ring = Ring::new(master.clone(), file);
        let key_file = |source| OpenError::KeyFile { path: path.clone(), source };
        if found.key_rows == 0 {
            let txn = write(&db).map_err(broken)?;
            ring.begin(&txn, &mut entropy).map_err(broken)?;
            ring.sync().map_err(key_file)?;
            txn.commit().map_err(|error| broken(error.into()))?;
            ring.committed();
        } else if !ring.fits().map_err(key_file)? {
            return Err(OpenError::WrongKey);
        }
        let heads = Heads::load(&db).map_err(broken)?;
        Ok(Self { db: Arc::new(db), dir: dir.to_owned(), master, ring, entropy, heads })
    }

    /// Records messages and gaps in the order given, in one transaction: records, bodies, indices and positions. What the
    /// record holds already, by stream and sequence, is counted and left as it is.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was recorded then. After all but [`AppendError::Gap`] the store must be opened anew.
    pub fn append(&mut self, items: &[Item]) -> Result<Appended, AppendError> {
        let result = self.try_append(items);
        if result.is_err() {
            self.ring.discard();
        }
        result
    }

    fn try_append(&mut self, items: &[Item]) -> Result<Appended, AppendError> {
        let txn = write(&self.db)?;
        let (heads, appended) =
            append::batch(&txn, &self.heads, &mut self.ring, &mut self.entropy, &self.master, items)?;
        if appended.records == 0 {
            txn.abort().map_err(Failure::from)?;
            return Ok(appended);
        }
        self.ring.sync()?;
        txn.commit().map_err(Failure::from)?;
        self.ring.committed();
        self.heads = heads;
        Ok(appended)
    }

    /// The next sequence of a stream that the record wants: 1 for a stream that it does not know.
    #[must_use]
    pub fn next_sequence(&self, stream: &str) -> u64 {
        self.heads.streams.get(stream).map_or(1, |(_, next)| *next)
    }

    /// Streams that the record knows, each with the next sequence that it wants.
    pub fn streams(&self) -> impl Iterator<Item = (&str, u64)> {
        self.heads.streams.iter().map(|(name, (_, next))| (name.as_str(), *next))
    }

    /// Records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.heads.records
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    /// A reader in this process; it sees each append once it returned.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::shared(Arc::clone(&self.db), &self.dir, self.master.clone())
    }
}

/// What was found in a file on opening it.
struct Found {
    form: u64,
    key_rows: u64,
}

/// Makes the tables of a new file, and reads what an old one says of itself.
fn begin(db: &Database) -> Result<Found, Failure> {
    let txn = write(db)?;
    let found = {
        let mut meta = txn.open_table(table::META)?;
        let form = meta.get(table::META_FORM)?.map(|value| value.value());
        let key_rows = meta.get(table::META_KEY_ROWS)?.map_or(0, |value| value.value());
        if form.is_none() {
            meta.insert(table::META_FORM, table::FORM)?;
        }
        rows::Tables::open(&txn, meta)?;
        txn.open_table(table::GAPS)?;
        txn.open_table(table::STREAMS)?;
        txn.open_table(table::TENANTS)?;
        txn.open_table(table::BY_TASK)?;
        txn.open_table(table::BY_TIME)?;
        txn.open_table(table::BY_MARK)?;
        txn.open_table(table::BY_WORKFLOW)?;
        txn.open_table(table::OPEN)?;
        Found { form: form.unwrap_or(table::FORM), key_rows }
    };
    txn.commit()?;
    Ok(found)
}

/// A transaction after whose commit a crash is repaired at once.
pub(crate) fn write(db: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// How the record's file is opened, to write and to read.
pub(crate) fn builder(options: Options) -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(options.cache_bytes);
    builder
}

/// The record's file in its directory.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// The key file in its directory.
pub(crate) fn key_file(dir: &Path) -> PathBuf {
    dir.join(KEY_FILE)
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
