//! The key file: one wrapped key a data subject, in rows of fixed length, beside the record and not in it.
//!
//! A key deleted from a copy-on-write store lives on in freed pages; here a row is destroyed by writing the file anew with
//! zeros in its place, beside the old file, and putting it in that one's place: at each point of a crash one of the two is
//! whole. Then the old file's bytes are overwritten as well, where the file system writes in place. Rows are appended and
//! synced before the record that names them is committed, many at once and ahead of their use: an append then seldom waits
//! for a second file. Rows past the record's count are nobody's and are written over.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::seal::{OVERHEAD_BYTES, Unopened, open, seal};
use super::{Entropy, Key, short_mac};

const MAGIC: &[u8; 16] = b"tidegate keys 1\n";
const ROW_BYTES: usize = 32 + OVERHEAD_BYTES;
/// Rows that a new record begins with: the cell's key, and the key of references.
pub(crate) const FIRST_ROWS: u64 = 2;
/// Rows read at once when the file is written anew.
const CHUNK_ROWS: u64 = 8_192;
/// Most rows that are made ahead; as many as there are, while these are fewer.
const AHEAD_MAX: u64 = 1_024;
/// What stands in the place of a row that was destroyed.
const DESTROYED: [u8; ROW_BYTES] = [0; ROW_BYTES];

/// The key file, opened.
pub(crate) struct KeyFile {
    file: File,
    path: PathBuf,
    wrapping: Key,
    /// Rows on disk that the record counts.
    rows: u64,
    /// The rows after these, made ahead: each key, and sealed.
    ahead: VecDeque<(Key, Vec<u8>)>,
    /// Of these, those that the batch took.
    taken: usize,
    /// Of these, those that are durable.
    written: usize,
}

impl KeyFile {
    /// Opens the file for the writer, of which the record counts `rows`.
    pub(crate) fn open(path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        let new = rows == 0;
        let file =
            OpenOptions::new().read(true).write(true).create(new).truncate(false).mode(0o600).open(path)?;
        if new {
            // The first rows are a crash's that came before the first commit; more are some record's keys.
            if file.metadata()?.len() > offset(FIRST_ROWS) {
                return Err(std::io::Error::other(
                    "it holds keys, and the record counts none: keep it with the record that it belongs to",
                ));
            }
            file.set_len(0)?;
            file.write_all_at(MAGIC, 0)?;
            file.sync_all()?;
        }
        // A crash's, while the file was written anew: the old one is whole.
        match std::fs::remove_file(draft(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Self::check(file, path, wrapping, rows)
    }

    /// Opens the file to read from.
    pub(crate) fn read_only(path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        Self::check(File::open(path)?, path, wrapping, rows)
    }

    fn check(file: File, path: &Path, wrapping: Key, rows: u64) -> std::io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != *MAGIC || file.metadata()?.len() < offset(rows) {
            return Err(std::io::Error::other("it is not this record's key file, or rows are missing"));
        }
        let (ahead, taken, written) = (VecDeque::new(), 0, 0);
        Ok(Self { file, path: path.to_owned(), wrapping, rows, ahead, taken, written })
    }

    /// Adds a new key to the batch. Returns its row, too.
    pub(crate) fn push(&mut self, entropy: &mut Entropy) -> (u64, Key) {
        let row = self.rows();
        let key = match self.ahead.get(self.taken) {
            Some((key, _)) => key.clone(),
            None => self.make(entropy),
        };
        self.taken += 1;
        (row, key)
    }

    /// Adds a key that there is. Returns its row.
    pub(crate) fn push_known(&mut self, key: Key, entropy: &mut Entropy) -> u64 {
        let row = self.rows();
        self.ahead.truncate(self.taken);
        self.written = self.written.min(self.taken);
        let sealed = seal(&self.wrapping, &place(row), key.as_ref(), entropy);
        self.ahead.push_back((key, sealed));
        self.taken += 1;
        row
    }

    /// Makes rows ahead. Returns the key of the first one.
    fn make(&mut self, entropy: &mut Entropy) -> Key {
        let first = self.rows + self.ahead.len() as u64;
        let mut made = Key::default();
        for row in first..first + first.clamp(1, AHEAD_MAX) {
            let key = entropy.key();
            let sealed = seal(&self.wrapping, &place(row), key.as_ref(), entropy);
            if row == first {
                made.clone_from(&key);
            }
            self.ahead.push_back((key, sealed));
        }
        made
    }

    /// The mark of the batch's last row; `None` where it took none.
    pub(crate) fn mark(&self) -> Option<u64> {
        self.taken.checked_sub(1).and_then(|at| self.ahead.get(at)).map(|(key, _)| mark(key))
    }

    /// Whether the key of a row is the one with this mark. One that was destroyed may have been any.
    pub(crate) fn is_marked(&self, row: u64, expected: u64) -> std::io::Result<bool> {
        match self.key(row)? {
            Ok(key) => Ok(mark(&key) == expected),
            Err(_) => self.is_destroyed(row),
        }
    }

    /// Whether the batch has rows that are not durable.
    pub(crate) fn is_changed(&self) -> bool {
        self.taken > self.written
    }

    /// Writes and syncs the rows that the batch takes, and those ahead of them. They count only after [`Self::committed`].
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        if !self.is_changed() {
            return Ok(());
        }
        let new: Vec<u8> =
            self.ahead.iter().skip(self.written).flat_map(|(_, sealed)| sealed.clone()).collect();
        self.file.write_all_at(&new, offset(self.rows + self.written as u64))?;
        self.file.sync_data()?;
        #[cfg(test)]
        power::synced(&self.path, &self.file)?;
        Ok(())
    }

    /// Rows that there are with the batch's.
    pub(crate) fn rows(&self) -> u64 {
        self.rows + self.taken as u64
    }

    /// The record counts the batch's rows now; they were synced before.
    pub(crate) fn committed(&mut self) {
        if self.is_changed() {
            self.written = self.ahead.len();
        }
        self.rows = self.rows();
        self.ahead.drain(..self.taken);
        self.written -= self.taken;
        self.taken = 0;
    }

    /// The batch was given up: the next one takes its rows.
    pub(crate) fn discard(&mut self) {
        self.taken = 0;
    }

    /// The key of a row, of the batch or on disk; [`Unopened`] when it was destroyed or is not ours.
    pub(crate) fn key(&self, row: u64) -> std::io::Result<Result<Key, Unopened>> {
        let ahead = row.checked_sub(self.rows).and_then(|at| usize::try_from(at).ok());
        if let Some((key, _)) = ahead.filter(|at| *at < self.taken).and_then(|at| self.ahead.get(at)) {
            return Ok(Ok(key.clone()));
        }
        let mut sealed = [0; ROW_BYTES];
        // A reader's count may be older than the file.
        self.file.read_exact_at(&mut sealed, offset(row))?;
        Ok(open(&self.wrapping, &place(row), &sealed).and_then(|plain| {
            let plain = Zeroizing::new(plain);
            let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| Unopened)?;
            Ok(Zeroizing::new(bytes))
        }))
    }
}

/// A key's mark: it tells keys apart and gives nothing of them away.
fn mark(key: &Key) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = short_mac(key, "tidegate record: mark of a subject key", &[]);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Bytes of a file of so many rows.
pub(crate) fn bytes(rows: u64) -> u64 {
    offset(rows)
}

// === impl KeyFile: written anew ===

impl KeyFile {
    /// The file's number in its file system: the file that takes its place has another.
    pub(crate) fn inode(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Whether a row was destroyed.
    pub(crate) fn is_destroyed(&self, row: u64) -> std::io::Result<bool> {
        let mut sealed = [0; ROW_BYTES];
        self.file.read_exact_at(&mut sealed, offset(row))?;
        Ok(sealed == DESTROYED)
    }

    /// Destroys rows that the record counts. Durable when it returns, and the same when it is done again.
    pub(crate) fn destroy(&mut self, rows: &BTreeSet<u64>) -> std::io::Result<()> {
        let old = self.rewrite(|row, bytes| {
            if rows.contains(&row) {
                bytes.copy_from_slice(&DESTROYED);
            }
        })?;
        for row in rows.iter().filter(|row| **row < self.rows) {
            old.write_all_at(&DESTROYED, offset(*row))?;
        }
        old.sync_data()
    }

    /// Seals all rows anew under another key. What was destroyed stays so; what does not open stays as it is.
    pub(crate) fn rewrap(&mut self, wrapping: Key, entropy: &mut Entropy) -> std::io::Result<()> {
        let before = self.wrapping.clone();
        let old = self.rewrite(|row, bytes| {
            if let Ok(key) = open(&before, &place(row), bytes).map(Zeroizing::new) {
                let sealed = seal(&wrapping, &place(row), &key, entropy);
                if sealed.len() == bytes.len() {
                    bytes.copy_from_slice(&sealed);
                }
            }
        })?;
        self.wrapping = wrapping;
        let nothing = DESTROYED.repeat(usize::try_from(CHUNK_ROWS).unwrap_or_default());
        for first in (0..self.rows).step_by(usize::try_from(CHUNK_ROWS).unwrap_or(1)) {
            let rows = usize::try_from(CHUNK_ROWS.min(self.rows - first)).unwrap_or_default();
            old.write_all_at(nothing.get(..rows * ROW_BYTES).unwrap_or_default(), offset(first))?;
        }
        old.sync_data()
    }

    /// Writes the counted rows into a new file, each as `change` leaves it, and puts it in the old one's place; what was made
    /// ahead is given up. Returns the old file, which has no name any more.
    fn rewrite(&mut self, mut change: impl FnMut(u64, &mut [u8])) -> std::io::Result<File> {
        let draft = draft(&self.path);
        let mut options = OpenOptions::new();
        let new = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let mut out = BufWriter::new(&new);
        out.write_all(MAGIC)?;
        let mut first = 0;
        while first < self.rows {
            let rows = CHUNK_ROWS.min(self.rows - first);
            let mut bytes = vec![0; usize::try_from(rows).unwrap_or_default() * ROW_BYTES];
            self.file.read_exact_at(&mut bytes, offset(first))?;
            (first..).zip(bytes.chunks_exact_mut(ROW_BYTES)).for_each(|(row, bytes)| change(row, bytes));
            out.write_all(&bytes)?;
            first += rows;
        }
        out.flush()?;
        drop(out);
        new.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        self.ahead.clear();
        (self.taken, self.written) = (0, 0);
        Ok(std::mem::replace(&mut self.file, new))
    }
}

/// Where the file is written before it takes its place.
fn draft(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn offset(row: u64) -> u64 {
    MAGIC.len() as u64 + row.saturating_mul(ROW_BYTES as u64)
}

fn place(row: u64) -> [u8; 32] {
    let mut place = *b"tidegate subject key row\0\0\0\0\0\0\0\0";
    place[24..].copy_from_slice(&row.to_be_bytes());
    place
}

#[cfg(test)]
pub(crate) mod power;
#[cfg(test)]
mod tests;
