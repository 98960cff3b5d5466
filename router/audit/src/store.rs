//! The store: the record's one writer. Each append is one transaction; what it returned is durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, ConcurrencyMode, Database, ReadableDatabase as _, WriteTransaction};

use crate::checkpoint::Signer;
use crate::checkpoint::sink::Sink;
use crate::entry::Item;
use crate::error::{AppendError, Failure, OpenError};
use crate::keys::file::KeyFile;
use crate::keys::{Entropy, MasterKey};
use crate::leaf::Flag;
use crate::merkle::Tree;
use crate::read::Reader;
use crate::segment;
use crate::segment::shelf::Shelf;
use crate::table;
use lag::Lag;
use ring::Ring;

pub(crate) mod again;
pub(crate) mod append;
mod erase;
mod form;
mod guard;
mod heads;
mod indices;
mod lag;
mod prepare;
mod prune;
pub(crate) mod ring;
pub(crate) mod rows;
mod sign;
mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

/// The record's file in its directory, named by the first index that it holds.
const FILE: &str = "seg-0.redb";
/// The key file in its directory.
const KEY_FILE: &str = "keys.bin";
/// The checkpoint file in its directory, where no other is named.
const CHECKPOINT_FILE: &str = "checkpoints";
/// Most items that one append should take: a writer collects up to here while the last batch is committed.
pub const BATCH_ITEMS_MAX: usize = 1_024;
/// Most bytes that one append should take.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for cached pages, bytes.
    pub cache_bytes: usize,
    /// File that each checkpoint is appended to; absent: `checkpoints` in the record's directory. Where who replaces the
    /// record does not reach, it shows that the record is an older one.
    pub checkpoint_file: Option<PathBuf>,
    /// The newest checkpoint that the cell's streams hold, where they hold one: should the file be lost with the record, it
    /// shows the same.
    pub published: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024, checkpoint_file: None, published: None }
    }
}

/// What a store is written with.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Wraps the keys of bodies.
    pub master: MasterKey,
    /// Signs checkpoints.
    pub signer: Signer,
}

/// The one writer of a record. Others read meanwhile ([`Reader`]), in this process and in others.
pub struct Store {
    db: Arc<Database>,
    dir: PathBuf,
    master: MasterKey,
    ring: Ring,
    entropy: Entropy,
    heads: Heads,
    tree: Tree,
    lag: Lag,
    signer: Signer,
    sink: Sink,
    shelf: Arc<Shelf>,
    /// Which history this is.
    epoch: u64,
    /// Leaves of its newest checkpoint.
    signed: Option<u64>,
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
    /// Index of the first record in the live file.
    pub(crate) live_first: u64,
    /// Bytes of records and bodies there.
    pub(crate) live_bytes: u64,
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
    /// [`OpenError::Locked`] while another recorder holds it; [`OpenError::Fork`] when it does not continue what was signed;
    /// [`OpenError::WrongKey`] and [`OpenError::KeyFile`] when the keys are another record's; else what is wrong with the
    /// files.
    pub fn open(dir: &Path, keys: Keys, options: &Options) -> Result<Self, OpenError> {
        let db = Self::database(dir, options)?;
        Self::with_database(db, dir, keys, options, Entropy::from_os())
    }

    /// The newest checkpoint, where the record does not continue what was signed: what a break would be with.
    ///
    /// # Errors
    /// [`OpenError::NoFork`] when it does; else as [`Self::open`].
    pub fn fork(dir: &Path, signer: &Signer, options: &Options) -> Result<String, OpenError> {
        let db = Self::database(dir, options)?;
        guard::fork(&db, dir, signer, options).map(|(_, note)| note)
    }

    /// Goes on with a record that does not continue what was signed, under a new origin: never a second history under the
    /// same one. The first checkpoint of the new origin is signed at once. Returns the note that the record breaks with.
    ///
    /// # Errors
    /// [`OpenError::NoFork`] when there is nothing to accept; else as [`Self::open`].
    pub fn accept_break(dir: &Path, keys: Keys, options: &Options) -> Result<String, OpenError> {
        let db = Self::database(dir, options)?;
        let (epoch, note) = guard::fork(&db, dir, &keys.signer, options)?;
        guard::accept(&db, dir, &keys.signer, epoch, &note)?;
        // Opening it puts the checkpoint into the file outside as well.
        Self::with_database(db, dir, keys, options, Entropy::from_os())?;
        Ok(note)
    }

    /// A store whose keys and nonces are the same each time.
    #[cfg(test)]
    pub(crate) fn seeded(dir: &Path, keys: Keys, seed: u64) -> Result<Self, OpenError> {
        let db = Self::database(dir, &Options::default())?;
        Self::with_database(db, dir, keys, &Options::default(), Entropy::seeded(seed))
    }

    /// A store on a backend of the caller's.
    #[cfg(test)]
    pub(crate) fn on(db: Database, dir: &Path, keys: Keys) -> Result<Self, OpenError> {
        form::begin(&db).map_err(|Failure(error)| OpenError::from_redb(error, dir))?;
        Self::with_database(db, dir, keys, &Options::default(), Entropy::from_os())
    }

    pub(crate) fn database(dir: &Path, options: &Options) -> Result<Database, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        make_dir(dir).map_err(io)?;
        let path = dir.join(FILE);
        owner_only(&path).map_err(io)?;
        let db = builder(options.cache_bytes).create(&path);
        let db = db.map_err(|error| OpenError::from_redb(error.into(), dir))?;
        let found = form::begin(&db).map_err(|Failure(error)| OpenError::from_redb(error, dir))?;
        if found == table::FORM { Ok(db) } else { Err(OpenError::Version { found, known: table::FORM }) }
    }

    fn with_database(
        db: Database,
        dir: &Path,
        keys: Keys,
        options: &Options,
        mut entropy: Entropy,
    ) -> Result<Self, OpenError> {
        let broken = |Failure(error)| OpenError::from_redb(error, dir);
        let heads = Heads::load(&db).map_err(broken)?;
        // Before the key file is touched: an emptied record must not begin a new one in its place.
        let (tree, state) = guard::check(&db, dir, &keys.signer, options, heads.records)?;
        let lag = Lag::load(&db, heads.records).map_err(broken)?;
        let ring = open_ring(&db, dir, &keys.master, &mut entropy)?;
        let (master, signer) = (ring.master().clone(), keys.signer);
        let guard::Signed { sink, epoch, signed } = state;
        let shelf = Arc::new(Shelf::new(dir));
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        segment::make::clear(shelf.dir(), &sweep::segments(&db).map_err(broken)?).map_err(io)?;
        let (db, dir) = (Arc::new(db), dir.to_owned());
        Ok(Self { db, dir, master, ring, entropy, heads, tree, lag, signer, sink, shelf, epoch, signed })
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
            self.lag.discard();
        }
        result
    }

    /// Brings the index nearer to the record, by at most a block of records, where it is behind. An append does that by itself
    /// when it is far behind; this is for when there is nothing to append. Returns whether it is still behind.
    ///
    /// # Errors
    /// [`AppendError`]; the store must be opened anew.
    pub fn index(&mut self) -> Result<bool, AppendError> {
        if !self.lag.is_behind(self.heads.records) {
            return Ok(false);
        }
        let txn = write(&self.db)?;
        self.lag.catch_up(&txn, self.heads.records)?;
        txn.commit().map_err(Failure::from)?;
        self.lag.committed();
        Ok(self.lag.is_behind(self.heads.records))
    }

    fn try_append(&mut self, items: &[Item]) -> Result<Appended, AppendError> {
        let txn = write(&self.db)?;
        let before = (&self.heads, &self.tree);
        let reader = self.reader();
        let past = move |index| reader.begin()?.row(index);
        let keys = (&mut self.ring, &mut self.entropy, &self.master);
        let (heads, tree, appended) = append::batch(&txn, before, keys, &past, &mut self.lag, items)?;
        if appended.records == 0 {
            txn.abort().map_err(Failure::from)?;
            return Ok(appended);
        }
        txn.commit().map_err(Failure::from)?;
        self.ring.committed();
        self.lag.committed();
        (self.heads, self.tree) = (heads, tree);
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

    pub(crate) fn open_file(&self) -> &Database {
        &self.db
    }

    /// A reader in this process; it sees each append once it returned.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::shared(Arc::clone(&self.db), &self.dir, self.master.clone(), Arc::clone(&self.shelf))
    }
}

/// Opens the key file, or begins one for a new record. What was erased is destroyed, whatever a crash left of it.
fn open_ring(
    db: &Database,
    dir: &Path,
    master: &MasterKey,
    entropy: &mut Entropy,
) -> Result<Ring, OpenError> {
    let broken = |Failure(error)| OpenError::from_redb(error, dir);
    let path = dir.join(KEY_FILE);
    let key_file = |source| OpenError::KeyFile { path: path.clone(), source };
    let rows = heads::key_rows(db).map_err(broken)?;
    let file = KeyFile::open(&path, master.wrapping(), rows).map_err(key_file)?;
    if rows == 0 {
        let mut ring = Ring::new(master.clone(), file);
        let txn = write(db).map_err(broken)?;
        ring.begin(&txn, entropy).map_err(broken)?;
        ring.sync().map_err(key_file)?;
        txn.commit().map_err(|error| broken(error.into()))?;
        ring.committed();
        return Ok(ring);
    }
    let txn = db.begin_read().map_err(|error| broken(error.into()))?;
    let master = ring::fitting(&txn, &file, master).map_err(broken)?.ok_or(OpenError::WrongKey)?;
    if let Some(mark) = heads::key_mark(db).map_err(broken)?
        && !file.is_marked(rows - 1, mark).map_err(key_file)?
    {
        return Err(key_file(std::io::Error::other(
            "its newest keys are not this record's: it is an older copy; put back the file that this record was written with",
        )));
    }
    let mut ring = Ring::new(master, file);
    let left = ring.standing(&erase::destroyed(&txn).map_err(broken)?).map_err(key_file)?;
    if !left.is_empty() {
        ring.destroy(&left).map_err(key_file)?;
    }
    Ok(ring)
}

/// A transaction after whose commit a crash is repaired at once.
pub(crate) fn write(db: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// How the record's file is opened, to write and to read.
pub(crate) fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(cache_bytes);
    builder
}

/// The record's file in its directory.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// The checkpoint file of a record in this directory.
#[must_use]
pub fn checkpoint_file(dir: &Path, options: &Options) -> PathBuf {
    options.checkpoint_file.clone().unwrap_or_else(|| dir.join(CHECKPOINT_FILE))
}

/// The key file in its directory.
pub(crate) fn key_file(dir: &Path) -> PathBuf {
    dir.join(KEY_FILE)
}

pub(crate) fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

pub(crate) fn owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
