//! The key file: one wrapped key a value, in rows of fixed length, beside the store and not in it. A key deleted from a
//! copy-on-write store would live on in freed pages; here its row is overwritten.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::key::{Key, OVERHEAD_BYTES, open, seal};

const MAGIC: &[u8; 16] = b"tidegate vault 1";
const ROW_BYTES: usize = 32 + OVERHEAD_BYTES;
/// What stands in the place of a row that was destroyed.
const DESTROYED: [u8; ROW_BYTES] = [0; ROW_BYTES];

/// The key file, opened.
pub(super) struct KeyFile {
    file: File,
    wrapping: Key,
}

impl KeyFile {
    /// Opens the file of a store that counts `rows`, and makes it for a new store.
    pub(super) fn open(path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        let new = rows == 0;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(new).truncate(false).mode(0o600).open(path)?;
        if new {
            file.write_all_at(MAGIC, 0)?;
            file.sync_all()?;
        }
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != *MAGIC || file.metadata()?.len() < offset(rows) {
            return Err(std::io::Error::other("it is not this vault's key file, or rows are missing"));
        }
        Ok(Self { file, wrapping })
    }

    /// Writes a key into a row. It is durable after [`Self::sync`].
    pub(super) fn write(&self, row: u64, key: &Key) -> std::io::Result<()> {
        let sealed = seal(&self.wrapping, &place(row), key.as_ref());
        let sealed = sealed.ok_or_else(|| std::io::Error::other("the key could not be sealed"))?;
        self.file.write_all_at(&sealed, offset(row))
    }

    /// The key of a row; none where it was destroyed or is not ours.
    pub(super) fn read(&self, row: u64) -> std::io::Result<Option<Key>> {
        let mut sealed = [0; ROW_BYTES];
        self.file.read_exact_at(&mut sealed, offset(row))?;
        let plain = open(&self.wrapping, &place(row), &sealed);
        Ok(plain.and_then(|plain| plain.as_slice().try_into().ok()).map(Zeroizing::new))
    }

    /// Overwrites rows. They are gone after [`Self::sync`].
    pub(super) fn destroy(&self, rows: &[u64]) -> std::io::Result<()> {
        rows.iter().try_for_each(|row| self.file.write_all_at(&DESTROYED, offset(*row)))
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

fn offset(row: u64) -> u64 {
    MAGIC.len() as u64 + row.saturating_mul(ROW_BYTES as u64)
}

fn place(row: u64) -> Vec<u8> {
    [b"tidegate vault key row ".as_slice(), &row.to_be_bytes()].concat()
}
