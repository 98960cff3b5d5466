//! The shelf: segments' files, opened when they are asked for, a few at a time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::ReadOnlyDatabase;

use super::Part;
use crate::error::{Failure, SegmentFile};
use crate::store::builder;

/// Directory of the segments in a record's.
const DIR: &str = "segments";
/// Files that are open at once.
const OPEN_MAX: usize = 8;
/// Memory for cached pages of each, bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The segments' files of one record.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
    /// The one that was asked for last at the end.
    open: Mutex<VecDeque<Open>>,
}

struct Open {
    part: Part,
    first: u64,
    db: Arc<ReadOnlyDatabase>,
}

// === impl Shelf ===

impl Shelf {
    /// The shelf of the record in a directory.
    pub(crate) fn new(record: &Path) -> Self {
        Self { dir: record.join(DIR), open: Mutex::default() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, part: Part, first: u64) -> PathBuf {
        self.dir.join(part.file(first))
    }

    /// A file, open. Failures name the file.
    pub(crate) fn take(&self, part: Part, first: u64) -> Result<Arc<ReadOnlyDatabase>, Failure> {
        // Handles stay usable whatever panicked beside them.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().position(|file| (file.part, file.first) == (part, first));
        if let Some(file) = known.and_then(|at| open.remove(at)) {
            let db = Arc::clone(&file.db);
            open.push_back(file);
            return Ok(db);
        }
        let path = self.path(part, first);
        let db = builder(CACHE_BYTES).open_read_only(&path).map_err(|error| {
            let file = part.file(first);
            SegmentFile { file, missing: !path.exists(), why: error.to_string() }
        })?;
        let db = Arc::new(db);
        open.push_back(Open { part, first, db: Arc::clone(&db) });
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(db)
    }

    /// Lets go of a segment's files.
    pub(crate) fn forget(&self, part: Part, first: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|file| (file.part, file.first) != (part, first));
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.part.file(self.first))
    }
}
