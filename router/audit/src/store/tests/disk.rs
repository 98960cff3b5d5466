//! A disk in memory whose faults are chosen: power that goes, syncs that hang, lie or fail, and no more room.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::io::{Error, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rand::Rng as _;
use rand::rngs::StdRng;
use redb::{BackendError, StorageBackend};

use crate::error::OpenError;
use crate::fixture::keys;
use crate::keys::file::power;
use crate::store::{Store, builder};

/// What a disk writes at once.
const SECTOR: usize = 512;

/// What a disk holds.
#[derive(Debug, Default, Clone)]
pub(super) struct Image {
    /// What is durable.
    synced: Vec<u8>,
    /// What the process sees.
    pub(super) seen: Vec<u8>,
}

/// What a sync does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Makes everything durable.
    #[default]
    Honest,
    /// Says so, and does nothing.
    Lies,
    /// Hangs until it may go on.
    Hangs,
    /// Fails.
    Fails,
}

/// What was there in the moment the power went.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) image: Image,
    /// The files beside the store: keys and checkpoints.
    pub(super) beside: Files,
}

/// Files of a directory.
pub(super) type Files = BTreeMap<OsString, Vec<u8>>;

/// The files of a directory.
pub(super) fn files(dir: &Path) -> Files {
    let read = |file: DirEntry| (file.file_name(), std::fs::read(file.path()).unwrap());
    std::fs::read_dir(dir).unwrap().map(|file| read(file.unwrap())).collect()
}

/// Writes files into a directory.
pub(super) fn put(files: &Files, dir: &Path) {
    files.iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    sync: Sync,
    /// Whether a sync hangs.
    hangs: bool,
    /// Writes, changes of length and syncs so far.
    operations: u64,
    /// The operation before whose end the power goes.
    power_until: Option<u64>,
    lost: Option<Lost>,
    /// The first operation that finds no room.
    room_until: Option<u64>,
}

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    dir: PathBuf,
    /// The files beside it in the beginning.
    begun: Files,
}

// === impl Image ===

impl Image {
    /// What is found when the power is back: of each sector the synced or the newer content.
    pub(super) fn found(&self, random: &mut StdRng) -> Self {
        let mut image = self.seen.clone();
        if random.random_bool(0.5) {
            image.truncate(self.synced.len());
        }
        for (at, sector) in image.chunks_mut(SECTOR).enumerate() {
            if random.random_bool(0.5) {
                for (offset, byte) in sector.iter_mut().enumerate() {
                    *byte = self.synced.get(at * SECTOR + offset).copied().unwrap_or(0);
                }
            }
        }
        Self { synced: image.clone(), seen: image }
    }
}

// === impl Disk ===

impl Disk {
    /// A disk that holds this, beside the record's other files in `dir`.
    pub(super) fn new(image: Image, dir: &Path) -> Self {
        let state = Mutex::new(State { image, ..State::default() });
        Self(Arc::new(Inner { state, dir: dir.to_owned(), begun: files(dir), ..Inner::default() }))
    }

    /// Opens the record on it.
    pub(super) fn open(&self, dir: &Path) -> Result<Store, OpenError> {
        let db = builder(1024 * 1024).create_with_backend(self.clone());
        let db = db.map_err(|error| OpenError::from_redb(error.into(), dir))?;
        Store::on(db, dir, keys())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// What it holds now.
    pub(super) fn image(&self) -> Image {
        self.state().image.clone()
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes within the operation that comes after so many.
    pub(super) fn lose_power_after(&self, operations: u64) {
        let mut state = self.state();
        state.power_until = Some(state.operations + operations);
    }

    /// What was there when the power went.
    pub(super) fn take_lost(&self) -> Option<Lost> {
        self.state().lost.take()
    }

    /// From now on no more than so many operations find room; `None` when there is room again.
    pub(super) fn leave_room_for(&self, operations: Option<u64>) {
        let mut state = self.state();
        state.room_until = operations.map(|more| state.operations + more);
    }

    /// What syncs do from now on; one that hangs goes on.
    pub(super) fn set_sync(&self, sync: Sync) {
        self.state().sync = sync;
        self.0.changed.notify_all();
    }

    /// Waits until a sync hangs.
    pub(super) fn until_it_hangs(&self) {
        drop(self.0.changed.wait_while(self.state(), |state| !state.hangs).unwrap());
    }

    /// The files beside the store; of the key file as much as was synced.
    fn durable(&self) -> Files {
        let mut beside = files(&self.0.dir);
        let name = OsString::from("keys.bin");
        let synced = power::durable(&self.0.dir.join(&name)).or_else(|| self.0.begun.get(&name).cloned());
        beside.extend(synced.map(|synced| (name, synced)));
        beside
    }

    /// One operation begins; the power may go before it is done, or there may be no room for it.
    fn begin(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.state();
        if state.power_until == Some(state.operations) && state.lost.is_none() {
            state.lost = Some(Lost { image: state.image.clone(), beside: self.durable() });
        }
        if state.room_until.is_some_and(|until| state.operations >= until) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.operations += 1;
        Ok(state)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.state().image.seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let from = usize::try_from(offset).unwrap();
        let state = self.state();
        out.copy_from_slice(state.image.seen.get(from..from + out.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.begin()?.image.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.begin()?;
        if state.sync == Sync::Hangs {
            state.hangs = true;
            self.0.changed.notify_all();
            state = self.0.changed.wait_while(state, |state| state.sync == Sync::Hangs).unwrap();
            state.hangs = false;
        }
        match state.sync {
            Sync::Honest | Sync::Hangs => state.image.synced = state.image.seen.clone(),
            Sync::Lies => {}
            Sync::Fails => return Err(Error::other("the disk failed")),
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let from = usize::try_from(offset).unwrap();
        self.begin()?.image.seen[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
    // One process only: every lock is free.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
