//! The checkpoint file: each signed note appended, outside the store, so that an older or emptied store is noticed. What it holds
//! more than it needs goes ([`super::bound`]).
//!
//! A note ends with a blank line. What is cut short at the end is a crash's, and is cut off.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::bound::{self, Given, Thinned};
use super::notes::{BLANK, DASH, notes};
use super::{NOTE_BYTES_MAX, PublicKey};

/// Up to this length a file is left as it is, bytes.
const LENGTH_MIN: u64 = 1024 * 1024;

/// The file, opened to append.
pub(crate) struct Sink {
    path: PathBuf,
    file: File,
    newest: Option<String>,
    length: u64,
    /// Length from which on it is to be thinned.
    limit: u64,
}

// === impl Sink ===

impl Sink {
    /// Opens the file of a log of this name, or makes it, and reads its newest note.
    pub(crate) fn open(path: &Path, name: &str) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path)?;
        // A link leads to the file that is meant.
        let path = path.canonicalize()?;
        let length = file.metadata()?.len();
        let (tail, within) = tail(&file, length)?;
        let whole = whole(&tail);
        let newest = notes(tail.get(..whole).unwrap_or_default()).pop();
        let rest = tail.get(whole..).unwrap_or_default();
        let torn = rest.len() + within;
        // Behind a whole note everything that has no end is a crash's; else only what begins as a note of this log.
        let unfinished = whole > 0 && !rest.ends_with(BLANK);
        let begun = begins(rest, name) && torn <= NOTE_BYTES_MAX;
        let length = length - torn as u64;
        if torn > 0 && (unfinished || begun) {
            file.set_len(length)?;
        } else if torn > 0 {
            return Err(foreign());
        }
        Ok(Self { path, file, newest, length, limit: LENGTH_MIN })
    }

    /// The newest note.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.newest.as_deref()
    }

    /// Appends a note, durably.
    pub(crate) fn append(&mut self, note: &str) -> std::io::Result<()> {
        let entry = entry(note);
        self.file.write_all(entry.as_bytes())?;
        self.file.sync_data()?;
        self.length += entry.len() as u64;
        self.newest = Some(note.to_owned());
        Ok(())
    }
}

impl Sink {
    /// Whether there is so much in the file that some of it may go.
    pub(crate) fn is_long(&self) -> bool {
        self.length > self.limit
    }

    /// Lets notes go that the record gives. On failure the file is as it was, and is tried again when it has doubled.
    pub(crate) fn thin(&mut self, key: &PublicKey, given: &mut Given<'_>) -> std::io::Result<Thinned> {
        let thinned = bound::thin(&self.path, key, given).and_then(|(thinned, file)| {
            if let Some(file) = file {
                self.file = file;
                self.length = self.file.metadata()?.len();
                File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Ok(thinned)
        });
        let goes_on = thinned.as_ref().is_ok_and(|thinned| !thinned.done && thinned.gone > 0);
        self.limit = if goes_on { LENGTH_MIN } else { LENGTH_MIN.max(2 * self.length) };
        thinned
    }

    /// The file is thinned whatever its length.
    #[cfg(test)]
    pub(crate) fn shorten(&mut self) {
        self.limit = 0;
    }
}

/// The newest note of a file.
pub(super) fn newest(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (tail, _) = tail(&file, file.metadata()?.len())?;
    Ok(notes(tail.get(..whole(&tail)).unwrap_or_default()).pop())
}

/// The newest note of a file of them; else what the file ends with, which is a note alone where it is one.
pub(super) fn kept(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    let (tail, _) = tail(&file, file.metadata()?.len())?;
    Ok(notes(tail.get(..whole(&tail)).unwrap_or_default()).pop().unwrap_or(tail))
}

/// The end of the file, long enough for a note, and how many bytes more there are of a character that a crash cut.
fn tail(file: &File, length: u64) -> std::io::Result<(String, usize)> {
    let want = length.min(2 * NOTE_BYTES_MAX as u64);
    let mut bytes = vec![0; usize::try_from(want).unwrap_or_default()];
    file.read_exact_at(&mut bytes, length - want)?;
    // It may begin within a character.
    let within = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let start = if want < length { bytes.iter().take(3).take_while(|byte| within(byte)).count() } else { 0 };
    let mut bytes = bytes.split_off(start);
    let cut = match std::str::from_utf8(&bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        _ => 0,
    };
    bytes.truncate(bytes.len() - cut);
    String::from_utf8(bytes).map(|text| (text, cut)).map_err(|_| foreign())
}

/// Whether a text is the begin of a note of the log of this name.
fn begins(text: &str, name: &str) -> bool {
    match text.strip_prefix(name) {
        Some(more) => more.is_empty() || more.starts_with(['\n', '/']),
        None => name.starts_with(text),
    }
}

pub(super) fn foreign() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds something else than checkpoints")
}

/// Where the last note that is whole ends.
fn whole(text: &str) -> usize {
    let mut end = text.len();
    while let Some(at) = text.get(..end).and_then(|text| text.rfind(BLANK)) {
        let before = text.get(..at).unwrap_or_default();
        if before.rsplit('\n').next().is_some_and(|line| line.starts_with(DASH)) {
            return at + BLANK.len();
        }
        end = at + 1;
    }
    0
}

/// A note as the file has it.
pub(crate) fn entry(note: &str) -> String {
    format!("{note}\n")
}
