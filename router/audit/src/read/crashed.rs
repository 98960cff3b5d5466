//! A record that was not closed cleanly, read as it is: what a repair would write stays in memory, the file is untouched.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, Builder, Database, StorageBackend};

use crate::error::{Failure, OpenError};

/// What is written is kept in blocks of so many bytes.
const BLOCK: usize = 4096;

/// A file that is only read, with what is written to it kept beside it in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    /// Bytes of the file.
    held: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Blocks that differ from the file's, by number.
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
}

/// Opens a record's file without writing to it. While it is open no recorder can begin.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    let dir = path.parent().unwrap_or(path);
    let failed = |source| OpenError::from_redb(redb::Error::Io(source), dir);
    let file = File::open(path).map_err(failed)?;
    // A recorder and who reads beside it hold this lock shared.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let held = file.metadata().map_err(failed)?.len();
    if held == 0 {
        // A new database would be made of it.
        return Err(OpenError::Absent { dir: dir.to_owned() });
    }
    let written = Mutex::new(Written { len: held, blocks: HashMap::new() });
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    let db = builder.create_with_backend(Overlay { file, held, written });
    db.map_err(|error| OpenError::from_redb(Failure::from(error).0, dir))
}

// === impl Overlay ===

impl Overlay {
    /// Plain bytes stay usable whatever panicked beside them.
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as the file has it; zeros beyond its end.
    fn of_file(&self, block: u64) -> Result<Box<[u8; BLOCK]>, Error> {
        let mut bytes = Box::new([0; BLOCK]);
        let from = block.saturating_mul(BLOCK as u64);
        let there = usize::try_from(self.held.saturating_sub(from)).map_or(BLOCK, |there| there.min(BLOCK));
        self.file.read_exact_at(bytes.get_mut(..there).unwrap_or_default(), from)?;
        Ok(bytes)
    }
}

/// The parts of a range by block: its number, where in it, and where in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK as u64).ok()?;
        let take = (BLOCK - within).min(length - done);
        let part = (take > 0).then_some((at / BLOCK as u64, within, done..done + take));
        done += take;
        part
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (block, within, range) in parts(offset, out.len()) {
            let Some(out) = out.get_mut(range) else { continue };
            let of_file;
            let bytes = match written.blocks.get(&block) {
                Some(bytes) => bytes,
                None => {
                    of_file = self.of_file(block)?;
                    &of_file
                }
            };
            out.copy_from_slice(bytes.get(within..within + out.len()).unwrap_or_default());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.written().len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut written = self.written();
        for (block, within, range) in parts(offset, data.len()) {
            let Some(data) = data.get(range) else { continue };
            let bytes = match written.blocks.entry(block) {
                std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => free.insert(self.of_file(block)?),
            };
            if let Some(bytes) = bytes.get_mut(within..within + data.len()) {
                bytes.copy_from_slice(data);
            }
        }
        Ok(())
    }

    // The lock on the file is held by now, and excludes everybody.
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
