//! The key file: one wrapped key a data subject, in rows of fixed length, beside the record and not in it.
//!
//! A key deleted from a copy-on-write store lives on in freed pages; here a row can be destroyed by writing the file anew
//! without it. Rows are appended and synced before the record that names them is committed, so rows past the record's
//! count are left-overs of a crash and are written over.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::seal::{OVERHEAD_BYTES, Unopened, open, seal};
use super::{Entropy, Key};

const MAGIC: &[u8; 16] = b"tidegate keys 1\n";
const ROW_BYTES: usize = 32 + OVERHEAD_BYTES;

/// The key file, opened.
pub(crate) struct KeyFile {
    file: File,
    wrapping: Key,
    /// Rows on disk that the record counts.
    rows: u64,
    /// Rows of the batch that is being made.
    pending: Vec<u8>,
}

impl KeyFile {
    /// Opens the file for the writer, of which the record counts `rows`.
    pub(crate) fn open(path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        let new = rows == 0;
        let file =
            OpenOptions::new().read(true).write(true).create(new).truncate(false).mode(0o600).open(path)?;
        if new {
            // One row is a crash's that came before the first commit; more are some record's keys.
            if file.metadata()?.len() > offset(1) {
                return Err(std::io::Error::other(
                    "it holds keys, and the record counts none: keep it with the record that it belongs to",
                ));
            }
            file.set_len(0)?;
            file.write_all_at(MAGIC, 0)?;
            file.sync_all()?;
        }
        Self::check(file, wrapping, rows)
    }

    /// Opens the file to read from.
    pub(crate) fn read_only(path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        Self::check(File::open(path)?, wrapping, rows)
    }

    fn check(file: File, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != *MAGIC || file.metadata()?.len() < offset(rows) {
            return Err(std::io::Error::other("it is not this record's key file, or rows are missing"));
        }
        Ok(Self { file, wrapping, rows, pending: Vec::new() })
    }

    /// Adds a key to the batch. Returns its row.
    pub(crate) fn push(&mut self, key: &Key, entropy: &mut Entropy) -> u64 {
        let row = self.rows + (self.pending.len() / ROW_BYTES) as u64;
        self.pending.extend_from_slice(&seal(&self.wrapping, &place(row), key.as_ref(), entropy));
        row
    }

    /// Whether the batch has rows.
    pub(crate) fn is_changed(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes and syncs the batch's rows. They count only after [`Self::committed`].
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.pending, offset(self.rows))?;
        self.file.sync_data()
    }

    /// Rows that there are with the batch's.
    pub(crate) fn rows(&self) -> u64 {
        self.rows + (self.pending.len() / ROW_BYTES) as u64
    }

    /// The record counts the batch's rows now.
    pub(crate) fn committed(&mut self) {
        self.rows = self.rows();
        self.pending.clear();
    }

    /// The batch was given up.
    pub(crate) fn discard(&mut self) {
        self.pending.clear();
    }

    /// The key of a row, of the batch or on disk; [`Unopened`] when it was destroyed or is not ours.
    pub(crate) fn key(&self, row: u64) -> std::io::Result<Result<Key, Unopened>> {
        let mut sealed = [0; ROW_BYTES];
        match row.checked_sub(self.rows) {
            Some(ahead) if !self.pending.is_empty() => {
                let from = usize::try_from(ahead).unwrap_or(usize::MAX).saturating_mul(ROW_BYTES);
                match self.pending.get(from..from.saturating_add(ROW_BYTES)) {
                    Some(bytes) => sealed.copy_from_slice(bytes),
                    None => return Ok(Err(Unopened)),
                }
            }
            // A reader's count may be older than the file.
            _ => self.file.read_exact_at(&mut sealed, offset(row))?,
        }
        Ok(open(&self.wrapping, &place(row), &sealed).and_then(|plain| {
            let plain = Zeroizing::new(plain);
            let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| Unopened)?;
            Ok(Zeroizing::new(bytes))
        }))
    }
}

fn offset(row: u64) -> u64 {
    MAGIC.len() as u64 + row.saturating_mul(ROW_BYTES as u64)
}

fn place(row: u64) -> [u8; 32] {
    let mut place = *b"tidegate subject key row\0\0\0\0\0\0\0\0";
    place[24..].copy_from_slice(&row.to_be_bytes());
    place
}
